/** Shapes that stand for a profile's range beside its optimum: the least, and the middles of both sides by ratio. */
import type { Bindings } from "../ir/index.ts";

export interface SizeRange {
  readonly min: number;
  readonly opt: number;
  readonly max: number;
}

/** @param optimum sizes of all symbols; those without a range keep theirs */
export function otherShapes(ranges: Readonly<Record<string, SizeRange>>, optimum: Bindings): Bindings[] {
  const shape = (size: (range: SizeRange) => number): Bindings => new Map([...optimum, ...Object.entries(ranges).map(([name, range]) => [name, Math.max(1, Math.round(size(range)))] as const)]);
  const middle = (a: number, b: number): number => Math.sqrt(Math.max(1, a) * Math.max(1, b));
  const shapes = [shape(({ min }) => min), shape(({ min, opt }) => middle(min, opt)), shape(({ opt, max }) => middle(opt, max))];
  const text = (bindings: Bindings): string => JSON.stringify([...bindings]);
  const seen = new Set([text(optimum)]);
  return shapes.filter((bindings) => !seen.has(text(bindings)) && seen.add(text(bindings)));
}
