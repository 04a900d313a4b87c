/**
 * The `InferenceServer` that front ends ask: models by name and version, room for requests, loading and unloading by the
 * mode the server was started in.
 */
import type { Logger } from "pino";
import {
  type InferenceRequest, type InferenceResponse, type InferenceServer, type ModelMetadata, type ModelStatistics, type RepositoryEntry, ServingError,
} from "../contract.ts";
import type { LoadOverrides, ModelStore } from "./model-store.ts";
import type { Served } from "./served.ts";

export type ControlMode = "none" | "poll" | "explicit";

export interface ModelServerOptions {
  readonly store: ModelStore;
  readonly mode: ControlMode;
  /** Bytes of request bodies that may be in the server at once. */
  readonly maxBodyBytes: number;
  /** Whether load requests may bring model files: whoever can send them can run code. */
  readonly allowUpload: boolean;
  readonly log: Logger;
}

type LoadParameters = ReadonlyMap<string, string | Uint8Array | boolean | number | bigint>;

export class ModelServer implements InferenceServer {
  readonly #options: ModelServerOptions;
  #bodyBytes = 0;
  #inFlight = 0;
  #state: "starting" | "ready" | "draining" | "stopping" = "starting";
  #idle: (() => void) | undefined;

  constructor(options: ModelServerOptions) {
    this.#options = options;
  }

  /** The start-up set is warm. */
  setReady(): void {
    if (this.#state === "starting") this.#state = "ready";
  }

  /** Not ready any more, so that no new clients come; those that are here are still answered. */
  setDraining(): void {
    this.#state = "draining";
    for (const version of this.#options.store.serving()) version.flush();
  }

  /** Takes no more requests and waits for those that were accepted, at most so long. @returns how many were left */
  async drain(mostMs: number): Promise<number> {
    this.#state = "stopping";
    if (this.#inFlight > 0) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#idle = resolve;
        timer = setTimeout(resolve, mostMs);
      });
      clearTimeout(timer);
    }
    return this.#inFlight;
  }

  live(): boolean {
    return true;
  }

  ready(): boolean {
    return this.#state === "ready";
  }

  modelReady(model: string, version: string): boolean {
    try {
      this.#options.store.find(model, version);
      return this.#state === "starting" || this.#state === "ready";
    } catch (error) {
      if (error instanceof ServingError && error.status === "UNAVAILABLE") return false;
      throw error;
    }
  }

  modelMetadata(model: string, version: string): ModelMetadata {
    const found = this.#options.store.find(model, version);
    const versions = version === "" ? this.#options.store.serving(model).map((one) => one.version) : [found.version];
    return { name: model, versions, platform: found.platform, ...found.signature.metadata() };
  }

  modelConfig(model: string, version: string): Readonly<Record<string, unknown>> {
    return this.#options.store.find(model, version).plainConfig();
  }

  statistics(model: string, version: string): readonly ModelStatistics[] {
    if (model === "") return this.#options.store.serving().map((one) => one.statistics());
    const found = this.#options.store.find(model, version);
    return (version === "" ? this.#options.store.serving(model) : [found]).map((one) => one.statistics());
  }

  enter(model: string, version: string, bodyBytes: number): void {
    this.#checkRunning();
    const { maxBodyBytes, store } = this.#options;
    const found = store.find(model, version);
    if (this.#bodyBytes > 0 && this.#bodyBytes + bodyBytes > maxBodyBytes) throw new ServingError("UNAVAILABLE", `Exceeds maximum queue size: requests of ${this.#bodyBytes} bytes are in the server, which takes ${maxBodyBytes}`);
    found.checkRoom(bodyBytes);
    this.#bodyBytes += bodyBytes;
  }

  leave(_model: string, _version: string, bodyBytes: number): void {
    this.#bodyBytes -= bodyBytes;
  }

  async infer(request: InferenceRequest): Promise<InferenceResponse> {
    const version = this.#begin(request);
    if (isDecoupled(version)) {
      this.#end();
      throw new ServingError("UNSUPPORTED", "ModelInfer RPC doesn't support models with decoupled transaction policy");
    }
    try {
      return await version.infer(request);
    } finally {
      this.#end();
    }
  }

  async inferStream(request: InferenceRequest, onResponse: (response: InferenceResponse, isLast: boolean) => void): Promise<void> {
    const version = this.#begin(request);
    try {
      if (version.inferStream) await version.inferStream(request, (response) => onResponse(response, false));
      else onResponse(await version.infer(request), true);
    } finally {
      this.#end();
    }
  }

  isDecoupled(model: string, version: string): boolean {
    return isDecoupled(this.#options.store.find(model, version));
  }

  #begin({ model, version }: InferenceRequest): Served {
    this.#checkRunning();
    const found = this.#options.store.find(model, version);
    this.#inFlight++;
    return found;
  }

  #end(): void {
    if (--this.#inFlight === 0) this.#idle?.();
  }

  repositoryIndex(onlyReady: boolean): readonly RepositoryEntry[] {
    return this.#options.store.index(onlyReady);
  }

  async loadModel(model: string, parameters: LoadParameters): Promise<void> {
    this.#checkExplicit();
    if (model.trim() === "") throw new ServingError("INVALID_ARG", "Model name cannot be empty. Please enter a valid name to deploy.");
    if (/[/\\]|^\.+$/.test(model)) throw new ServingError("INVALID_ARG", `invalid model name '${model}', model name must not contain path traversal characters`);
    await this.#options.store.load(model, this.#overrides(model, parameters));
  }

  async unloadModel(model: string, unloadDependents: boolean): Promise<void> {
    this.#checkExplicit();
    await this.#options.store.unload(model, unloadDependents);
  }

  #overrides(model: string, parameters: LoadParameters): LoadOverrides {
    const config = parameters.get("config");
    const files = new Map<string, Uint8Array>();
    for (const [name, value] of parameters) if (name.startsWith("file:") && value instanceof Uint8Array) files.set(name, value);
    if (config !== undefined && typeof config !== "string") throw new ServingError("INVALID_ARG", "attribute 'config' is expected to be a string of JSON");
    if (files.size > 0 && config === undefined) throw new ServingError("INTERNAL", `failed to load '${model}', failed to poll from model repository: override model directory requires 'config' parameter`);
    if (files.size > 0 && config !== undefined && !this.#options.allowUpload) throw new ServingError("UNSUPPORTED", "model files in load requests are refused, since they are code; start the server with --allow-model-upload to take them");
    return { ...(config === undefined ? {} : { config }), ...(files.size > 0 ? { files } : {}) };
  }

  #checkRunning(): void {
    if (this.#state === "stopping") throw new ServingError("UNAVAILABLE", "Server is stopping, not accepting new requests");
  }

  #checkExplicit(): void {
    this.#checkRunning();
    if (this.#options.mode !== "explicit") throw new ServingError("UNAVAILABLE", "explicit model load / unload is not allowed if polling is enabled");
  }
}

function isDecoupled({ config }: Served): boolean {
  return config.model_transaction_policy?.decoupled ?? false;
}
