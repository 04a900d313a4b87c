/**
 * The models that are loaded. A load reads the repository, makes and warms the versions that its policy wants, and puts all of
 * them in place at once: until then the old ones serve, and they stay when anything fails, with the reason in the index.
 * Loads and unloads of one model happen one after another.
 */
import type { Logger } from "pino";
import { join } from "node:path";
import { UserError } from "../../base/index.ts";
import type { Backend, ModelSource } from "../../backends/index.ts";
import { chooseVersions, type ConfigChoice, isModelName, type ModelConfig, parseConfig, readConfig, stampOf, versionsIn } from "../../repository/index.ts";
import { type ModelState, type RepositoryEntry, ServingError } from "../contract.ts";
import { Ensemble, ENSEMBLE_PLATFORM, stepsOf } from "./ensemble.ts";
import { toServingError } from "./failure.ts";
import { type Repositories, type Upload, writeUpload } from "./model-source.ts";
import type { Served } from "./served.ts";
import { ServingVersion, type VersionDependencies } from "./serving-version.ts";

interface VersionState {
  readonly state: ModelState;
  readonly reason?: string;
}

interface Entry {
  readonly name: string;
  /** Those that serve, by number. */
  versions: ReadonlyMap<number, { readonly version: Served; readonly key: string }>;
  readonly states: Map<number, VersionState>;
  /** Why the model as a whole could not be loaded. */
  reason: string | undefined;
  /** Of the files that were last read, whether that went well or not. */
  stamp: string;
  upload: Upload | undefined;
  /** Of an ensemble that could not be loaded: the step that was not there. */
  missingStep: string | undefined;
  /** The load or unload that runs. */
  busy: Promise<unknown>;
  /** The unload that was asked for and is not over. */
  leaving: Promise<void>;
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
  readonly config?: ConfigChoice;
  /** How often a version whose making fails is tried again. */
  readonly retries?: number;
}

export class ModelStore {
  readonly #options: StoreOptions;
  readonly #entries = new Map<string, Entry>();
  readonly #closing = new Set<Promise<void>>();
  /** Of each ensemble that is being loaded: the steps that it has found serving, which stay until it is in place. */
  readonly #held = new Map<string, Set<string>>();
  /** Which step an ensemble's load waits for at the moment. */
  readonly #waitsFor = new Map<string, string>();

  constructor(options: StoreOptions) {
    this.#options = options;
  }

