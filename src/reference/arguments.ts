/**
 * What a reference operator is given, in the form it computes with: numbers in double precision, attributes with
 * their defaults. Results are rounded once, when `fromNumbers` stores them.
 */
import { assert, DTYPE_BITS, fromBfloat16Bits, fromFloat16Bits, newArray, Tensor, toBfloat16Bits, toFloat16Bits, elementCount } from "../base/index.ts";
import type { HostValue, ReferenceAttributes } from "./contract.ts";

type Inputs = readonly HostValue[];

export function tensorInput(inputs: Inputs, index: number): Tensor {
  const value = inputs[index];
  assert(value instanceof Tensor, `input ${index} is a tensor`);
  return value;
}

export function optionalTensor(inputs: Inputs, index: number): Tensor | undefined {
  const value = inputs[index];
  assert(value === undefined || value instanceof Tensor, `input ${index} is a tensor or absent`);
  return value;
}

/** A fresh array of the elements; integers beyond 2^53 lose their low bits. */
export function toNumbers(tensor: Tensor): Float64Array {
  const { data, type } = tensor;
  assert(!Array.isArray(data) && DTYPE_BITS[type] >= 8 && !type.startsWith("float8"), `elements of type ${type} as numbers`);
  if (type === "float16") return Float64Array.from(data as Uint16Array, fromFloat16Bits);
  if (type === "bfloat16") return Float64Array.from(data as Uint16Array, fromBfloat16Bits);
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    const numbers = new Float64Array(data.length);
    for (let i = 0; i < data.length; i++) numbers[i] = Number(data[i]);
    return numbers;
  }
  return Float64Array.from(data);
}

/** A tensor of the type, each number rounded to it. */
export function fromNumbers(type: Tensor["type"], numbers: Float64Array, dims: readonly number[]): Tensor {
  assert(type !== "string" && DTYPE_BITS[type] >= 8 && !type.startsWith("float8"), `numbers as elements of type ${type}`);
  assert(numbers.length === elementCount(dims), `${numbers.length} numbers for dims [${dims}]`);
  const array = newArray(type, numbers.length);
  if (array instanceof BigInt64Array || array instanceof BigUint64Array) for (let i = 0; i < numbers.length; i++) array[i] = BigInt(Math.trunc(numbers[i]!));
  else if (type === "float16") for (let i = 0; i < numbers.length; i++) array[i] = toFloat16Bits(numbers[i]!);
  else if (type === "bfloat16") for (let i = 0; i < numbers.length; i++) array[i] = toBfloat16Bits(numbers[i]!);
  else (array as Float64Array).set(numbers);
  return new Tensor(type, array, dims);
}

export function intAttribute(attributes: ReferenceAttributes, name: string, absent: number): number {
  const value = attributes[name];
  if (value === undefined) return absent;
  assert(typeof value === "number" || typeof value === "bigint", `attribute "${name}" is a number`);
  return Number(value);
}

export const floatAttribute = intAttribute;

export function stringAttribute(attributes: ReferenceAttributes, name: string, absent: string): string {
  const value = attributes[name];
  if (value === undefined) return absent;
  assert(typeof value === "string", `attribute "${name}" is a string`);
  return value;
}

export function numbersAttribute(attributes: ReferenceAttributes, name: string): readonly number[] | undefined {
  const value = attributes[name];
  if (value === undefined) return undefined;
  assert(Array.isArray(value) && value.every((item) => typeof item === "number"), `attribute "${name}" is a list of numbers`);
  return value;
}

export const intsAttribute = numbersAttribute;

export function stringsAttribute(attributes: ReferenceAttributes, name: string): readonly string[] | undefined {
  const value = attributes[name];
  if (value === undefined) return undefined;
  assert(Array.isArray(value) && value.every((item) => typeof item === "string"), `attribute "${name}" is a list of strings`);
  return value;
}
