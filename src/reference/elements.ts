/**
 * Elements of tensors, whatever their type.
 *
 * Two views of one tensor: as numbers (an array that computes in double precision, or the tensor's own array where
 * that holds plain numbers) and as items (one array item per element, never interpreted), for operators that only
 * move elements. int64 and uint64 have a third, exact view: as bigints.
 */
import {
  assert, type DType, DTYPE_BITS, elementCount, fromBfloat16Bits, fromFloat16Bits, newArray, type NumericArray, Tensor, toBfloat16Bits, toFloat16Bits,
  UserError,
} from "../base/index.ts";
import type { HostValue } from "./contract.ts";
import { encodeNarrowFloat, isNarrowFloat, narrowFloatTable } from "./narrow-float.ts";

export type NumberArray = Exclude<NumericArray, BigInt64Array | BigUint64Array>;
export type BigArray = BigInt64Array | BigUint64Array;

export function isBig(type: DType): type is "int64" | "uint64" {
  return type === "int64" || type === "uint64";
}

/** Whether the tensor's array holds the numbers themselves, one item each. */
function isPlain(type: DType): boolean {
  return type === "float32" || type === "float64" || type === "bool" || (/^u?int(8|16|32)$/).test(type);
}

/** One item per element of a type below a byte, not interpreted: its bits. */
function unpackBits(tensor: Tensor): Uint8Array {
  const bits = DTYPE_BITS[tensor.type];
  const data = tensor.data as Uint8Array;
  const result = new Uint8Array(tensor.size);
  const per = 8 / bits;
  const mask = (1 << bits) - 1;
  for (let i = 0; i < result.length; i++) result[i] = (data[Math.floor(i / per)]! >> ((i % per) * bits)) & mask;
  return result;
}

function packBits(type: DType, codes: ArrayLike<number>, dims: readonly number[]): Tensor {
  const bits = DTYPE_BITS[type];
  const result = newArray(type, codes.length) as Uint8Array;
  const per = 8 / bits;
  const mask = (1 << bits) - 1;
  for (let i = 0; i < codes.length; i++) result[Math.floor(i / per)]! |= (codes[i]! & mask) << ((i % per) * bits);
  return new Tensor(type, result, dims);
}

/** The elements as numbers; not to be written, since it may be the tensor's own array. int64 loses bits beyond 2^53. */
export function numbersOf(tensor: Tensor): NumberArray {
  const { type, data } = tensor;
  assert(!Array.isArray(data) && !type.startsWith("complex"), `elements of type ${type} as numbers`);
  if (isPlain(type)) return data as NumberArray;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    const numbers = new Float64Array(data.length);
    for (let i = 0; i < data.length; i++) numbers[i] = Number(data[i]);
    return numbers;
  }
  if (isNarrowFloat(type)) return decoded(type === "float4e2m1" ? unpackBits(tensor) : data, narrowFloatTable(type));
  if (DTYPE_BITS[type] < 8) return smallIntegers(tensor);
  const decode = type === "float16" ? fromFloat16Bits : fromBfloat16Bits;
  const numbers = new Float64Array(data.length);
  for (let i = 0; i < data.length; i++) numbers[i] = decode(data[i]!);
  return numbers;
}

function decoded(codes: NumberArray, table: Float64Array): Float64Array {
  const numbers = new Float64Array(codes.length);
  for (let i = 0; i < codes.length; i++) numbers[i] = table[codes[i]!]!;
  return numbers;
}

function smallIntegers(tensor: Tensor): NumberArray {
  const codes = unpackBits(tensor);
  if (tensor.type.startsWith("u")) return codes;
  const shift = 32 - DTYPE_BITS[tensor.type];
  return Int8Array.from(codes, (code) => (code << shift) >> shift);
}

/** An array to write results of the type into, for `tensorOf`. Integers wrap, floats are rounded. */
export function newNumbers(type: DType, count: number): NumberArray {
  return isPlain(type) ? (newArray(type, count) as NumberArray) : new Float64Array(count);
}

/** A tensor of the type; takes the array over where `newNumbers` made it for this type. */
export function tensorOf(type: DType, numbers: NumberArray, dims: readonly number[]): Tensor {
  assert(numbers.length === elementCount(dims), `${numbers.length} numbers for dims [${dims}]`);
  if (isBig(type)) {
    const result = newArray(type, numbers.length) as BigArray;
    for (let i = 0; i < numbers.length; i++) result[i] = toBigInt(numbers[i]!);
    return new Tensor(type, result, dims);
  }
  if (isNarrowFloat(type)) {
    const codes = Uint8Array.from(numbers as Float64Array, (value) => encodeNarrowFloat(type, value));
    return type === "float4e2m1" ? packBits(type, codes, dims) : new Tensor(type, codes, dims);
  }
  if (DTYPE_BITS[type] < 8) return packBits(type, numbers, dims);
  if (type === "float16" || type === "bfloat16") {
    const encode = type === "float16" ? toFloat16Bits : toBfloat16Bits;
    const result = new Uint16Array(numbers.length);
    for (let i = 0; i < numbers.length; i++) result[i] = encode(numbers[i]!);
    return new Tensor(type, result, dims);
  }
  const own = newArray(type, 0) as NumberArray;
  if (own.constructor === numbers.constructor) return new Tensor(type, numbers, dims);
  const result = newArray(type, numbers.length) as NumberArray;
  result.set(numbers);
  return new Tensor(type, result, dims);
}

