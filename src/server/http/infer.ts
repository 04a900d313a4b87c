/**
 * `POST …/infer`: JSON with or without binary tensors behind it, or one raw tensor and no JSON at all.
 * Sources: KServe v2, "Inference"; Triton's extension_binary_data, extension_shared_memory, extension_classification.
 */
import type { Trace } from "../extensions/tracer.ts";
import { addressOf } from "../../native/index.ts";
import { derivedRequest, type InferenceRequest, type InferenceResponse, type RequestedOutput, type RequestInput, ServingError } from "../contract.ts";
import type { Body } from "../wire/body-pool.ts";
import { checkByteSize, ELEMENT_BYTES, elementCount } from "../wire/datatypes.ts";
import { NO_PARAMETERS } from "../wire/parameters.ts";
import { type Exchange, type Part, sizeOf } from "./exchange.ts";
import { type InferHeader, type InputHeader, readInferHeader } from "./infer-json.ts";
import { MAIN_THREAD_JSON_BYTES } from "./json-worker.ts";
import { type BodyLimit, tooLarge } from "./read-body.ts";
import type { Route } from "./router.ts";
import { writeTensor } from "./tensor-json.ts";

/** Characters per byte of a tensor when written as JSON, about; which thread writes it depends on that. */
const TEXT_PER_BYTE = 5;
const NO_INPUTS: readonly RequestInput[] = [];

/** A request being put together, with the memory that it borrows from the pool. */
interface Pending {
  readonly bodies: Body[];
  readonly header: InferHeader | undefined;
  readonly request: InferenceRequest;
}

export async function infer(exchange: Exchange, route: Route): Promise<void> {
  const { server, pool, tracer } = exchange.context;
  if (server.isDecoupled(route.model, route.version)) throw new ServingError("UNSUPPORTED", "HTTP end point doesn't support models with decoupled transaction policy");
  const reservation = exchange.reserve(route.model, route.version);
  const trace = tracer.begin(route.model);
  trace?.at("HTTP_RECV_START");
  const bodies: Body[] = [];
  try {
    const pending = await readRequest(exchange, route, bodies, reservation);
    exchange.onGone = () => (pending.request.cancelled = true);
    trace?.at("HTTP_RECV_END");
    const response = await server.infer(trace ? derivedRequest(pending.request, { trace }) : pending.request);
    trace?.name(response.version, response.id);
    trace?.at("INFER_RESPONSE_COMPLETE");
    trace?.at("HTTP_SEND_START");
    let replied = false;
    try {
      await reply(exchange, pending.header, response);
      replied = true;
    } finally {
      if (!replied) response.release();
    }
  } finally {
    for (const body of bodies) pool.give(body);
    reservation.release();
    if (trace) endTrace(exchange, trace, route.model);
  }
}

/** When the reply has left. */
function endTrace({ response, context }: Exchange, trace: Trace, model: string): void {
  const end = (): void => {
    trace.at("HTTP_SEND_END");
    context.tracer.end(trace, model);
  };
  if (response.writableFinished || response.destroyed) end();
  else response.once("close", end);
}

async function readRequest(exchange: Exchange, route: Route, bodies: Body[], reservation: Parameters<Exchange["readBody"]>[0]): Promise<Pending> {
  const { maxInputBytes } = exchange.context;
  const stated = headerLength(exchange);
  const limit: BodyLimit = stated === undefined ? { mostBytes: maxInputBytes, what: "JSON" } : stated === 0 ? { mostBytes: maxInputBytes, what: "raw" } : { mostBytes: maxInputBytes + Math.min(stated, maxInputBytes), what: "body" };
  const { body, start } = await exchange.readBody(reservation, limit, stated ?? 0);
  bodies.push(body);
  const size = body.length - start;
  if (stated === 0) return { bodies, header: undefined, request: rawRequest(exchange, route, body.bytes.subarray(start, body.length)) };
  const jsonBytes = stated ?? size;
  if (jsonBytes > size) throw new ServingError("INVALID_ARG", `inference header size should be in range (0, ${size}), got: ${stated}`);
  if (jsonBytes > maxInputBytes) throw tooLarge(jsonBytes, { mostBytes: maxInputBytes, what: "JSON" });
  const header = await readHeader(exchange, body, start, start + jsonBytes, bodies);
  const inputs = bindInputs(exchange, route.model, header.inputs, body.bytes.subarray(start + jsonBytes, body.length), bodies);
  return { bodies, header, request: makeRequest(route, header, inputs, exchange.withHeaders(header.parameters)) };
}

