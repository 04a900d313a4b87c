/**
 * The models that are loaded. A load reads the repository, makes and warms the versions that its policy wants, and puts all of
 * them in place at once: until then the old ones serve, and they stay when anything fails, with the reason in the index.
 * Loads and unloads of one model happen one after another.
 */
import type { Logger } from "pino";
import { join } from "node:path";
import { UserError } from "../../base/index.ts";
import type { Backend, ModelSource } from "../../backends/index.ts";
import { chooseVersions, isModelName, parseConfig, readConfig, stampOf, versionsIn } from "../../repository/index.ts";
import { type ModelState, type RepositoryEntry, ServingError } from "../contract.ts";
import { toServingError } from "./failure.ts";
import { type Repositories, type Upload, writeUpload } from "./model-source.ts";
import { ServingVersion, type VersionDependencies } from "./serving-version.ts";

interface VersionState {
  readonly state: ModelState;
  readonly reason?: string;
}

interface Entry {
  readonly name: string;
  /** Those that serve, by number. */
  versions: ReadonlyMap<number, { readonly version: ServingVersion; readonly key: string }>;
  readonly states: Map<number, VersionState>;
  /** Why the model as a whole could not be loaded. */
  reason: string | undefined;
  /** Of the files that were last read, whether that went well or not. */
  stamp: string;
  upload: Upload | undefined;
  /** The load or unload that runs. */
  busy: Promise<unknown>;
}

export interface LoadOverrides {
  readonly config?: string;
  readonly files?: ReadonlyMap<string, Uint8Array>;
}

export interface StoreOptions {
  readonly repositories: Repositories;
  readonly backends: readonly Backend[];
  readonly dependencies: VersionDependencies;
  readonly log: Logger;
}

export class ModelStore {
  readonly #options: StoreOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();

  constructor(options: StoreOptions) {
    this.#options = options;
  }

  /** The version that answers. @throws ServingError as Triton does */
  find(model: string, version: string): ServingVersion {
    const entry = this.#entries.get(model);
    if (!entry || entry.states.size === 0) throw new ServingError("INVALID_ARG", `Request for unknown model: '${model}' is not found`);
    if (version !== "" && !/^[1-9]\d{0,17}$/.test(version)) throw new ServingError("INVALID_ARG", `failed to get model version from specified version string '${version}' (details: stoll), version should be an integral value > 0`);
    const { versions } = entry;
    const found = version === "" ? last(versions) : versions.get(Number(version));
    if (found) return found.version;
    if (version !== "" && !entry.states.has(Number(version))) throw new ServingError("NOT_FOUND", `Request for unknown model: '${model}' version ${version} is not found`);
    const state = version === "" ? undefined : entry.states.get(Number(version));
    throw new ServingError("UNAVAILABLE", `Request for unknown model: '${model}' ${version === "" ? "has no available versions" : `version ${version} is not at ready state`}${state?.reason ? ` (${state.reason})` : ""}`);
  }

