/**
 * Measured times of tactics, kept across builds, so that a second build is fast and gives the same engine.
 *
 * The file is JSON: for each kernel description (with instruction set, processor and threads in it) the median
 * nanoseconds of each tactic tried. Files merge; a write replaces the file by rename, so that a reader never sees half
 * of one, and two builds at once lose nothing but each other's newest times.
 */
import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { UserError } from "../base/index.ts";

const FORMAT = 1;

/** Nanoseconds per tactic name. */
export type Timings = Readonly<Record<string, number>>;

export class TimingCache {
  readonly #entries = new Map<string, Record<string, number>>();

  /** @throws UserError "file-io" when the file exists and cannot be read or is not a timing cache */
  static load(path: string): TimingCache {
    const cache = new TimingCache();
    cache.#merge(readEntries(path));
    return cache;
  }

  get(key: string): Timings | undefined {
    return this.#entries.get(key);
  }

  set(key: string, tactic: string, ns: number): void {
    const timings = this.#entries.get(key) ?? {};
    timings[tactic] = ns;
    this.#entries.set(key, timings);
  }

  /** Adds what the file holds by now, then replaces it. Own times win. */
  save(path: string): void {
    const merged = new TimingCache();
    merged.#merge(readEntries(path));
    merged.#merge(Object.fromEntries(this.#entries));
    const temporary = `${path}.${randomUUID()}.tmp`;
    try {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(temporary, merged.text());
      renameSync(temporary, path);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw new UserError("file-io", `Timing cache "${path}" cannot be written: ${(error as Error).message}.`);
    }
  }

  /** The file's content: entries sorted, so that equal caches are equal bytes. */
  text(): string {
    const kernels = Object.fromEntries([...this.#entries].sort(byKey).map(([key, timings]) => [key, Object.fromEntries(Object.entries(timings).sort(byKey))]));
    return `${JSON.stringify({ format: FORMAT, kernels }, null, 1)}\n`;
  }

  #merge(entries: Readonly<Record<string, Timings>>): void {
    for (const [key, timings] of Object.entries(entries)) {
      for (const [tactic, ns] of Object.entries(timings)) this.set(key, tactic, ns);
    }
  }
}

function byKey(a: readonly [string, unknown], b: readonly [string, unknown]): number {
  return a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0;
}

function readEntries(path: string): Readonly<Record<string, Timings>> {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new UserError("file-io", `Timing cache "${path}" cannot be read: ${(error as Error).message}.`);
  }
  const kernels = parse(text);
  if (!kernels) throw new UserError("file-io", `"${path}" is not a timing cache of format ${FORMAT}; delete it or name another file.`);
  return kernels;
}

function parse(text: string): Readonly<Record<string, Timings>> | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (!isRecord(json) || json["format"] !== FORMAT || !isRecord(json["kernels"])) return undefined;
  const kernels = json["kernels"];
  const valid = Object.values(kernels).every((timings) => isRecord(timings) && Object.values(timings).every((ns) => typeof ns === "number"));
  return valid ? (kernels as Record<string, Timings>) : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
