/** How a reduction is cut for tiles: parts of equal length, what is left in whole steps, and the words that fill no step. */
import { TILE_WORDS } from "./tiles.ts";

/** Parts that lie one after another, `times` of `steps` steps of `stepWords` words each, from word `begin` on. */
export interface ReductionPart {
  readonly begin: number;
  readonly times: number;
  readonly steps: number;
  readonly stepWords: number;
  /** Whether sums are whole after it; then it is one part. */
  readonly isLast: boolean;
}

/** At least one part: a reduction of no words has one of no steps. @param depth most words of a part, whole steps */
export function reductionParts(words: number, depth: number | undefined): ReductionPart[] {
  const whole = Math.floor(words / TILE_WORDS);
  const most = depth === undefined ? Math.max(1, whole) : depth / TILE_WORDS;
  const parts: Omit<ReductionPart, "isLast">[] = [];
  const add = (times: number, steps: number, stepWords: number): void => {
    const before = parts.at(-1);
    const begin = before ? before.begin + before.times * before.steps * before.stepWords : 0;
    if (times > 0 && steps > 0) parts.push({ begin, times, steps, stepWords });
  };
  add(Math.floor(whole / most), most, TILE_WORDS);
  add(1, whole % most, TILE_WORDS);
  if (words % TILE_WORDS > 0) add(1, 1, words % TILE_WORDS);
  const last = parts.pop() ?? { begin: 0, times: 1, steps: 0, stepWords: TILE_WORDS };
  const partWords = last.steps * last.stepWords;
  if (last.times > 1) parts.push({ ...last, times: last.times - 1 });
  return [...parts.map((part) => ({ ...part, isLast: false })), { ...last, begin: last.begin + (last.times - 1) * partWords, times: 1, isLast: true }];
}
