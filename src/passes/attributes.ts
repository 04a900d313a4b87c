/** Reading attributes and constants of nodes, and making small constants: what passes share. */
import { type DType, toBfloat16Bits, toFloat16Bits } from "../base/index.ts";
import { constantValue, type Dim, isStatic, type Node, Value } from "../ir/index.ts";

export function numberOf(node: Node, name: string, absent: number): number {
  const value = node.attributes[name];
  return typeof value === "number" || typeof value === "bigint" ? Number(value) : absent;
}

export function numbersOf(node: Node, name: string): readonly number[] | undefined {
  const value = node.attributes[name];
  return Array.isArray(value) && value.every((item) => typeof item === "number") ? (value as readonly number[]) : undefined;
}

export function stringOf(node: Node, name: string, absent: string): string {
  const value = node.attributes[name];
  return typeof value === "string" ? value : absent;
}

/** The axes order of a Transpose. */
export function permOf(node: Node): readonly number[] {
  const rank = node.inputs[0]?.dims?.length ?? 0;
  return numbersOf(node, "perm") ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
}

export function invert(perm: readonly number[]): number[] {
  const result = new Array<number>(perm.length);
  perm.forEach((axis, i) => { result[axis] = i; });
  return result;
}

export const isIdentity = (perm: readonly number[]): boolean => perm.every((axis, i) => axis === i);

/** Known integer elements of a value, each a number. */
export function knownNumbers(value: Value | undefined): readonly number[] | undefined {
  return value?.elements && isStatic(value.elements) ? value.elements : undefined;
}

/** The axes a Reduce* works on, from 0 to rank - 1; undefined when they are not known. */
export function reducedAxes(node: Node): readonly number[] | undefined {
  const rank = node.inputs[0]?.dims?.length;
  const given = node.inputs[1] ? knownNumbers(node.inputs[1]) : [];
  if (rank === undefined || !given) return undefined;
  if (given.length === 0) return numberOf(node, "noop_with_empty_axes", 0) !== 0 ? [] : Array.from({ length: rank }, (_, i) => i);
  return given.map((axis) => (axis < 0 ? axis + rank : axis)).sort((a, b) => a - b);
}

/** A float constant of the given type; undefined for types that are not plain floats. */
export function floatConstant(dtype: DType | undefined, items: readonly number[] | Float32Array | Float64Array, dims: readonly number[], name?: string): Value | undefined {
  switch (dtype) {
    case "float32": return constantValue(dtype, dims, new Uint8Array(Float32Array.from(items).buffer), name);
    case "float64": return constantValue(dtype, dims, new Uint8Array(Float64Array.from(items).buffer), name);
    case "float16": return constantValue(dtype, dims, new Uint8Array(Uint16Array.from(items, toFloat16Bits).buffer), name);
    case "bfloat16": return constantValue(dtype, dims, new Uint8Array(Uint16Array.from(items, toBfloat16Bits).buffer), name);
    default: return undefined;
  }
}

let shapeOperands = 0;

/** A shape operand: no producer, no data, only elements that are evaluated when a shape is bound; a constant when all are numbers. */
export function shapeOperand(elements: readonly Dim[], dtype: DType = "int64", dims: readonly Dim[] = [elements.length]): Value {
  const value = isStatic(elements) ? integerConstant(dtype, elements, dims as readonly number[]) : new Value(`shape_${shapeOperands++}`, dtype, dims);
  value.elements = elements;
  return value;
}

function integerConstant(dtype: DType, items: readonly number[], dims: readonly number[]): Value {
  const bytes = ((): Uint8Array => {
    switch (dtype) {
      case "int32": return new Uint8Array(Int32Array.from(items).buffer);
      case "bool": return Uint8Array.from(items);
      case "float32": return new Uint8Array(Float32Array.from(items).buffer);
      case "float64": return new Uint8Array(Float64Array.from(items).buffer);
      default: return new Uint8Array(BigInt64Array.from(items.map(BigInt)).buffer);
    }
  })();
  return constantValue(dtype, dims, bytes);
}
