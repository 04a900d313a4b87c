/** The rpcs that control the server: a request message, an answer message, and what stands between. */
import type { ApiCategory } from "../extensions/restrictions.ts";
import { ServingError } from "../contract.ts";
import { indexDocument, metadataDocument, serverDocument, statisticsDocument } from "../wire/documents.ts";
import type { GrpcContext } from "./context.ts";
import * as messages from "./messages.ts";
import { type Message, type Plain, toCount } from "./schema.ts";

export interface Method {
  readonly category: ApiCategory;
  readonly request: Message;
  readonly response: Message;
  handle(context: GrpcContext, request: Plain): Plain | Promise<Plain>;
}

const named = (request: Plain): [string, string] => [String(request["name"]), String(request["version"])];

function refuseRepository(request: Plain): void {
  if (request["repository_name"] !== "") throw new ServingError("UNSUPPORTED", "'repository_name' specification is not supported");
}

/** Values of a map whose entries are messages with one member. */
function* choices(map: unknown): Generator<[string, string | Uint8Array | boolean | number | bigint | undefined]> {
  for (const [key, value] of map as ReadonlyMap<string, Plain>) yield [key, Object.values(value)[0] as string | Uint8Array | boolean | number | bigint | undefined];
}

export const METHODS: Readonly<Record<string, Method>> = {
  ServerLive: { category: "health", request: messages.Empty, response: messages.Live, handle: ({ server }) => ({ live: server.live() }) },
  ServerReady: { category: "health", request: messages.Empty, response: messages.Ready, handle: ({ server }) => ({ ready: server.ready() }) },
  ModelReady: { category: "health", request: messages.NameAndVersion, response: messages.Ready, handle: ({ server }, request) => ({ ready: server.modelReady(...named(request)) }) },
  ServerMetadata: { category: "metadata", request: messages.Empty, response: messages.ServerMetadata, handle: ({ identity }) => serverDocument(identity) },
  ModelMetadata: { category: "metadata", request: messages.NameAndVersion, response: messages.ModelMetadata, handle: ({ server }, request) => metadataDocument(server.modelMetadata(...named(request))) },
  ModelConfig: { category: "model-config", request: messages.NameAndVersion, response: messages.ModelConfigResponse, handle: ({ server }, request) => ({ config: server.modelConfig(...named(request)) }) },
  ModelStatistics: { category: "statistics", request: messages.NameAndVersion, response: messages.Statistics, handle: ({ server }, request) => statisticsDocument(server, ...named(request)) },
  RepositoryIndex: {
    category: "model-repository",
    request: messages.IndexRequest,
    response: messages.Index,
    handle: ({ server }, request) => {
      refuseRepository(request);
      return { models: indexDocument(server.repositoryIndex(request["ready"] === true)) };
    },
  },
  RepositoryModelLoad: {
    category: "model-repository",
    request: messages.LoadRequest,
    response: messages.Empty,
    handle: async ({ server }, request) => {
      refuseRepository(request);
      const parameters = new Map<string, string | Uint8Array | boolean | number | bigint>();
      for (const [key, value] of choices(request["parameters"])) if (value !== undefined) parameters.set(key, value instanceof Uint8Array ? Buffer.from(value) : value);
      await server.loadModel(String(request["model_name"]), parameters);
      return {};
    },
  },
  RepositoryModelUnload: {
    category: "model-repository",
    request: messages.LoadRequest,
    response: messages.Empty,
    handle: async ({ server, extensions }, request) => {
      refuseRepository(request);
      const dependents = [...choices(request["parameters"])].some(([key, value]) => key === "unload_dependents" && value === true);
      await server.unloadModel(String(request["model_name"]), dependents);
      extensions.trace.remove(String(request["model_name"]));
      return {};
    },
  },
  SystemSharedMemoryStatus: {
    category: "shared-memory",
    request: messages.Name,
    response: messages.SystemRegions,
    handle: ({ extensions }, request) => ({
      regions: new Map(extensions.regions.status(String(request["name"])).map(({ name, key, offset, byteSize }) => [name, { name, key, offset, byte_size: byteSize }])),
    }),
  },
  SystemSharedMemoryRegister: {
    category: "shared-memory",
    request: messages.RegisterSystemRegion,
    response: messages.Empty,
    handle: ({ extensions }, request) => {
      extensions.regions.register(String(request["name"]), String(request["key"]), toCount("offset", request["offset"]), toCount("byte_size", request["byte_size"]));
      return {};
    },
  },
  SystemSharedMemoryUnregister: {
    category: "shared-memory",
    request: messages.Name,
    response: messages.Empty,
    handle: ({ extensions }, request) => {
      extensions.regions.unregister(String(request["name"]));
      return {};
    },
  },
  CudaSharedMemoryStatus: {
    category: "shared-memory",
    request: messages.Name,
    response: messages.CudaRegions,
    handle: (_context, request) => {
      if (request["name"] !== "") throw new ServingError("NOT_FOUND", `Unable to find cuda shared memory region: '${String(request["name"])}'`);
      return { regions: {} };
    },
  },
  CudaSharedMemoryRegister: { category: "shared-memory", request: messages.RegisterCudaRegion, response: messages.Empty, handle: ({ extensions }, request) => extensions.regions.refuseCuda(String(request["name"])) },
  CudaSharedMemoryUnregister: {
    category: "shared-memory",
    request: messages.Name,
    response: messages.Empty,
    handle: ({ extensions }) => {
      extensions.regions.requireEnabled();
      return {};
    },
  },
  TraceSetting: {
    category: "trace",
    request: messages.TraceRequest,
    response: messages.TraceResponse,
    handle: ({ server, extensions }, request) => {
      const model = String(request["model_name"]);
      if (model !== "" && !server.modelReady(model, "")) throw new ServingError("INVALID_ARG", `Request for unknown model : ${model}`);
      const settings = request["settings"] as ReadonlyMap<string, { readonly value?: readonly string[] }>;
      // A setting without values is cleared.
      extensions.trace.update(model, new Map([...settings].map(([key, { value = [] }]) => [key, value.length === 0 ? null : value])));
      return { settings: Object.fromEntries(Object.entries(extensions.trace.document(model)).map(([key, value]) => [key, { value: Array.isArray(value) ? value : [value] }])) };
    },
  },
  LogSettings: {
    category: "logging",
    request: messages.LogMessage,
    response: messages.LogMessage,
    handle: ({ extensions }, request) => {
      extensions.log.update(new Map([...choices(request["settings"])].map(([key, value]) => [key, value ?? null])));
      return { settings: Object.fromEntries(Object.entries(extensions.log.values).map(([key, value]) => [key, logValue(value)])) };
    },
  },
};

function logValue(value: string | number | boolean): Plain {
  return typeof value === "boolean" ? { bool_param: value } : typeof value === "number" ? { uint32_param: value } : { string_param: value };
}
