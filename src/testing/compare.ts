/**
 * Whether a result is the expected one, by ONNX's rule: numbers within an absolute and a relative tolerance of what is
 * expected, NaN equal to NaN; integers, booleans and strings exactly. bfloat16 is given two units in its last place.
 * Source: ONNX's backend test runner.
 */
import { isFloat, Tensor } from "../base/index.ts";
import { type HostValue, numbersOf } from "../reference/index.ts";

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
  const given = expected.type === "bfloat16" ? { ...tolerance, relative: Math.max(tolerance.relative, 2 ** -6) } : tolerance;
  const rule = isFloat(expected.type) || expected.type.startsWith("complex") ? given : EXACT;
  const [a, b] = [comparable(actual), comparable(expected)];
  for (let i = 0; i < b.length; i++) {
    const [x, y] = [a[i]!, b[i]!];
    const near = typeof x === "number" && typeof y === "number" ? isNear(x, y, rule) : x === y;
    if (!near) return `item ${i} is ${x}, expected ${y}`;
  }
  return undefined;
}

const EXACT: Tolerance = { relative: 0, absolute: 0 };

/** The elements as numbers where numbers hold them; strings and 64-bit integers as they are, complex numbers as pairs. */
function comparable(tensor: Tensor): ArrayLike<number | bigint | string> {
  const { type, data } = tensor;
  if (type === "string" || type === "int64" || type === "uint64" || type.startsWith("complex")) return data;
  return numbersOf(tensor);
}

function isNear(actual: number, expected: number, tolerance: Tolerance): boolean {
  if (actual === expected || (Number.isNaN(actual) && Number.isNaN(expected))) return true;
  return Math.abs(actual - expected) <= tolerance.absolute + tolerance.relative * Math.abs(expected);
}
