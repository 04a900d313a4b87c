/**
 * What a reference operator is given, in the form it computes with: numbers in double precision, attributes with
 * their defaults. Results are rounded once, when `fromNumbers` stores them.
 */
import { assert, Tensor } from "../base/index.ts";
import type { HostValue, ReferenceAttributes } from "./contract.ts";
import { numbersOf, tensorOf } from "./elements.ts";

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
  return Float64Array.from(numbersOf(tensor));
}

/** A tensor of the type, each number rounded to it. */
export function fromNumbers(type: Tensor["type"], numbers: Float64Array, dims: readonly number[]): Tensor {
  return tensorOf(type, numbers, dims);
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
