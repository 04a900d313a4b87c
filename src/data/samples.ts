/**
 * What calibration and evaluation read: samples, one at a time, with the columns that label them. Entries are known
 * without reading the samples themselves, so that a choice among thousands costs nothing.
 */
import { createHash } from "node:crypto";
import { type Tensor, UserError } from "../base/index.ts";

export interface Entry {
  readonly id: string;
  /** Label, key, whatever the data says of the sample. */
  readonly columns: Readonly<Record<string, string | number>>;
}

export interface Sample extends Entry {
  readonly feeds: Readonly<Record<string, Tensor>>;
}

export interface DataSet {
  readonly name: string;
  readonly entries: readonly Entry[];
  load(index: number): Promise<Sample>;
}

/** Samples of these entries in turn. */
export async function* samplesOf(data: DataSet, indices: readonly number[] = data.entries.map((_, i) => i)): AsyncGenerator<Sample> {
  for (const index of indices) yield await data.load(index);
}

/**
 * The same samples until the signal says no more. Each gives the event loop a turn, without which no signal arrives
 * while runs are short.
 * @throws UserError "aborted"
 */
export async function* interruptible(samples: AsyncIterable<Sample>, signal: AbortSignal | undefined): AsyncGenerator<Sample> {
  for await (const sample of samples) {
    await new Promise((resolve) => setImmediate(resolve));
    if (signal?.aborted) throw new UserError("aborted", "The work was cancelled; nothing was written.");
    yield sample;
  }
}

/** One digest over names, columns and feeds of samples, in order: says which data a figure was measured on. */
export class DataDigest {
  private readonly hash = createHash("sha256");

  add({ id, columns, feeds }: Sample): void {
    this.hash.update(JSON.stringify([id, columns]));
    for (const [name, tensor] of Object.entries(feeds)) this.hash.update(`${name} ${tensor.type} ${tensor.dims}`).update(tensor.bytes);
  }

  get value(): string {
    return this.hash.copy().digest("hex");
  }
}

/** What a model takes. */
export interface InputDescription {
  readonly name: string;
  readonly type: Tensor["type"];
  readonly dims: readonly (number | string)[] | undefined;
}

/** @throws UserError "input-invalid" for a missing input, a wrong rank or size, another type, and for NaN */
export function checkSample({ id, feeds }: Sample, inputs: readonly InputDescription[]): void {
  const refuse = (what: string): UserError => new UserError("input-invalid", `Sample "${id}": ${what}`);
  for (const { name, type, dims } of inputs) {
    const tensor = feeds[name];
    if (!tensor) throw refuse(`input "${name}" is missing; the sample has ${Object.keys(feeds).join(", ") || "nothing"}.`);
    if (tensor.type !== type) throw refuse(`input "${name}" is ${tensor.type}; expected ${type}.`);
    const fits = !dims || (dims.length === tensor.dims.length && dims.every((dim, i) => typeof dim === "string" || dim === tensor.dims[i]));
    if (!fits) throw refuse(`input "${name}" has shape [${tensor.dims.join(", ")}]; expected [${dims.join(", ")}].`);
    const bad = tensor.data instanceof Float32Array ? tensor.data.findIndex((item) => !Number.isFinite(item)) : -1;
    if (bad >= 0) throw refuse(`input "${name}" holds ${(tensor.data as Float32Array)[bad]} at element ${bad}; expected finite numbers. Leave the sample out, or mend how it is made.`);
  }
}

/**
 * Chooses `count` entries so that each value of `column` has as many as the others, as far as it has them; without a
 * column, evenly spread over the set.
 */
export function chooseEntries(entries: readonly Entry[], count: number, column?: string): number[] {
  if (column === undefined) {
    const taken = Math.min(count, entries.length);
    return Array.from({ length: taken }, (_, i) => Math.floor((i * entries.length) / taken));
  }
  const strata = [...groupByStratum(entries, column).values()];
  const chosen: number[] = [];
  for (let round = 0; chosen.length < count && strata.some((list) => round < list.length); round++) {
    for (const list of strata) if (round < list.length && chosen.length < count) chosen.push(list[round]!);
  }
  return chosen.sort((a, b) => a - b);
}

/** Indices of the entries by the column's value. @throws UserError when an entry does not have the column */
export function groupByStratum(entries: readonly Entry[], column: string): Map<string, number[]> {
  const strata = new Map<string, number[]>();
  entries.forEach(({ id, columns }, i) => {
    const value = columns[column];
    if (value === undefined) throw new UserError("option-invalid", `Sample "${id}" has no column "${column}"; it has ${Object.keys(columns).join(", ") || "none"}.`);
    const list = strata.get(String(value));
    if (list) list.push(i);
    else strata.set(String(value), [i]);
  });
  return strata;
}
