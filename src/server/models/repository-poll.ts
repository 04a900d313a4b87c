/**
 * Mode `poll`: looks at the repositories again and again, and loads what has changed and then rested: the same files, sizes
 * and dates in two looks that are apart, none of them written a moment ago. So a repository that is being copied
 * does not go live half-written; a version whose files are refused is tried again when they change, an ensemble when the step
 * that it lacked is there.
 */
import type { Logger } from "pino";
import { type Stamp, stampOf } from "../../repository/index.ts";
import type { Repositories } from "./model-source.ts";
import type { ModelStore } from "./model-store.ts";

/** How long files must have been left alone. */
const SETTLE_MS = 500;

export class RepositoryPoll {
  readonly #store: ModelStore;
  readonly #repositories: Repositories;
  readonly #log: Logger;
  readonly #seen = new Map<string, string>();
  readonly #timer: NodeJS.Timeout;
  #looking: Promise<void> | undefined;

  constructor(store: ModelStore, repositories: Repositories, everyMs: number, log: Logger) {
    this.#store = store;
    this.#repositories = repositories;
    this.#log = log;
    this.#timer = setInterval(() => {
      this.#looking ??= this.look().catch((error: unknown) => this.#log.error({ err: error }, "looking at the model repository failed")).finally(() => { this.#looking = undefined; });
    }, everyMs);
    this.#timer.unref();
  }

  /** One look. */
  async look(): Promise<void> {
    const names = this.#repositories.names();
    for (const name of this.#store.names()) {
      if (names.includes(name)) continue;
      this.#log.info({ model: name }, `${name} has gone from the repository`);
      await this.#store.unload(name);
    }
    for (const name of names) {
      const stamp = this.#stamp(name);
      if (!stamp || (stamp.text === this.#store.stampOf(name) && !this.#store.couldLoadNow(name))) continue;
      const before = this.#seen.get(name);
      this.#seen.set(name, stamp.text);
      if (before !== stamp.text || Date.now() - stamp.newestMs < SETTLE_MS) continue;
      await this.#store.load(name).catch((error: Error) => this.#log.error({ model: name, reason: error.message }, `${name} was not loaded`));
    }
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  #stamp(name: string): Stamp | undefined {
    try {
      return stampOf(this.#repositories.find(name));
    } catch {
      // It went between two system calls, or is in two repositories; loading it says so.
      return undefined;
    }
  }
}
