/**
 * Inference requests from protobuf and answers to it, by hand: tensors are views of the message on the way in, and parts of
 * their own on the way out.
 * Source: Triton's grpc_service.proto, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse.
 */
import { ProtoReader, type ProtoSource, ProtoWriter } from "../../base/index.ts";
import { type Datatype, type InferenceResponse, type Parameters, type ParameterValue, ServingError } from "../contract.ts";
import type { SharedMemoryPlace, SharedMemoryRegions } from "../extensions/shared-memory.ts";
import { isDatatype } from "../wire/datatypes.ts";
import { NO_PARAMETERS, optionalCount, readPlace } from "../wire/parameters.ts";
import { readContents } from "./contents.ts";
import { unsigned } from "./schema.ts";

export const MESSAGE: ProtoSource = {
  invalid: (found) => new ServingError("INVALID_ARG", `malformed message: ${found}`),
  truncated: (found) => new ServingError("INVALID_ARG", `malformed message: ${found}`),
  limit: (found) => new ServingError("INVALID_ARG", `malformed message: ${found}`),
};

export interface WireInput {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  readonly place?: SharedMemoryPlace;
  /** Typed contents, as bytes. */
  readonly contents?: Uint8Array;
}

export interface WireOutput {
  readonly name: string;
  readonly classification: number;
  readonly place?: SharedMemoryPlace;
}

export interface WireRequest {
  model: string;
  version: string;
  id: string;
  parameters: Parameters;
  readonly inputs: WireInput[];
  readonly outputs: WireOutput[];
  readonly raw: Uint8Array[];
}

/** @param bytes the message; the views in the result are of it. @throws INVALID_ARG */
export function readInferRequest(bytes: Uint8Array): WireRequest {
  const reader = new ProtoReader(bytes, MESSAGE);
  const request: WireRequest = { model: "", version: "", id: "", parameters: NO_PARAMETERS, inputs: [], outputs: [], raw: [] };
  while (reader.next()) {
    switch (reader.field) {
      case 1: request.model = reader.string(); break;
      case 2: request.version = reader.string(); break;
      case 3: request.id = reader.string(); break;
      case 4: request.parameters = addParameter(reader.message(), request.parameters); break;
      case 5: request.inputs.push(readInput(reader.message())); break;
      case 6: request.outputs.push(readOutput(reader.message())); break;
      case 7: request.raw.push(reader.view8()); break;
      default: reader.skip();
    }
  }
  return request;
}

/**
 * The model's name and version at the beginning of a message of which only some bytes have arrived.
 * @returns undefined when more bytes are needed to tell
 */
export function peekModel(bytes: Buffer, length: number, complete: boolean): { model: string; version: string } | undefined {
  const name = peekString(bytes, 0, length, 0x0a);
  if (name === undefined) return complete ? { model: "", version: "" } : undefined;
  const version = peekString(bytes, name.end, length, 0x12);
  if (version === undefined && !complete) return undefined;
  return { model: name.text, version: version?.text ?? "" };
}

/** A short string field with that key; empty when another field comes first; undefined when it is not there whole. */
function peekString(bytes: Buffer, at: number, length: number, key: number): { text: string; end: number } | undefined {
  if (at >= length) return undefined;
  if (bytes[at] !== key) return { text: "", end: at };
  if (at + 3 > length) return at + 2 === length && bytes[at + 1] === 0 ? { text: "", end: length } : undefined;
  // Names of up to 16383 bytes: the length takes one byte or two.
  const wide = bytes[at + 1]! > 127;
  const size = wide ? (bytes[at + 1]! & 127) + bytes[at + 2]! * 128 : bytes[at + 1]!;
  const from = at + (wide ? 3 : 2);
  if ((wide && bytes[at + 2]! > 127) || from + size > length) return undefined;
  return { text: bytes.toString("utf8", from, from + size), end: from + size };
}

function addParameter(entry: ProtoReader, before: Parameters): Parameters {
  const parameters = before === NO_PARAMETERS ? new Map<string, ParameterValue>() : (before as Map<string, ParameterValue>);
  let key = "";
  let value: ParameterValue | undefined;
  while (entry.next()) {
    if (entry.field === 1) key = entry.string();
    else if (entry.field === 2) value = readParameter(entry.message());
    else entry.skip();
  }
  if (value === undefined) throw new ServingError("INVALID_ARG", `invalid value type for '${key}' parameter: it has none`);
  parameters.set(key, value);
  return parameters;
}

