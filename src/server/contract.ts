/**
 * What stands between the front ends (HTTP, gRPC) and what answers them: the shapes of KServe v2 requests in memory,
 * and the one interface through which front ends ask.
 *
 * A front end parses bytes, calls `InferenceServer`, and writes bytes; it knows nothing of files, batches or backends. The
 * server knows nothing of JSON or protobuf. Tensors are raw little-endian bytes on both sides.
 */

/** Datatype names of KServe v2. */
export type Datatype = "BOOL" | "UINT8" | "UINT16" | "UINT32" | "UINT64" | "INT8" | "INT16" | "INT32" | "INT64" | "FP16" | "BF16" | "FP32" | "FP64" | "BYTES";

export type ParameterValue = boolean | number | bigint | string;
export type Parameters = ReadonlyMap<string, ParameterValue>;

/** One tensor of a request. */
export interface RequestInput {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  /**
   * Little-endian, row-major; BYTES as a 32-bit length before each element. Borrowed: it must not change until the
   * request's promise has settled.
   */
  readonly bytes: Uint8Array;
}

export interface RequestedOutput {
  readonly name: string;
  /** The K of the classification extension; 0 for the tensor itself. */
  readonly classification: number;
}

/** Told when a request's steps begin and end, and of its tensors where they are traced. */
export interface RequestTrace {
  readonly tensors: boolean;
  /** @param ns on the clock of `performance.now`; now when absent */
  at(name: string, ns?: number): void;
  tensor(activity: "TENSOR_QUEUE_INPUT" | "TENSOR_BACKEND_OUTPUT", tensor: RequestInput): void;
  /** The trace of a request to another model that this one is made of. */
  step(model: string): RequestTrace;
  /** Who it was. Without that it was refused before a model had it. */
  name(version: string, requestId: string): void;
}

/** One inference as a front end asks for it. The front end owns the object and keeps it until the answer. */
export interface InferenceRequest {
  readonly model: string;
  /** Empty: the version policy decides. */
  readonly version: string;
  readonly id: string;
  /** All that the request carries beside what has a field here. */
  readonly parameters: Parameters;
  readonly inputs: readonly RequestInput[];
  /** All outputs when absent. */
  readonly outputs?: readonly RequestedOutput[];
  /** 0: the model's default. */
  readonly priority: number;
  /** Microseconds the request may wait in the queue; 0: the model's default. */
  readonly timeoutUs: number;
  /** Set by the front end when the client has gone: work that has not started is dropped. */
  cancelled: boolean;
  /** Of requests that are traced. */
  readonly trace?: RequestTrace;
}

/** The same request with other fields. `cancelled` stays the original's: the front end goes on to set it there. */
export function derivedRequest(request: InferenceRequest, fields: Partial<Omit<InferenceRequest, "cancelled">>): InferenceRequest {
  return Object.create(request, Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, { value }]))) as InferenceRequest;
}

export interface ResponseOutput {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
  /** As in `RequestInput`. Valid until the response is released. */
  readonly bytes: Uint8Array;
}

export interface InferenceResponse {
  readonly model: string;
  readonly version: string;
  readonly id: string;
  readonly parameters: Parameters;
  readonly outputs: readonly ResponseOutput[];
  /** Gives the memory behind `outputs` back; called once, after the last byte was written or dropped. */
  release(): void;
}

export interface TensorMetadata {
  readonly name: string;
  readonly datatype: Datatype;
  /** -1 for a dimension that varies. */
  readonly shape: readonly number[];
}

export interface ModelMetadata {
  readonly name: string;
  /** Versions that are ready. */
  readonly versions: readonly string[];
  readonly platform: string;
  readonly inputs: readonly TensorMetadata[];
  readonly outputs: readonly TensorMetadata[];
}

/** Count and total time of one kind of event. */
export interface DurationStatistic {
  readonly count: number;
  readonly ns: number;
}

export interface BatchStatistic {
  readonly batchSize: number;
  readonly computeInput: DurationStatistic;
  readonly computeInfer: DurationStatistic;
  readonly computeOutput: DurationStatistic;
}

/** Triton's statistics extension: one row per version. */
export interface ModelStatistics {
  readonly name: string;
  readonly version: string;
  /** Milliseconds since 1970; 0 before the first. */
  readonly lastInferenceMs: number;
  readonly inferenceCount: number;
  readonly executionCount: number;
  readonly success: DurationStatistic;
  readonly fail: DurationStatistic;
  readonly queue: DurationStatistic;
  readonly computeInput: DurationStatistic;
  readonly computeInfer: DurationStatistic;
  readonly computeOutput: DurationStatistic;
  readonly batches: readonly BatchStatistic[];
  readonly memory: readonly { readonly type: string; readonly id: number; readonly byteSize: number }[];
}

export type ModelState = "UNKNOWN" | "READY" | "UNAVAILABLE" | "LOADING" | "UNLOADING";

export interface RepositoryEntry {
  readonly name: string;
  readonly version?: string;
  readonly state?: ModelState;
  /** Why it is not ready. */
  readonly reason?: string;
}

/** Triton's status codes; `base/errors.ts` and the front ends map them to HTTP and gRPC. */
export type StatusCode = "UNKNOWN" | "INTERNAL" | "NOT_FOUND" | "INVALID_ARG" | "UNAVAILABLE" | "UNSUPPORTED" | "ALREADY_EXISTS" | "CANCELLED";

/** A refusal or failure that the client is told of. */
export class ServingError extends Error {
  readonly status: StatusCode;

  constructor(status: StatusCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ServingError";
    this.status = status;
  }
}

/** All that front ends ask for. Methods throw `ServingError`; anything else that is thrown is a bug and answered as INTERNAL. */
export interface InferenceServer {
  live(): boolean;
  ready(): boolean;
  /** @throws INVALID_ARG for an unknown model, NOT_FOUND for an unknown version */
  modelReady(model: string, version: string): boolean;
  modelMetadata(model: string, version: string): ModelMetadata;
  /** The complete model configuration with all defaults, as a plain object in the schema of `inference.ModelConfig` (snake_case names, 64-bit fields as numbers). */
  modelConfig(model: string, version: string): Readonly<Record<string, unknown>>;
  /** All models for "", all ready versions for a model and "". */
  statistics(model: string, version: string): readonly ModelStatistics[];

  /**
   * Room for a request of that many body bytes, asked before the body is read; its bytes count as queued until `leave`.
   * @throws UNAVAILABLE when the model's queue or the server's byte budget is full
   */
  enter(model: string, version: string, bodyBytes: number): void;
  leave(model: string, version: string, bodyBytes: number): void;

  /** Whether the model answers a request any number of times: then only `inferStream` takes it. */
  isDecoupled(model: string, version: string): boolean;
  /** One request, one answer. @throws UNSUPPORTED for decoupled models */
  infer(request: InferenceRequest): Promise<InferenceResponse>;
  /**
   * One request, any number of answers in order; resolves after the last.
   * @param onResponse `isLast` is false, too, where the model did not know that there would be no other
   */
  inferStream(request: InferenceRequest, onResponse: (response: InferenceResponse, isLast: boolean) => void): Promise<void>;

  repositoryIndex(onlyReady: boolean): readonly RepositoryEntry[];
  /** @param parameters `config` (JSON text) and `file:<version>/<name>` (bytes), as the extension says */
  loadModel(model: string, parameters: ReadonlyMap<string, string | Uint8Array | boolean | number | bigint>): Promise<void>;
  unloadModel(model: string, unloadDependents: boolean): Promise<void>;
}
