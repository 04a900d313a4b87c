/**
 * `POST …/generate` and `…/generate_stream`: a flat JSON object whose members are inputs where the model has an input of
 * that name, and parameters otherwise. Source: Triton's extension_generate.
 */
import { type InferenceRequest, type InferenceResponse, type ParameterValue, type RequestInput, ServingError, type TensorMetadata } from "../contract.ts";
import { ELEMENT_BYTES } from "../wire/datatypes.ts";
import { splitParameters } from "../wire/parameters.ts";
import { asServingError } from "../wire/status.ts";
import type { Exchange } from "./exchange.ts";
import { object, parameterValue, requestId } from "./infer-json.ts";
import type { JsonValue } from "./json.ts";
import type { Route } from "./router.ts";
import { elementsOf, readTensor, writeTensor } from "./tensor-json.ts";

const NONE_ALLOWED: ReadonlySet<string> = new Set();

export async function generate(exchange: Exchange, route: Route): Promise<void> {
  const reservation = exchange.reserve(route.model, route.version);
  try {
    const request = await readRequest(exchange, route);
    let text: string | undefined;
    let count = 0;
    await exchange.context.server.inferStream(request, (response) => {
      count++;
      text = documentOf(response);
      response.release();
    });
    if (text === undefined || count !== 1) throw new ServingError("INTERNAL", `generate expects model to produce exactly 1 response, use generate stream for model that generates various number of responses (got ${count})`);
    exchange.send(200, "application/json", [text]);
  } finally {
    reservation.release();
  }
}

/** The status is that of the first response; what fails later is told as an event. */
export async function generateStream(exchange: Exchange, route: Route): Promise<void> {
  const reservation = exchange.reserve(route.model, route.version);
  try {
    const request = await readRequest(exchange, route);
    try {
      await exchange.context.server.inferStream(request, (response) => {
        exchange.event(documentOf(response));
        response.release();
      });
    } catch (error) {
      if (!exchange.response.headersSent) throw error;
      exchange.event(JSON.stringify({ error: asServingError(error).message }));
    }
    exchange.endEvents();
  } finally {
    reservation.release();
  }
}

async function readRequest(exchange: Exchange, route: Route): Promise<InferenceRequest> {
  const { server } = exchange.context;
  const { model, version } = route;
  const { inputs: known } = server.modelMetadata(model, version);
  const body = object((await exchange.readJson()) ?? new Map(), "generate");
  const inputs: RequestInput[] = [];
  const given = new Map<string, ParameterValue>();
  for (const [key, value] of body) {
    const input = known.find((one) => one.name === key);
    if (input !== undefined) inputs.push(readInput(input, value));
    else if (key === "parameters" && value instanceof Map) for (const [name, inner] of value) given.set(name, parameterValue(name, inner));
    else if (key !== "id") given.set(key, parameterValue(key, value));
  }
  const { parameters, ...limits } = splitParameters(given, NONE_ALLOWED);
  const request: InferenceRequest = { model, version, id: requestId(body), inputs, ...limits, parameters: exchange.withHeaders(parameters), cancelled: false };
  exchange.onGone = () => (request.cancelled = true);
  return request;
}

/** A value or a list of them as a tensor: known sizes divide the count, and the rest is the last dimension that varies. */
function readInput(input: TensorMetadata, value: JsonValue): RequestInput {
  const { name, datatype } = input;
  const values = Array.isArray(value) ? value : [value];
  const refuse = (): ServingError => new ServingError("INVALID_ARG", `The schema can not convert input '${name}' to tensor with proper shape`);
  const shape = [...input.shape];
  let left = values.length;
  for (const size of shape) {
    if (size === -1) continue;
    if (size === 0 || left % size !== 0) throw refuse();
    left /= size;
  }
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== -1) continue;
    shape[i] = left;
    left = 1;
  }
  if (left !== 1) throw refuse();
  return { name, datatype, shape, bytes: readTensor(name, datatype, values.length, values, (size) => new Uint8Array(size)) };
}

/** The response as one flat object; a tensor of one element is that element. */
function documentOf(response: InferenceResponse): string {
  const members = [`"model_name":${JSON.stringify(response.model)}`, `"model_version":"${response.version}"`];
  if (response.id !== "") members.unshift(`"id":${JSON.stringify(response.id)}`);
  for (const [key, value] of response.parameters) members.push(`${JSON.stringify(key)}:${typeof value === "bigint" ? value : JSON.stringify(value)}`);
  for (const { name, datatype, bytes } of response.outputs) {
    const text = writeTensor(name, datatype, bytes);
    const count = datatype === "BYTES" ? elementsOf(bytes).length : bytes.byteLength / ELEMENT_BYTES[datatype];
    members.push(`${JSON.stringify(name)}:${count === 1 ? text : `[${text}]`}`);
  }
  return `{${members.join(",")}}`;
}