/** Toward zero; NaN is 0, and what lies beyond 64 bits saturates. */
export function toBigInt(value: number): bigint {
  if (Number.isNaN(value)) return 0n;
  if (value >= 2 ** 64) return 2n ** 63n - 1n;
  if (value <= -(2 ** 63)) return -(2n ** 63n);
  return BigInt(Math.trunc(value));
}

export function bigsOf(tensor: Tensor): BigArray {
  const { data } = tensor;
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return data;
  return BigInt64Array.from(numbersOf(tensor) as Float64Array, toBigInt);
}

/** Elements as items that are only moved: `width` items each (two for complex numbers). */
export interface Items {
  readonly items: NumericArray | string[];
  readonly width: number;
}

export function itemsOf(tensor: Tensor): Items {
  if (tensor.type !== "string" && DTYPE_BITS[tensor.type] < 8) return { items: unpackBits(tensor), width: 1 };
  return { items: tensor.data, width: tensor.type.startsWith("complex") ? 2 : 1 };
}

/** Room for `count` elements of the type, as items. */
export function newItems(type: DType, count: number): Items {
  if (type !== "string" && DTYPE_BITS[type] < 8) return { items: new Uint8Array(count), width: 1 };
  return { items: newArray(type, count), width: type.startsWith("complex") ? 2 : 1 };
}

export function tensorOfItems(type: DType, { items }: Items, dims: readonly number[]): Tensor {
  if (type !== "string" && DTYPE_BITS[type] < 8) return packBits(type, items as Uint8Array, dims);
  return new Tensor(type, items, dims);
}

/** Items are copied between arrays of one kind only, so their type does not matter. */
const raw = ({ items }: Items): number[] => items as unknown as number[];

/** Output element i is element table[i] of the tensor; the first of `fill` (or zero) where that is negative. */
export function pick(tensor: Tensor, table: Int32Array, dims: readonly number[], fill?: Tensor): Tensor {
  const from = itemsOf(tensor);
  const to = newItems(tensor.type, table.length);
  if (fill) fillItems(to, itemsOf(fill));
  copyItems(to, from, table);
  return tensorOfItems(tensor.type, to, dims);
}

function fillItems(to: Items, value: Items): void {
  const items = raw(to);
  for (let i = 0; i < items.length; i++) items[i] = raw(value)[i % to.width]!;
}

function copyItems(to: Items, from: Items, table: Int32Array): void {
  const target = raw(to);
  const source = raw(from);
  const { width } = to;
  for (let i = 0; i < table.length; i++) {
    const at = table[i]!;
    if (at < 0) continue;
    if (width === 1) target[i] = source[at]!;
    else for (let w = 0; w < width; w++) target[i * width + w] = source[at * width + w]!;
  }
}

/** Puts element i of `from` at element table[i]. */
export function placeItems(to: Items, from: Items, table: Int32Array): void {
  const target = raw(to);
  const source = raw(from);
  const { width } = to;
  for (let i = 0; i < table.length; i++) for (let w = 0; w < width; w++) target[table[i]! * width + w] = source[i * width + w]!;
}

/** The integers of an index or shape tensor. */
export function integersOf(tensor: Tensor): number[] {
  return Array.from(numbersOf(tensor) as Float64Array);
}

export function int64Tensor(values: readonly number[], dims: readonly number[] = [values.length]): Tensor {
  return new Tensor("int64", BigInt64Array.from(values, (value) => BigInt(value)), dims);
}

/** The tensor at `index`. @throws UserError where the value is absent */
export function tensorAt(inputs: readonly HostValue[], index: number): Tensor {
  const value = inputs[index];
  if (!(value instanceof Tensor)) throw new UserError("input-invalid", `Input ${index} is ${value === undefined ? "absent" : "a sequence"}; expected a tensor.`);
  return value;
}

/** A scalar input, or what stands for it when absent. */
export function scalarAt(inputs: readonly HostValue[], index: number, absent: number): number {
  const value = inputs[index];
  return value instanceof Tensor && value.size > 0 ? numbersOf(value)[0]! : absent;
}
