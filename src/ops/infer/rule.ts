/**
 * What inference rules work with: reading what is known of inputs, stating what follows for outputs, refusing.
 * An undefined type or shape means "not known"; a rule states what it can and leaves the rest.
 */
import { type DType, UserError } from "../../base/index.ts";
import { type Dim, dimEqual, dimKey, isStatic, max, type Node, symbol, symbolsOf, type Value } from "../../ir/index.ts";
import { dtypeOf } from "../../onnx/index.ts";
import type { InferContext, InferRule, OpKey } from "../contract.ts";
import { numbersConstant } from "./constant.ts";

export type Dims = readonly Dim[];
export type Rules = Readonly<Record<OpKey, InferRule>>;

/** Symbols that only data decides start with this. */
const DATA_PREFIX = "#";

export const inferContext: InferContext = { dataSymbol: (hint) => symbol(`${DATA_PREFIX}${hint}`) };

export function isDataDependent(dim: Dim): boolean {
  return [...symbolsOf(dim)].some((name) => name.startsWith(DATA_PREFIX));
}

export function invalid(node: Node, what: string): never {
  throw new UserError("model-invalid", `${node.domain ? `${node.domain}.` : ""}${node.op} "${node.name || (node.outputs[0]?.name ?? "")}": ${what}`);
}

export function require(node: Node, condition: unknown, what: () => string): asserts condition {
  if (!condition) invalid(node, what());
}

export const typeOf = (node: Node, input: number): DType | undefined => node.inputs[input]?.dtype;
export const dimsOf = (node: Node, input: number): Dims | undefined => node.inputs[input]?.dims;

export function dimsText(dims: Dims): string {
  return `[${dims.map(dimKey).join(", ")}]`;
}

/** States type and dims of an output. What the file stated before stays where inference finds less. */
export function setOutput(node: Node, output: number, dtype: DType | undefined, dims: Dims | undefined): void {
  const value = node.outputs[output];
  if (!value) return;
  setType(node, value, dtype);
  if (dims) value.dims = mergeDims(value.dims, dims);
}

function setType(node: Node, value: Value, dtype: DType | undefined): void {
  if (!dtype) return;
  if (value.dtype && value.dtype !== dtype) invalid(node, `output "${value.name}" is stated as ${value.dtype}, but the operator gives ${dtype}. Correct the model's value information or insert a Cast.`);
  value.dtype = dtype;
}

function mergeDims(stated: Dims | undefined, inferred: Dims): Dims {
  if (!stated || stated.length !== inferred.length) return inferred;
  return inferred.map((dim, i) => (isDataDependent(dim) ? stated[i]! : dim));
}

/** Output of the first input's type and shape. */
export const sameAsInput: InferRule = (node) => setOutput(node, 0, typeOf(node, 0), dimsOf(node, 0));

/** The size that both dimensions broadcast to; undefined when they cannot. */
export function broadcastDim(a: Dim, b: Dim): Dim | undefined {
  if (a === 1 || dimEqual(a, b)) return b;
  if (b === 1) return a;
  if (typeof a === "number") return typeof b === "number" ? undefined : a;
  return typeof b === "number" ? b : max(a, b);
}

/** numpy's broadcasting of all shapes; undefined when one is unknown. */
export function broadcast(node: Node, shapes: readonly (Dims | undefined)[]): Dims | undefined {
  let result: Dims | undefined = [];
  for (const dims of shapes) {
    if (!dims) return undefined;
    const rank: number = Math.max(result.length, dims.length);
    const before: Dims = result;
    result = Array.from({ length: rank }, (_, i): Dim => {
      const a = before[i - rank + before.length] ?? 1;
      const b = dims[i - rank + dims.length] ?? 1;
      return broadcastDim(a, b) ?? invalid(node, `inputs of shapes ${shapes.map((shape) => (shape ? dimsText(shape) : "[?]")).join(" and ")} do not broadcast.`);
    });
  }
  return result;
}

/** An axis from 0 to rank - 1. */
export function axisIn(node: Node, axis: number, rank: number): number {
  require(node, axis >= -rank && axis < rank, () => `axis ${axis} is outside the rank ${rank} of its input.`);
  return axis < 0 ? axis + rank : axis;
}

export function numberOf(node: Node, name: string, absent: number): number {
  const value = node.attributes[name];
  return typeof value === "number" || typeof value === "bigint" ? Number(value) : absent;
}

export function stringOf(node: Node, name: string, absent: string): string {
  const value = node.attributes[name];
  return typeof value === "string" ? value : absent;
}

export function numbersOf(node: Node, name: string): readonly number[] | undefined {
  const value = node.attributes[name];
  return Array.isArray(value) && value.every((item) => typeof item === "number") ? (value as readonly number[]) : undefined;
}

/** The element type that attribute `name` names by ONNX's number. */
export function typeAttribute(node: Node, name: string, absent: DType | undefined): DType | undefined {
  const value = node.attributes[name];
  if (value === undefined || value === 0) return absent;
  return dtypeOf(Number(value)) ?? invalid(node, `attribute "${name}" is ${String(value)}, which is no element type of ONNX.`);
}

/** Elements of an integer input that is known, each a number; undefined when it is absent or not known. */
export function knownNumbers(value: Value | undefined): readonly number[] | undefined {
  const elements = value?.elements;
  return elements && isStatic(elements) ? elements : undefined;
}

/** Elements of an input; those of a constant brought into the range that numbers hold exactly. */
export function boundElements(value: Value | undefined): readonly Dim[] | undefined {
  if (value?.elements) return value.elements;
  const numbers = numbersConstant(value);
  return value?.dtype === "int64" ? numbers?.map((item) => Math.max(-Number.MAX_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, item))) : numbers;
}

/** As many fresh symbols as the output has dimensions. */
export function dataDims(node: Node, output: number, rank: number, context: InferContext): Dims {
  return Array.from({ length: rank }, (_, i) => context.dataSymbol(`${node.outputs[output]?.name ?? node.name}.${i}`));
}

export function dataDim(node: Node, output: number, axis: number, context: InferContext): Dim {
  return context.dataSymbol(`${node.outputs[output]?.name ?? node.name}.${axis}`);
}

/** The type all given inputs share; a mixture is refused. */
export function commonType(node: Node, inputs: readonly number[]): DType | undefined {
  const types = inputs.map((input) => typeOf(node, input)).filter((dtype) => dtype !== undefined);
  const [first] = types;
  const other = types.find((dtype) => dtype !== first);
  if (other) invalid(node, `inputs have types ${first} and ${other}; expected one type. Insert a Cast.`);
  return first;
}

export const allInputs = (node: Node): number[] => node.inputs.map((_, i) => i);

/** The same rule under several operators' names. */
export function forAll(ops: string, rule: InferRule): Rules {
  return Object.fromEntries(ops.trim().split(/\s+/).map((op) => [op, rule]));
}