  /** The version that answers. @throws ServingError as Triton does */
  find(model: string, version: string): Served {
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
  serving(model = ""): Served[] {
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

  /** Whether an ensemble was refused for a step that has come since. */
  couldLoadNow(model: string): boolean {
    const step = this.#entries.get(model)?.missingStep;
    return step !== undefined && this.serving(step).length > 0;
  }

  names(): string[] {
    return [...this.#entries.values()].filter(({ versions }) => versions.size > 0).map(({ name }) => name);
  }

  /** @throws ServingError with the reason; what served before still does */
  async load(name: string, overrides: LoadOverrides = {}): Promise<void> {
    const entry = this.#entry(name);
    await this.#inTurn(entry, () => this.#load(entry, overrides));
  }

  /**
   * Resolves when the model is gone: all that it had accepted has been answered. Ensembles that have it as a step go first.
   * @param steps whether the models that it is an ensemble of go, too, unless others need them
   */
  async unload(name: string, steps = false): Promise<void> {
    const entry = this.#entries.get(name);
    if (!entry) return;
    const inner = steps ? this.serving(name).flatMap(({ config }) => stepsOf(config)) : [];
    const gone = entry.leaving.then(() => this.#leave(entry));
    entry.leaving = gone.catch(() => undefined);
    await gone;
    for (const model of new Set(inner)) if (!this.#isStep(model)) await this.unload(model);
  }

  /** Ensembles first, and those that are being loaded with it: from here on no other takes it as a step. */
  async #leave(entry: Entry): Promise<void> {
    for (const [ensemble, steps] of this.#held) if (steps.has(entry.name)) await this.#entry(ensemble).busy;
    for (const { name } of this.serving().filter(({ config }) => stepsOf(config).includes(entry.name))) await this.unload(name);
    await this.#inTurn(entry, () => this.#unload(entry));
  }

  #isStep(model: string): boolean {
    return this.serving().some(({ config }) => stepsOf(config).includes(model));
  }

  /** Answers all that was accepted and frees everything. */
  async close(): Promise<void> {
    await Promise.all([...this.#entries.values()].map((entry) => this.#inTurn(entry, () => this.#unload(entry))));
    await Promise.all(this.#closing);
  }

  #entry(name: string): Entry {
    let entry = this.#entries.get(name);
    if (!entry) this.#entries.set(name, (entry = { name, versions: new Map(), states: new Map(), reason: undefined, stamp: "", upload: undefined, missingStep: undefined, busy: Promise.resolve(), leaving: Promise.resolve() }));
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
      entry.missingStep = undefined;
      await this.#loadFrom(entry, folder, overrides);
      entry.upload?.remove();
      entry.upload = upload;
      entry.reason = undefined;
    } catch (error) {
      upload?.remove();
      const failure = error instanceof ServingError ? error : new ServingError("INTERNAL", `failed to load '${entry.name}', failed to poll from model repository: ${toServingError(error).message}`, { cause: error });
      entry.reason = failure.message;
      this.#held.delete(entry.name);
      if (entry.versions.size === 0 && entry.states.size === 0 && !this.#options.repositories.names().includes(entry.name)) this.#entries.delete(entry.name);
      throw failure;
    }
  }

  async #loadFrom(entry: Entry, folder: string, overrides: LoadOverrides): Promise<void> {
    const { name } = entry;
    const config = overrides.config === undefined ? readConfig(folder, name, this.#options.config) : parseConfig(overrides.config, name);
    const wanted = chooseVersions(config, versionsIn(folder));
    if (wanted.length === 0) throw new UserError("model-missing", `${folder} has no version that its policy allows; a version is a folder with a number as its name`);
    const made = new Map<number, { readonly version: Served; readonly key: string }>();
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
        made.set(number, { version: await this.#tryToLoad({ name, version: number, folder: join(folder, String(number)), config }), key });
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
    this.#held.delete(name);
    if (failures.length > 0) throw loadFailed(name, failures);
  }

  #failed(entry: Entry, number: number, error: unknown): string {
    const { message } = toServingError(error);
    entry.states.set(number, entry.versions.has(number) ? { state: "READY", reason: `the newer files were not loaded: ${message}` } : { state: "UNAVAILABLE", reason: message });
    return `version ${number} is at ${entry.versions.has(number) ? "READY" : "UNAVAILABLE"} state: ${message}`;
  }

  async #tryToLoad(source: ModelSource): Promise<Served> {
    for (let left = this.#options.retries ?? 0; ; left--) {
      try {
        return await this.#loadVersion(source);
      } catch (error) {
        if (left <= 0) throw error;
        this.#options.log.warn({ model: source.name, version: source.version, reason: (error as Error).message, left }, "a version could not be loaded; it is tried again");
      }
    }
  }

  async #loadVersion(source: ModelSource): Promise<Served> {
    const { backends, dependencies, log } = this.#options;
    if (isEnsemble(source.config)) return this.#loadEnsemble(source);
    const { backend, file } = chooseBackend(backends, source);
    const version = await ServingVersion.load(source, backend, file, dependencies);
    log.info({ model: source.name, version: source.version, from: file, on: version.summary, ms: Math.round(version.loadMs), max_batch_size: version.config.max_batch_size }, `loaded ${source.name} version ${source.version}`);
    return version;
  }

  /** Its models are loaded first, in the order of their names: two ensembles that wait for each other's would wait for ever. */
  async #loadEnsemble(source: ModelSource): Promise<Served> {
    const held = new Set<string>();
    this.#held.set(source.name, held);
    try {
      for (const model of [...stepsOf(source.config)].sort()) {
        const circle = this.#circle(model, [source.name]);
        if (circle) throw new UserError("config-invalid", `circular dependency between ensembles: ${circle.join(" -> ")}`);
        this.#waitsFor.set(source.name, model);
        await this.#entry(model).leaving;
        await this.#entry(model).busy;
        if (this.serving(model).length === 0) await this.#loadStep(source.name, model);
        held.add(model);
      }
    } finally {
      this.#waitsFor.delete(source.name);
    }
    const ensemble = new Ensemble(source, (model, version) => this.find(model, version), this.#options.dependencies);
    this.#options.log.info({ model: source.name, version: source.version, on: ensemble.summary }, `loaded ${source.name} version ${source.version}`);
    return ensemble;
  }

  async #loadStep(ensemble: string, model: string): Promise<void> {
    try {
      await this.load(model);
    } catch (error) {
      this.#entry(ensemble).missingStep = model;
      throw new UserError("model-missing", `ensemble '${ensemble}' depends on '${model}' which has no loaded version. Model '${model}' loading failed with error: ${(error as Error).message}`, { cause: error });
    }
  }

  /** The way by which a model leads to the first of the path: over ensembles that serve, and those that wait to be loaded. */
  #circle(model: string, path: readonly string[]): readonly string[] | undefined {
    if (model === path[0]) return [...path, model];
    if (path.includes(model)) return undefined;
    const waited = this.#waitsFor.get(model);
    const next = [...this.serving(model).flatMap(({ config }) => stepsOf(config)), ...(waited === undefined ? [] : [waited])];
    for (const step of next) {
      const found = this.#circle(step, [...path, model]);
      if (found) return found;
    }
    return undefined;
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

  #discard(gone: readonly { readonly version: Served }[]): void {
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

function isEnsemble({ platform, ensemble_scheduling }: ModelConfig): boolean {
  return platform === ENSEMBLE_PLATFORM || ensemble_scheduling !== undefined;
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
