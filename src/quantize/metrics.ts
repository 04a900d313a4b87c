/** How good answers are: against labels, or against the float model's answers. 1 is best. */
import { type Tensor, UserError } from "../base/index.ts";
import type { Entry } from "../data/index.ts";
import { numbersOf } from "../reference/index.ts";

/** What a metric sees of one sample. */
export interface Answer {
  readonly entry: Entry;
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** The float model's. */
  readonly reference: Readonly<Record<string, Tensor>>;
}

/** A figure over all answers. */
export interface Metric {
  readonly name: string;
  score(answers: readonly Answer[]): number;
}

export interface MetricOptions {
  /** Column with the right class. */
  readonly label?: string;
  /** Added to the column's value: for models whose first class is something else. */
  readonly offset?: number;
}

export const METRICS = ["top1", "f1", "cosine"] as const;
export type MetricName = (typeof METRICS)[number];

export function metricNamed(name: MetricName, options: MetricOptions = {}): Metric {
  switch (name) {
    case "top1": return { name: "top-1", score: (answers) => mean(answers.map((answer) => (predicted(answer) === labelOf(answer, options) ? 1 : 0))) };
    case "f1": return { name: "F1, mean over classes", score: (answers) => macroF1(answers.map((answer) => [predicted(answer), labelOf(answer, options)])) };
    case "cosine": return { name: "cosine to fp32", score: (answers) => mean(answers.map(({ outputs, reference }) => mean(Object.keys(reference).map((output) => cosine(outputs[output]!, reference[output]!))))) };
  }
}

const mean = (list: readonly number[]): number => list.reduce((a, b) => a + b, 0) / Math.max(1, list.length);

/** Index of the largest number of the first output. */
function predicted({ outputs }: Answer): number {
  const [first] = Object.values(outputs);
  const numbers = first ? numbersOf(first) : [];
  let best = 0;
  for (let i = 1; i < numbers.length; i++) if (numbers[i]! > numbers[best]!) best = i;
  return best;
}

function labelOf({ entry }: Answer, { label = "label", offset = 0 }: MetricOptions): number {
  const value = Number(entry.columns[label] ?? Number.NaN);
  if (!Number.isFinite(value)) throw new UserError("option-invalid", `Sample "${entry.id}" has no number in column "${label}"; it has ${Object.keys(entry.columns).join(", ") || "no columns"}. Name the column with --label.`);
  return value + offset;
}

export function macroF1(pairs: readonly (readonly [predicted: number, label: number])[]): number {
  const classes = new Set(pairs.map(([, label]) => label));
  return mean([...classes].map((own) => {
    const right = pairs.filter(([p, label]) => p === own && label === own).length;
    const wrong = pairs.filter(([p, label]) => (p === own) !== (label === own)).length;
    return right === 0 ? 0 : (2 * right) / (2 * right + wrong);
  }));
}

export function cosine(a: Tensor, b: Tensor): number {
  const [x, y] = [numbersOf(a), numbersOf(b)];
  let [xy, xx, yy] = [0, 0, 0];
  for (let i = 0; i < y.length; i++) {
    xy += x[i]! * y[i]!;
    xx += x[i]! * x[i]!;
    yy += y[i]! * y[i]!;
  }
  if (xx === 0 && yy === 0) return 1;
  return xx === 0 || yy === 0 ? 0 : xy / Math.sqrt(xx * yy);
}

/** Signal over noise in decibels: 10 log10 of the reference's power over the difference's. */
export class NoiseMeter {
  private signal = 0;
  private noise = 0;

  add(actual: Tensor, reference: Tensor): void {
    const [x, y] = [numbersOf(actual), numbersOf(reference)];
    for (let i = 0; i < y.length; i++) {
      this.signal += y[i]! * y[i]!;
      this.noise += (x[i]! - y[i]!) ** 2;
    }
  }

  get decibels(): number {
    return this.noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(this.signal / this.noise);
  }
}