  /** All versions that serve, or those of one model. */
  serving(model = ""): ServingVersion[] {
    const entries = model === "" ? [...this.#entries.values()] : [this.#entries.get(model)];
    return entries.flatMap((entry) => (entry ? [...entry.versions.values()].map(({ version }) => version) : []));
  }

  index(onlyReady: boolean): RepositoryEntry[] {
    const names = new Set([...this.#options.repositories.names(), ...this.#entries.keys()]);
    return [...names].sort().flatMap((name): RepositoryEntry[] => {
      const entry = this.#entries.get(name);
      const listed = [...(entry?.states ?? [])].sort(([a], [b]) => a - b).map(([version, { state, reason }]): RepositoryEntry => ({ name, version: String(version), state, ...(reason ? { reason } : {}) }));
      if (onlyReady) return listed.filter(({ state }) => state === "READY");
      if (listed.length > 0) return listed;
      return [entry?.reason ? { name, state: "UNAVAILABLE", reason: entry.reason } : { name }];
    });
  }

  /** Stamp of the files that a model was last loaded from, or was last refused for. */
  stampOf(model: string): string | undefined {
    return this.#entries.get(model)?.stamp;
  }

  names(): string[] {
    return [...this.#entries.values()].filter(({ versions }) => versions.size > 0).map(({ name }) => name);
  }

  /** @throws ServingError with the reason; what served before still does */
  async load(name: string, overrides: LoadOverrides = {}): Promise<void> {
    const entry = this.#entry(name);
    await this.#inTurn(entry, () => this.#load(entry, overrides));
  }

  /** Resolves when the model is gone: all that it had accepted has been answered. */
  async unload(name: string): Promise<void> {
    const entry = this.#entries.get(name);
    if (entry) await this.#inTurn(entry, () => this.#unload(entry));
  }

  /** Answers all that was accepted and frees everything. */
  async close(): Promise<void> {
    await Promise.all([...this.#entries.values()].map((entry) => this.#inTurn(entry, () => this.#unload(entry))));
    await Promise.all(this.#closing);
  }

  #entry(name: string): Entry {
    let entry = this.#entries.get(name);
    if (!entry) this.#entries.set(name, (entry = { name, versions: new Map(), states: new Map(), reason: undefined, stamp: "", upload: undefined, busy: Promise.resolve() }));
    return entry;
  }

  #inTurn<T>(entry: Entry, work: () => Promise<T>): Promise<T> {
    const mine = entry.busy.then(work);
    entry.busy = mine.catch(() => undefined);
    return mine;
  }

  async #load(entry: Entry, overrides: LoadOverrides): Promise<void> {
    let upload: Upload | undefined;
    try {
      if (!isModelName(entry.name)) throw new ServingError("INVALID_ARG", `failed to load '${entry.name}': that is not a model's name`);
      upload = overrides.files?.size ? writeUpload(entry.name, overrides.files) : undefined;
      const folder = upload?.folder ?? this.#options.repositories.find(entry.name);
      entry.stamp = stampOf(folder).text;
      await this.#loadFrom(entry, folder, overrides);
      entry.upload?.remove();
      entry.upload = upload;
      entry.reason = undefined;
    } catch (error) {
      upload?.remove();
      const failure = error instanceof ServingError ? error : new ServingError("INTERNAL", `failed to load '${entry.name}', failed to poll from model repository: ${toServingError(error).message}`, { cause: error });
      entry.reason = failure.message;
      if (entry.versions.size === 0 && entry.states.size === 0 && !this.#options.repositories.names().includes(entry.name)) this.#entries.delete(entry.name);
      throw failure;
    }
  }

  async #loadFrom(entry: Entry, folder: string, overrides: LoadOverrides): Promise<void> {
    const { name } = entry;
    const config = overrides.config === undefined ? readConfig(folder, name) : parseConfig(overrides.config, name);
    const wanted = chooseVersions(config, versionsIn(folder));
    if (wanted.length === 0) throw new UserError("model-missing", `${folder} has no version that its policy allows; a version is a folder with a number as its name`);
    const made = new Map<number, { readonly version: ServingVersion; readonly key: string }>();
    const failures: string[] = [];
    const before = entry.versions;
    for (const number of wanted) if (!before.has(number)) entry.states.set(number, { state: "LOADING" });
    for (const number of wanted) {
      const key = `${JSON.stringify(config)}|${versionStamp(folder, entry.stamp, number)}`;
      const kept = before.get(number);
      if (kept?.key === key) {
        made.set(number, kept);
        continue;
      }
      try {
        made.set(number, { version: await this.#loadVersion({ name, version: number, folder: join(folder, String(number)), config }), key });
      } catch (error) {
        failures.push(this.#failed(entry, number, error));
      }
    }
    if (stampOf(folder).text !== entry.stamp) failures.push("its files changed while they were read; load it again when they rest");
    if (failures.length > 0 && (before.size > 0 || made.size === 0 || failures.length > wanted.length)) {
      this.#discard([...made.values()].filter((one) => ![...before.values()].includes(one)));
      throw loadFailed(name, failures);
    }
    this.#putInPlace(entry, made);
    if (failures.length > 0) throw loadFailed(name, failures);
  }

  #failed(entry: Entry, number: number, error: unknown): string {
    const { message } = toServingError(error);
    entry.states.set(number, entry.versions.has(number) ? { state: "READY", reason: `the newer files were not loaded: ${message}` } : { state: "UNAVAILABLE", reason: message });
    return `version ${number} is at ${entry.versions.has(number) ? "READY" : "UNAVAILABLE"} state: ${message}`;
  }

  async #loadVersion(source: ModelSource): Promise<ServingVersion> {
    const { backends, dependencies, log } = this.#options;
    const { backend, file } = chooseBackend(backends, source);
    const version = await ServingVersion.load(source, backend, file, dependencies);
    log.info({ model: source.name, version: source.version, from: file, on: version.summary, ms: Math.round(version.loadMs), max_batch_size: version.config.max_batch_size }, `loaded ${source.name} version ${source.version}`);
    return version;
  }

  #putInPlace(entry: Entry, made: Entry["versions"]): void {
    const before = entry.versions;
    entry.versions = new Map([...made].sort(([a], [b]) => a - b));
    for (const number of made.keys()) entry.states.set(number, { state: "READY" });
    const gone = [...before].filter(([number, one]) => made.get(number) !== one);
    for (const [number] of gone) if (!made.has(number)) this.#retire(entry, number);
    this.#discard(gone.map(([, one]) => one));
    for (const [number, one] of made) if (before.get(number) !== one) one.version.improve();
  }

  #retire(entry: Entry, number: number): void {
    entry.states.set(number, { state: "UNAVAILABLE", reason: "unloaded" });
  }

  #discard(gone: readonly { readonly version: ServingVersion }[]): void {
    for (const { version } of gone) {
      const closing = version.close().catch((error: unknown) => this.#options.log.error({ err: error }, "a version could not be freed"));
      this.#closing.add(closing);
      void closing.finally(() => this.#closing.delete(closing));
    }
  }

  async #unload(entry: Entry): Promise<void> {
    const gone = [...entry.versions];
    entry.versions = new Map();
    for (const [number] of gone) entry.states.set(number, { state: "UNLOADING" });
    await Promise.all(gone.map(([, { version }]) => version.close()));
    for (const [number] of gone) this.#retire(entry, number);
    entry.stamp = "";
    entry.upload?.remove();
    entry.upload = undefined;
    if (gone.length > 0) this.#options.log.info({ model: entry.name }, `unloaded ${entry.name}`);
  }
}

/** The repository was read, but versions could not be made. */
function loadFailed(name: string, failures: readonly string[]): ServingError {
  return new ServingError("INVALID_ARG", `load failed for model '${name}': ${failures.join("; ")}`);
}

/** The part of a model folder's stamp that one version depends on: not the other versions, nor the configuration, which is compared by content. */
function versionStamp(folder: string, stamp: string, version: number): string {
  const concerns = (line: string): boolean => {
    const [first = ""] = line.slice(folder.length + 1).split(/[/|]/);
    return first === String(version) || !(/^\d+$/.test(first) || first.startsWith("config."));
  };
  return stamp.split("\n").filter(concerns).join("\n");
}

function last<T>(versions: ReadonlyMap<number, T>): T | undefined {
  let found: T | undefined;
  for (const one of versions.values()) found = one;
  return found;
}

/** The backend that the configuration names, or the first that finds its file. @throws UserError "model-missing" */
function chooseBackend(backends: readonly Backend[], source: ModelSource): { readonly backend: Backend; readonly file: string } {
  const wanted = source.config.backend;
  const candidates = wanted ? backends.filter(({ name }) => name === wanted) : backends;
  if (candidates.length === 0) throw new UserError("config-invalid", `backend "${wanted}" is not there; there are ${backends.map(({ name }) => `"${name}"`).join(", ")}, and without a backend an ONNX model is compiled`);
  for (const backend of candidates) {
    const file = backend.find(source);
    if (file !== undefined) return { backend, file };
  }
  throw new UserError("model-missing", `${source.folder} has no model file; expected ${source.config.default_model_filename ? `"${source.config.default_model_filename}"` : '"model.engine" or "model.onnx"'}`);
}