/** What `Inference-Header-Content-Length` says. */
function headerLength(exchange: Exchange): number | undefined {
  const text = exchange.header("inference-header-content-length");
  if (text === undefined) return undefined;
  const length = Number(text);
  if (!Number.isInteger(length)) throw new ServingError("INVALID_ARG", `Unable to parse Inference-Header-Content-Length, got: ${text}`);
  if (length < 0) throw new ServingError("INVALID_ARG", `inference header size should be in range (0, ${exchange.header("content-length") ?? "the body's size"}), got: ${text}`);
  return length;
}

function readHeader(exchange: Exchange, body: Body, start: number, end: number, bodies: Body[]): InferHeader | Promise<InferHeader> {
  const { pool, json } = exchange.context;
  if (end - start > MAIN_THREAD_JSON_BYTES) return json.read(addressOf(body.bytes)!, start, end);
  return readInferHeader(body.bytes, start, end, (sizeBytes) => {
    const memory = pool.take(sizeBytes);
    bodies.push(memory);
    return memory.bytes.subarray(0, sizeBytes);
  });
}

function makeRequest(route: Route, header: InferHeader, inputs: readonly RequestInput[], parameters: InferHeader["parameters"]): InferenceRequest {
  const { model, version } = route;
  const { id, priority, timeoutUs, outputs } = header;
  return { model, version, id, parameters, inputs, ...(outputs === undefined || outputs.length === 0 ? {} : { outputs: outputs as readonly RequestedOutput[] }), priority, timeoutUs, cancelled: false };
}

/** Gives every input its bytes: parts of `binary` in order, or what JSON or shared memory held. */
function bindInputs(exchange: Exchange, model: string, headers: readonly InputHeader[], binary: Buffer, bodies: Body[]): readonly RequestInput[] {
  let at = 0;
  const inputs = headers.map((header): RequestInput => {
    const { name, datatype, shape } = header;
    let bytes = header.data;
    if (header.binarySize !== undefined) {
      const left = binary.length - at;
      if (header.binarySize > left) throw new ServingError("INVALID_ARG", `unexpected size for input '${name}', expecting ${header.binarySize - left} additional bytes for model '${model}'`);
      bytes = binary.subarray(at, (at += header.binarySize));
    } else if (header.place !== undefined) bytes = readPlaced(exchange, header.place, bodies);
    if (bytes === undefined) throw new Error(`Bug in sinter: input ${name} without a source`);
    if (header.data === undefined) checkByteSize(name, model, datatype, shape, bytes);
    return { name, datatype, shape, bytes };
  });
  if (at !== binary.length) throw new ServingError("INVALID_ARG", `unexpected additional input data for model '${model}'`);
  return inputs.length === 0 ? NO_INPUTS : inputs;
}

function readPlaced(exchange: Exchange, place: NonNullable<InputHeader["place"]>, bodies: Body[]): Uint8Array {
  const { regions, pool } = exchange.context;
  regions.check(place);
  const memory = pool.take(place.byteSize);
  bodies.push(memory);
  const bytes = memory.bytes.subarray(0, place.byteSize);
  regions.read(place, bytes);
  return bytes;
}

