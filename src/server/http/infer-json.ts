/**
 * An inference request's JSON: read into plain data that can cross to a worker thread and back, without the model or the binary
 * tensors that follow it. Source: KServe v2, "Inference"; Triton's extensions as named below.
 */
import { type Datatype, type Parameters, type ParameterValue, ServingError } from "../contract.ts";
import type { SharedMemoryPlace } from "../extensions/shared-memory.ts";
import { elementCount, isDatatype } from "../wire/datatypes.ts";
import { NO_PARAMETERS, optionalCount, readPlace, splitParameters, unable } from "../wire/parameters.ts";
import { type JsonObject, type JsonValue, parseJson } from "./json.ts";
import { type Allocate, readTensor } from "./tensor-json.ts";

/** A tensor of the request, and where its bytes are: given here, after the JSON, or in shared memory. */
export interface InputHeader {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly data?: Uint8Array;
  readonly binarySize?: number;
  readonly place?: SharedMemoryPlace;
}

export interface OutputHeader {
  readonly name: string;
  readonly classification: number;
  /** Undefined: as the request's `binary_data_output` says. */
  readonly binary?: boolean;
  readonly place?: SharedMemoryPlace;
}

export interface InferHeader {
  readonly id: string;
  readonly parameters: Parameters;
  readonly priority: number;
  readonly timeoutUs: number;
  readonly binaryOutput: boolean;
  readonly inputs: readonly InputHeader[];
  readonly outputs?: readonly OutputHeader[];
}

const NONE_ALLOWED: ReadonlySet<string> = new Set();

/** @throws INVALID_ARG */
export function readInferHeader(bytes: Buffer, start: number, end: number, allocate: Allocate): InferHeader {
  const request = object(parseJson(bytes, start, end), "request");
  const inputs = request.get("inputs");
  if (!Array.isArray(inputs)) throw unable("inputs", "expected an array");
  const outputs = request.get("outputs");
  if (outputs !== undefined && !Array.isArray(outputs)) throw unable("outputs", "expected an array");
  const given = parametersOf(request);
  const binaryOutput = given.get("binary_data_output");
  const split = splitParameters(given, NONE_ALLOWED);
  if (binaryOutput !== undefined) (split.parameters as Map<string, ParameterValue>).delete("binary_data_output");
  return {
    id: requestId(request),
    ...split,
    binaryOutput: binaryOutput === true,
    inputs: inputs.map((input) => readInput(object(input, "inputs"), allocate)),
    ...(outputs === undefined ? {} : { outputs: outputs.map((output) => readOutput(object(output, "outputs"))) }),
  };
}

export function requestId(request: JsonObject): string {
  const id = request.get("id");
  if (id === undefined) return "";
  if (typeof id !== "string") throw unable("id", "expected a string");
  return id;
}

function readInput(input: JsonObject, allocate: Allocate): InputHeader {
  const name = text(input, "name");
  const datatype = text(input, "datatype");
  if (!isDatatype(datatype)) throw new ServingError("INVALID_ARG", `invalid datatype for input ${name}`);
  const shape = readShape(input);
  const count = elementCount(name, shape);
  const parameters = parametersOf(input);
  const data = input.get("data");
  const binarySize = optionalCount(parameters, "binary_data_size");
  const place = readPlace(parameters);
  const sources = (data !== undefined ? 1 : 0) + (binarySize !== undefined ? 1 : 0) + (place !== undefined ? 1 : 0);
  if (sources > 1) throw new ServingError("INVALID_ARG", `Input '${name}' must have exactly one of 'data', 'binary_data_size' and 'shared_memory_region'`);
  if (binarySize !== undefined) return { name, datatype, shape, binarySize };
  if (place !== undefined) return { name, datatype, shape, place };
  if (count === 0 && data === undefined) return { name, datatype, shape, data: new Uint8Array(0) };
  if (!Array.isArray(data)) throw unable("data", `input '${name}' has no array of that name`);
  return { name, datatype, shape, data: readTensor(name, datatype, count, data, allocate) };
}

function readOutput(output: JsonObject): OutputHeader {
  const name = text(output, "name");
  const parameters = parametersOf(output);
  const classification = optionalCount(parameters, "classification") ?? 0;
  const binary = parameters.get("binary_data");
  if (binary !== undefined && typeof binary !== "boolean") throw unable("binary_data", "expected a boolean");
  const place = readPlace(parameters);
  if (place !== undefined && (classification > 0 || binary === true)) {
    throw new ServingError("INVALID_ARG", `output '${name}' can't set both 'shared_memory_region' and ${classification > 0 ? "'classification'" : "'binary_data'"}`);
  }
  return { name, classification, ...(binary === undefined ? {} : { binary }), ...(place === undefined ? {} : { place }) };
}

function readShape(input: JsonObject): number[] {
  const shape = input.get("shape");
  if (!Array.isArray(shape)) throw unable("shape", "expected an array");
  return shape.map((size) => {
    if (typeof size === "bigint" && size >= 0n) return Number(size);
    if (typeof size !== "number" || !Number.isInteger(size) || size < 0) throw unable("shape", "attempt to access JSON non-unsigned-integer as unsigned-integer");
    return size;
  });
}

/** @throws INVALID_ARG for a member that is no plain value */
export function parametersOf(holder: JsonObject): Parameters {
  const parameters = holder.get("parameters");
  if (parameters === undefined) return NO_PARAMETERS;
  for (const [key, value] of object(parameters, "parameters")) parameterValue(key, value);
  return parameters as ReadonlyMap<string, ParameterValue>;
}

export function parameterValue(key: string, value: JsonValue): ParameterValue {
  if (value === null || typeof value === "object") throw new ServingError("INVALID_ARG", `parameter '${key}' has invalid type. It should be either 'int', 'bool', or 'string'.`);
  return value;
}

export function object(value: JsonValue, what: string): JsonObject {
  if (value instanceof Map) return value;
  throw unable(what, "expected an object");
}

function text(holder: JsonObject, key: string): string {
  const value = holder.get(key);
  if (typeof value !== "string") throw unable(key, "expected a string");
  return value;
}
