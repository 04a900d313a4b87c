/**
 * Tactics that trade bytes for time store larger weights than others. Within a bound on those bytes for a whole model,
 * kernels keep them where they bring most: the one that loses least time per byte it gives back chooses again, among
 * tactics with smaller weights, until all fit.
 */
import type { Tactic } from "../ir/index.ts";
import type { Tuned } from "./tune.ts";

export interface WeightChoice {
  readonly tactics: readonly Tactic[];
  readonly tuned: Tuned;
  /** Chooses again among some of the tactics. */
  readonly again: (tactics: readonly Tactic[]) => Tuned;
}

/** @returns the choices, in the same order, whose extra weights together are at most `limitBytes` */
export function limitExtraWeights(choices: readonly WeightChoice[], limitBytes: number): WeightChoice[] {
  const kept = [...choices];
  for (;;) {
    const total = kept.reduce((sum, choice) => sum + extraBytes(choice), 0);
    if (total <= limitBytes) return kept;
    const prices = kept.map((choice, index) => ({ index, price: priceOfLess(choice) })).filter(({ index }) => extraBytes(kept[index]!) > 0);
    const { index } = prices.reduce((least, one) => (one.price < least.price ? one : least));
    const choice = kept[index]!;
    const tactics = smaller(choice);
    kept[index] = { ...choice, tactics, tuned: choice.again(tactics) };
  }
}

function extraBytes({ tactics, tuned }: WeightChoice): number {
  return tactics.find(({ name }) => name === tuned.tactic)?.extraWeightBytes ?? 0;
}

function smaller(choice: WeightChoice): Tactic[] {
  const most = extraBytes(choice);
  return choice.tactics.filter(({ extraWeightBytes = 0 }) => extraWeightBytes < most);
}

/** Time lost per byte saved when the kernel takes the best tactic with smaller weights; by estimates where nothing was timed. */
function priceOfLess(choice: WeightChoice): number {
  const isTimed = choice.tuned.report.some(({ ns }) => ns !== undefined);
  const timeOf = ({ name, estimate }: Tactic): number => (isTimed ? choice.tuned.report.find(({ tactic }) => tactic === name)?.ns ?? Number.POSITIVE_INFINITY : estimate);
  const best = smaller(choice).reduce<{ time: number; bytes: number }>((least, tactic) => {
    const time = timeOf(tactic);
    return time < least.time ? { time, bytes: tactic.extraWeightBytes ?? 0 } : least;
  }, { time: Number.POSITIVE_INFINITY, bytes: 0 });
  const now = choice.tactics.find(({ name }) => name === choice.tuned.tactic)!;
  return (best.time - timeOf(now)) / (extraBytes(choice) - best.bytes);
}
