/**
 * Optimisation profiles: from shapes of inputs, as users give them, to ranges of the model's dimension symbols.
 */
import { UserError } from "../base/index.ts";
import { type Dim, type Graph, type Range, subgraphsOf, substitute, symbol, symbolsOf, type Value } from "../ir/index.ts";

export interface ShapeRange {
  readonly min: readonly number[];
  readonly opt: readonly number[];
  readonly max: readonly number[];
}

/** Shapes by input name; inputs with static shapes may be left out. */
export type Profile = Readonly<Record<string, ShapeRange>>;

export interface SymbolRange {
  readonly min: number;
  readonly opt: number;
  readonly max: number;
}

export interface SymbolProfile {
  readonly symbols: Readonly<Record<string, SymbolRange>>;
}

/** What a dimension gets that no profile mentions: stated in the documentation of `build`. */
export const DEFAULT_RANGES = {
  batch: { min: 1, opt: 1, max: 16 },
  sequence: { min: 1, opt: 128, max: 1024 },
  image: { min: 1, opt: 320, max: 1280 },
} as const satisfies Record<string, SymbolRange>;

/** @throws UserError "profile-invalid" naming input and axis */
export function resolveProfiles(graph: Graph, profiles: readonly Profile[]): SymbolProfile[] {
  return (profiles.length > 0 ? profiles : [{}]).map((profile) => resolveProfile(graph, profile));
}

/** Tells the dims that the model states which sizes the profiles allow, so that inference can decide between sizes; a size that is fixed becomes a number. */
export function assumeProfiles(graph: Graph, profiles: readonly SymbolProfile[]): void {
  const ranges = new Map<string, Range>();
  for (const { symbols } of profiles) {
    for (const [name, { min, max }] of Object.entries(symbols)) {
      const before = ranges.get(name);
      ranges.set(name, before ? { min: Math.min(min, before.min), max: Math.max(max, before.max) } : { min, max });
    }
  }
  const ranged = new Map<string, Dim>([...ranges].map(([name, range]) => [name, range.min === range.max ? range.min : symbol(name, range)]));
  replaceDims(graph, ranged);
}

function replaceDims(graph: Graph, replacements: ReadonlyMap<string, Dim>): void {
  for (const value of [...graph.inputs, ...graph.nodes.flatMap((node) => node.outputs)]) {
    if (value?.dims) value.dims = value.dims.map((dim) => substitute(dim, replacements));
  }
  for (const node of graph.nodes) for (const subgraph of subgraphsOf(node)) replaceDims(subgraph, replacements);
}

function resolveProfile(graph: Graph, profile: Profile): SymbolProfile {
  const symbols: Record<string, SymbolRange> = {};
  const inputs = new Map(graph.inputs.map((value) => [value.name, value]));
  for (const [name, shapes] of Object.entries(profile)) {
    const input = inputs.get(name);
    if (!input) throw new UserError("profile-invalid", `Profile names input "${name}"; the model's inputs are ${[...inputs.keys()].join(", ")}.`);
    addShapes(input, shapes, symbols);
  }
  for (const input of graph.inputs) {
    for (const [axis, dim] of (input.dims ?? []).entries()) {
      if (typeof dim === "number" || symbols[dim.key] || !isPlainSymbol(dim)) continue;
      symbols[dim.key] = defaultRange(axis, input.dims!.length);
    }
  }
  return { symbols };
}

function defaultRange(axis: number, rank: number): SymbolRange {
  if (axis === 0) return DEFAULT_RANGES.batch;
  return rank === 4 && axis >= 2 ? DEFAULT_RANGES.image : DEFAULT_RANGES.sequence;
}

function isPlainSymbol(dim: Exclude<Dim, number>): boolean {
  return symbolsOf(dim).has(dim.key);
}

function addShapes(input: Value, shapes: ShapeRange, symbols: Record<string, SymbolRange>): void {
  const dims = input.dims;
  if (!dims) return;
  for (const [kind, shape] of Object.entries(shapes) as [string, readonly number[]][]) {
    if (shape.length !== dims.length) throw new UserError("profile-invalid", `Profile of "${input.name}": ${kind} has rank ${shape.length}; the input has rank ${dims.length}.`);
  }
  for (const [axis, dim] of dims.entries()) {
    const range = { min: shapes.min[axis]!, opt: shapes.opt[axis]!, max: shapes.max[axis]! };
    const where = `Profile of "${input.name}", axis ${axis}`;
    if (![range.min, range.opt, range.max].every((size) => Number.isSafeInteger(size) && size >= 0) || range.min > range.opt || range.opt > range.max) {
      throw new UserError("profile-invalid", `${where}: min ${range.min}, opt ${range.opt}, max ${range.max}; expected whole numbers with min <= opt <= max.`);
    }
    if (typeof dim === "number") {
      if (range.min !== dim || range.max !== dim) throw new UserError("profile-invalid", `${where}: the model fixes this dimension at ${dim}; got ${range.min} to ${range.max}.`);
    } else if (isPlainSymbol(dim)) mergeRange(symbols, dim.key, range, where);
  }
}

function mergeRange(symbols: Record<string, SymbolRange>, name: string, range: SymbolRange, where: string): void {
  const before = symbols[name];
  if (before && (before.min !== range.min || before.opt !== range.opt || before.max !== range.max)) {
    throw new UserError("profile-invalid", `${where}: dimension "${name}" is ${range.min}/${range.opt}/${range.max} here and ${before.min}/${before.opt}/${before.max} in another input; they are the same dimension.`);
  }
  symbols[name] = range;
}
