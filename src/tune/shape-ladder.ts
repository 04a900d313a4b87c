/**
 * Shapes for which a GPU's kernels are chosen apart: what is best for one image leaves most of the chip idle with a
 * hundred, and the other way round. The ladder goes from a profile's least shape over its optimum to its greatest, each
 * rung several times the one before, all symbols growing together by ratio.
 */
import type { Bindings } from "../ir/index.ts";
import type { SizeRange } from "./other-shapes.ts";

/** From rung to rung; more where there would be too many rungs. */
const RATIO = 4;
const MAX_RUNGS = 3;

/** @param optimum sizes of all symbols; those without a range keep theirs. @returns ascending, the optimum among them */
export function shapeLadder(ranges: Readonly<Record<string, SizeRange>>, optimum: Bindings): Bindings[] {
  const entries = Object.entries(ranges);
  const ratioOf = (from: (range: SizeRange) => number, to: (range: SizeRange) => number): number => entries.reduce((ratio, [, range]) => (ratio * Math.max(1, to(range))) / Math.max(1, from(range)), 1);
  const between = (from: (range: SizeRange) => number, to: (range: SizeRange) => number, share: number): Bindings =>
    new Map([...optimum, ...entries.map(([name, range]) => [name, Math.round(Math.max(1, from(range)) * (Math.max(1, to(range)) / Math.max(1, from(range))) ** share)] as const)]);
  const rungs = (ratio: number): number => Math.min(MAX_RUNGS, Math.round(Math.log(ratio) / Math.log(RATIO)));
  const [min, opt, max] = [({ min }: SizeRange) => min, ({ opt }: SizeRange) => opt, ({ max }: SizeRange) => max];
  const [below, above] = [rungs(ratioOf(min, opt)), rungs(ratioOf(opt, max))];
  return [
    ...Array.from({ length: below }, (_, i) => between(min, opt, i / below)),
    optimum,
    ...Array.from({ length: above }, (_, i) => between(opt, max, (i + 1) / above)),
  ];
}
