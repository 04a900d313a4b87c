/** An output in a few numbers. */
import { Tensor } from "../base/index.ts";
import { type HostValue, numbersOf } from "../reference/index.ts";

const SHOWN = 8;

export interface Summary {
  readonly name: string;
  readonly type: string;
  readonly dims?: readonly number[];
  readonly min?: number;
  readonly max?: number;
  readonly mean?: number;
  /** Elements that are NaN; left out of the other numbers. */
  readonly nan?: number;
  readonly first?: readonly (number | string)[];
  /** Values of a sequence. */
  readonly length?: number;
}

export function summarizeValue(name: string, value: HostValue): Summary {
  if (value === undefined) return { name, type: "nothing" };
  if (!(value instanceof Tensor)) return { name, type: "sequence", length: value.sequence.length };
  const { type, dims, data } = value;
  if (Array.isArray(data)) return { name, type, dims, first: data.slice(0, SHOWN) };
  if (type.startsWith("complex")) return { name, type, dims, first: Array.from(data.subarray(0, SHOWN), Number) };
  const numbers = numbersOf(value);
  return { name, type, dims, ...statistics(numbers), first: Array.from(numbers.slice(0, SHOWN)) };
}

function statistics(numbers: ArrayLike<number>): Pick<Summary, "min" | "max" | "mean" | "nan"> {
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  let sum = 0;
  let nan = 0;
  for (let i = 0; i < numbers.length; i++) {
    const value = numbers[i]!;
    if (Number.isNaN(value)) {
      nan++;
      continue;
    }
    min = Math.min(min, value);
    max = Math.max(max, value);
    sum += value;
  }
  const count = numbers.length - nan;
  return { ...(count > 0 ? { min, max, mean: sum / count } : {}), ...(nan > 0 ? { nan } : {}) };
}

/** Seven digits at most, as float32 has them. */
export function numberText(value: number | string): string {
  return typeof value === "string" ? JSON.stringify(value) : Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}

export function summaryText({ name, type, dims, min, max, mean, nan, first, length }: Summary): string {
  const range = min === undefined ? "" : `  min ${numberText(min)}  max ${numberText(max!)}  mean ${numberText(mean!)}`;
  const bad = nan === undefined ? "" : `  NaN ${nan}`;
  const head = `${name}: ${type}${dims ? `[${dims.join(", ")}]` : ""}${length === undefined ? "" : ` of ${length} values`}${range}${bad}`;
  if (!first || first.length === 0) return head;
  const count = (dims ?? []).reduce((product, dim) => product * dim, 1);
  return `${head}\n  ${first.map(numberText).join(" ")}${count > first.length ? " …" : ""}`;
}