/** A request that is one tensor's bytes: name, type and shape are deduced from the model, as a batch of one. */
function rawRequest(exchange: Exchange, route: Route, body: Buffer): InferenceRequest {
  const { model, version } = route;
  const { inputs } = exchange.context.server.modelMetadata(model, version);
  const config = exchange.context.server.modelConfig(model, version);
  const [input] = inputs;
  if (input === undefined || inputs.length !== 1) throw new ServingError("INVALID_ARG", `Raw request must only have 1 input (found 1) to be deduced but got ${inputs.length} inputs in '${model}' model configuration`);
  const { name, datatype } = input;
  const batched = Number(config["max_batch_size"] ?? 0) > 0;
  const dims = batched ? [1, ...input.shape.slice(1)] : [...input.shape];
  if (datatype === "BYTES") {
    if (dims.length !== (batched ? 2 : 1) || dims.at(-1) !== 1) throw new ServingError("INVALID_ARG", `For BYTE datatype raw input '${name}', the model must have input shape [1]`);
    const bytes = Buffer.alloc(4 + body.length);
    bytes.writeUInt32LE(body.length);
    bytes.set(body, 4);
    return rawOf(exchange, route, { name, datatype, shape: dims, bytes });
  }
  const variable = dims.indexOf(-1);
  if (variable >= 0) {
    if (dims.indexOf(-1, variable + 1) >= 0) throw new ServingError("INVALID_ARG", `The shape of the raw input '${name}' can not be deduced because there are more than one variable-sized dimension`);
    dims[variable] = 1;
    dims[variable] = Math.floor(body.length / Math.max(1, elementCount(name, dims) * ELEMENT_BYTES[datatype]));
  }
  checkByteSize(name, model, datatype, dims, body);
  return rawOf(exchange, route, { name, datatype, shape: dims, bytes: body });
}

function rawOf(exchange: Exchange, { model, version }: Route, input: RequestInput): InferenceRequest {
  return { model, version, id: "", parameters: exchange.withHeaders(NO_PARAMETERS), inputs: [input], priority: 0, timeoutUs: 0, cancelled: false };
}

/** @param header undefined for raw requests, whose outputs are all binary */
async function reply(exchange: Exchange, header: InferHeader | undefined, response: InferenceResponse): Promise<void> {
  const binary: Uint8Array[] = [];
  const json: Part[] = [];
  let text = `{${response.id === "" ? "" : `"id":${JSON.stringify(response.id)},`}"model_name":${JSON.stringify(response.model)},"model_version":"${response.version}"`;
  if (response.parameters.size > 0) text += `,"parameters":${parametersText(response)}`;
  text += ',"outputs":[';
  for (let i = 0; i < response.outputs.length; i++) {
    const output = response.outputs[i]!;
    const wanted = header?.outputs?.find((one) => one.name === output.name);
    text += `${i === 0 ? "" : ","}{"name":${JSON.stringify(output.name)},"datatype":"${output.datatype}","shape":[${output.shape.join(",")}]`;
    if (wanted?.place !== undefined) exchange.context.regions.write(wanted.place, output.name, output.bytes);
    else if (header === undefined || (wanted?.binary ?? header.binaryOutput)) {
      binary.push(output.bytes);
      text += `,"parameters":{"binary_data_size":${output.bytes.byteLength}}`;
    } else if (output.bytes.byteLength * TEXT_PER_BYTE <= MAIN_THREAD_JSON_BYTES) text += `,"data":[${writeTensor(output.name, output.datatype, output.bytes)}]`;
    else {
      json.push(`${text},"data":[`, await exchange.context.json.write(output));
      text = "]";
    }
    text += "}";
  }
  json.push(`${text}]}`);
  const release = (): void => response.release();
  if (binary.length === 0) exchange.send(200, "application/json", json, release);
  else exchange.send(200, "application/octet-stream", [...json, ...binary], release, sizeOf(json));
}

function parametersText(response: InferenceResponse): string {
  return `{${[...response.parameters].map(([key, value]) => `${JSON.stringify(key)}:${typeof value === "bigint" ? value : JSON.stringify(value)}`).join(",")}}`;
}
