/** Everything but inference: health, metadata, statistics, settings, the model repository, shared memory. */
import { ServingError } from "../contract.ts";
import { indexDocument, metadataDocument, serverDocument, statisticsDocument } from "../wire/documents.ts";
import { unable } from "../wire/parameters.ts";
import type { Exchange } from "./exchange.ts";
import { object } from "./infer-json.ts";
import type { JsonObject, JsonValue } from "./json.ts";
import type { Route } from "./router.ts";

/** Answers by itself or throws what is to be answered. */
export type Handler = (exchange: Exchange, route: Route) => void | Promise<void>;

export const live: Handler = (exchange) => exchange.empty(exchange.context.server.live() ? 200 : 400);

export const ready: Handler = (exchange) => exchange.empty(exchange.context.server.ready() ? 200 : 400);

export const modelReady: Handler = (exchange, { model, version }) => {
  if (!exchange.context.server.modelReady(model, version)) exchange.errorText(400, "Model version not ready");
  else exchange.empty();
};

export const server: Handler = (exchange) => exchange.json(serverDocument(exchange.context.identity));

export const metadata: Handler = (exchange, { model, version }) => exchange.json(metadataDocument(exchange.context.server.modelMetadata(model, version)));

export const config: Handler = (exchange, { model, version }) => exchange.json(exchange.context.server.modelConfig(model, version));

export const statistics: Handler = (exchange, { model, version }) => exchange.json(statisticsDocument(exchange.context.server, model, version));

async function readObject(exchange: Exchange, what: string): Promise<JsonObject> {
  const value = await exchange.readJson();
  return value === undefined ? new Map() : object(value, what);
}


export const trace: Handler = async (exchange, { model }) => {
  const { server, trace: settings } = exchange.context;
  if (model !== "" && !server.modelReady(model, "")) throw new ServingError("INVALID_ARG", `Request for unknown model : ${model}`);
  if (exchange.request.method === "POST") settings.update(model, await readObject(exchange, "trace"));
  exchange.json(settings.document(model));
};

export const logging: Handler = async (exchange) => {
  const { log } = exchange.context;
  if (exchange.request.method === "POST") log.update(await readObject(exchange, "dynamic logging"));
  exchange.json(log.values);
};

export const index: Handler = async (exchange) => {
  const wanted = await readObject(exchange, "registry index").then((given) => given.get("ready") ?? false, (error: Error) => error);
  if (typeof wanted !== "boolean") throw new ServingError("INVALID_ARG", `Invalid value for 'ready': expected a boolean${wanted instanceof Error ? ` (${wanted.message})` : ""}`);
  exchange.json(indexDocument(exchange.context.server.repositoryIndex(wanted)));
};

function refuseRepository({ name }: Route): void {
  if (name !== "") throw new ServingError("UNSUPPORTED", "'repository_name' specification is not supported");
}

export const load: Handler = async (exchange, route) => {
  refuseRepository(route);
  const parameters = (await readObject(exchange, "load model")).get("parameters") ?? null;
  await exchange.context.server.loadModel(route.model, parameters === null ? new Map() : loadParameters(object(parameters, "parameters")));
  exchange.empty();
};

function loadParameters(given: JsonObject): Map<string, string | Uint8Array> {
  const parameters = new Map<string, string | Uint8Array>();
  for (const [key, value] of given) {
    if (typeof value !== "string") throw unable(key, "attempt to access JSON non-string as string");
    parameters.set(key, key.startsWith("file:") ? decodeBase64(key, value) : value);
  }
  return parameters;
}

function decodeBase64(key: string, text: string): Uint8Array {
  if (!/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(text)) throw new ServingError("INVALID_ARG", `Unable to decode '${key}': not base64`);
  return Buffer.from(text, "base64");
}

export const unload: Handler = async (exchange, route) => {
  refuseRepository(route);
  const parameters = (await readObject(exchange, "unload model")).get("parameters") ?? null;
  const dependents = parameters === null ? false : (object(parameters, "parameters").get("unload_dependents") ?? false);
  if (typeof dependents !== "boolean") throw unable("unload_dependents", "attempt to access JSON non-boolean as boolean");
  await exchange.context.server.unloadModel(route.model, dependents);
  exchange.context.trace.remove(route.model);
  exchange.empty();
};

export const systemStatus: Handler = (exchange, { name }) => {
  exchange.json(exchange.context.regions.status(name).map((region) => ({ name: region.name, key: region.key, offset: region.offset, byte_size: region.byteSize })));
};

export const systemRegister: Handler = async (exchange, { name }) => {
  exchange.context.regions.requireEnabled();
  const request = await readObject(exchange, "register");
  const key = request.get("key");
  if (key === undefined) throw new ServingError("INVALID_ARG", "Shared memory register request has no 'key' field");
  if (typeof key !== "string") throw unable("key", "attempt to access JSON non-string as string");
  if (!request.has("byte_size")) throw new ServingError("INVALID_ARG", "Shared memory register request has no 'byte_size' field");
  exchange.context.regions.register(name, key, count("offset", request.get("offset") ?? 0), count("byte_size", request.get("byte_size")!));
  exchange.empty();
};

function count(key: string, value: JsonValue): number {
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw unable(key, "attempt to access JSON non-unsigned-integer as unsigned-integer");
}

export const systemUnregister: Handler = (exchange, { name }) => {
  exchange.context.regions.unregister(name);
  exchange.empty();
};

export const cudaStatus: Handler = (exchange, { name }) => {
  if (name !== "") throw new ServingError("NOT_FOUND", `Unable to find cuda shared memory region: '${name}'`);
  exchange.json([]);
};

export const cudaRegister: Handler = (exchange, { name }) => exchange.context.regions.refuseCuda(name);

export const cudaUnregister: Handler = (exchange) => {
  exchange.context.regions.requireEnabled();
  exchange.empty();
};