function readParameter(reader: ProtoReader): ParameterValue | undefined {
  let value: ParameterValue | undefined;
  while (reader.next()) {
    switch (reader.field) {
      case 1: value = Boolean(reader.int64()); break;
      case 2: value = reader.int64(); break;
      case 3: value = reader.string(); break;
      case 4: value = reader.double(); break;
      case 5: value = unsigned(reader.int64()); break;
      default: reader.skip();
    }
  }
  return value;
}

function readInput(reader: ProtoReader): WireInput {
  let name = "";
  let datatype = "";
  const shape: number[] = [];
  let parameters = NO_PARAMETERS;
  let contents: ProtoReader | undefined;
  while (reader.next()) {
    switch (reader.field) {
      case 1: name = reader.string(); break;
      case 2: datatype = reader.string(); break;
      case 3: reader.repeated(0, readSize, shape); break;
      case 4: parameters = addParameter(reader.message(), parameters); break;
      case 5: contents = reader.message(); break;
      default: reader.skip();
    }
  }
  if (!isDatatype(datatype)) throw new ServingError("INVALID_ARG", `invalid datatype '${datatype}' for input '${name}'`);
  const place = readPlace(parameters);
  const typed = contents && !contents.done ? readContents(contents, name, datatype) : undefined;
  return { name, datatype, shape, ...(place === undefined ? {} : { place }), ...(typed === undefined ? {} : { contents: typed }) };
}

function readSize(reader: ProtoReader): number {
  return Number(reader.int64());
}

function readOutput(reader: ProtoReader): WireOutput {
  let name = "";
  let parameters = NO_PARAMETERS;
  while (reader.next()) {
    if (reader.field === 1) name = reader.string();
    else if (reader.field === 2) parameters = addParameter(reader.message(), parameters);
    else reader.skip();
  }
  const place = readPlace(parameters);
  const classification = optionalCount(parameters, "classification") ?? 0;
  if (place !== undefined && classification > 0) throw new ServingError("INVALID_ARG", `output '${name}' can't set both 'shared_memory_region' and 'classification'`);
  return { name, classification, ...(place === undefined ? {} : { place }) };
}

/**
 * Writes an answer's fields, tensors in `raw_output_contents`; those with a place are written there, and their entry is empty.
 * @throws INVALID_ARG when one does not fit its place
 */
export function writeInferResponse(writer: ProtoWriter, response: InferenceResponse, wanted: readonly WireOutput[], regions: SharedMemoryRegions): void {
  if (response.model !== "") writer.string(1, response.model);
  if (response.version !== "") writer.string(2, response.version);
  if (response.id !== "") writer.string(3, response.id);
  for (const [key, value] of response.parameters) writeParameter(writer, 4, key, value);
  const raw: (Uint8Array | undefined)[] = [];
  for (const output of response.outputs) {
    const place = wanted.length === 0 ? undefined : wanted.find((one) => one.name === output.name)?.place;
    if (place !== undefined) regions.write(place, output.name, output.bytes);
    raw.push(place === undefined ? output.bytes : undefined);
    writer.message(5, () => {
      writer.string(1, output.name);
      writer.string(2, output.datatype);
      writer.packed(3, output.shape);
      if (place === undefined) return;
      writeParameter(writer, 4, "shared_memory_region", place.region);
      writeParameter(writer, 4, "shared_memory_byte_size", output.bytes.byteLength);
      if (place.offset !== 0) writeParameter(writer, 4, "shared_memory_offset", place.offset);
    });
  }
  for (const bytes of raw) writer.bytes(6, bytes ?? NOTHING);
}

const NOTHING = new Uint8Array(0);

function writeParameter(writer: ProtoWriter, field: number, key: string, value: ParameterValue): void {
  writer.message(field, () => {
    writer.string(1, key);
    writer.message(2, () => {
      if (typeof value === "boolean") writer.bool(1, value);
      else if (typeof value === "string") writer.string(3, value);
      else if (typeof value === "number" && !Number.isInteger(value)) writer.double(4, value);
      else writer.uint(2, value);
    });
  });
}

/** The bytes of `response` within a stream's answer, where it is a nested message of known length. */
export function writeStreamResponse(writer: ProtoWriter, response: InferenceResponse, wanted: readonly WireOutput[], regions: SharedMemoryRegions): void {
  const inner = new ProtoWriter();
  writeInferResponse(inner, response, wanted, regions);
  writer.nested(2, inner);
}

/** A failure within a stream, which stays open; it names the request. */
export function writeStreamError(writer: ProtoWriter, text: string, model: string, id: string): void {
  writer.string(1, text);
  writer.message(2, () => {
    if (model !== "") writer.string(1, model);
    if (id !== "") writer.string(3, id);
  });
}
