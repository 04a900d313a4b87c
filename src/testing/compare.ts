/**
 * Whether a result is the expected one, by ONNX's rule: numbers within an absolute and a relative tolerance of what is
 * expected, NaN equal to NaN; integers, booleans and strings exactly. bfloat16 is given two units in its last place.
 * Source: ONNX's backend test runner.
 */
import { assert, fromBfloat16Bits, fromFloat16Bits, isFloat, Tensor } from "../base/index.ts";
import type { HostValue } from "../reference/index.ts";

export interface Tolerance {
  readonly relative: number;
  readonly absolute: number;
}

/** Of ONNX's own backend tests. */
export const ONNX_TOLERANCE: Tolerance = { relative: 1e-3, absolute: 1e-7 };

/** What differs first, or undefined. */
export function difference(actual: HostValue, expected: HostValue, tolerance: Tolerance): string | undefined {
  if (expected === undefined || actual === undefined) return actual === expected ? undefined : `got ${describe(actual)}, expected ${describe(expected)}`;
  if (expected instanceof Tensor) return actual instanceof Tensor ? tensorDifference(actual, expected, tolerance) : `got a sequence, expected ${describe(expected)}`;
  if (actual instanceof Tensor || actual.sequence.length !== expected.sequence.length) return `got ${describe(actual)}, expected ${describe(expected)}`;
  for (const [i, item] of expected.sequence.entries()) {
    const found = difference(actual.sequence[i], item, tolerance);
    if (found) return `element ${i}: ${found}`;
  }
  return undefined;
}

function describe(value: HostValue): string {
  if (value === undefined) return "nothing";
  return value instanceof Tensor ? `${value.type}[${value.dims}]` : `a sequence of ${value.sequence.length}`;
}

function tensorDifference(actual: Tensor, expected: Tensor, tolerance: Tolerance): string | undefined {
  if (actual.type !== expected.type || actual.dims.join() !== expected.dims.join()) return `got ${describe(actual)}, expected ${describe(expected)}`;
  const numbers = readerOf(expected);
  const given = expected.type === "bfloat16" ? { ...tolerance, relative: Math.max(tolerance.relative, 2 ** -6) } : tolerance;
  const near = numbers ? (i: number) => isNear(numbers(actual, i), numbers(expected, i), given) : (i: number) => actual.data[i] === expected.data[i];
  for (let i = 0; i < expected.data.length; i++) {
    if (!near(i)) return `item ${i} is ${numbers ? numbers(actual, i) : actual.data[i]}, expected ${numbers ? numbers(expected, i) : expected.data[i]}`;
  }
  return undefined;
}

/** Reads data items as real numbers, for types that are compared within a tolerance. */
function readerOf({ type }: Tensor): ((tensor: Tensor, i: number) => number) | undefined {
  if (type === "float16") return (tensor, i) => fromFloat16Bits(Number(tensor.data[i]));
  if (type === "bfloat16") return (tensor, i) => fromBfloat16Bits(Number(tensor.data[i]));
  const wide = type === "float32" || type === "float64" || type === "complex64" || type === "complex128";
  assert(wide || !isFloat(type) || type.startsWith("float8") || type.startsWith("float4"), `a rule for ${type}`);
  return wide ? (tensor, i) => Number(tensor.data[i]) : undefined;
}

function isNear(actual: number, expected: number, tolerance: Tolerance): boolean {
  if (actual === expected || (Number.isNaN(actual) && Number.isNaN(expected))) return true;
  return Math.abs(actual - expected) <= tolerance.absolute + tolerance.relative * Math.abs(expected);
}
