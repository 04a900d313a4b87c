/**
 * Symbolic dimensions: integer polynomials over named symbols (`batch`, `seq`) and over opaque atoms
 * (floor division, modulo, minimum, maximum of polynomials).
 *
 * A `Dim` is a plain number when it is known. Equal expressions have equal keys, because sums and products are kept
 * in one canonical order; so equality of shapes is comparison of keys. Symbols are assumed to be at least 0.
 */
import { assert } from "../base/index.ts";

export type Dim = number | DimExpr;

type Atom =
  | { readonly kind: "symbol"; readonly name: string; readonly key: string; readonly range: Range }
  | { readonly kind: "floorDiv" | "mod" | "min" | "max"; readonly a: Dim; readonly b: Dim; readonly key: string };

interface Term {
  readonly coefficient: number;
  /** Sorted by key, repeated for powers; empty for the constant term. */
  readonly atoms: readonly Atom[];
}

export class DimExpr {
  readonly terms: readonly Term[];
  readonly key: string;

  constructor(terms: readonly Term[]) {
    this.terms = terms;
    this.key = terms.map(termText).join(" + ");
  }

  toString(): string {
    return this.key;
  }
}

const atomsKey = (atoms: readonly Atom[]): string => atoms.map((atom) => atom.key).join("*");

function termText(term: Term): string {
  if (term.atoms.length === 0) return String(term.coefficient);
  return term.coefficient === 1 ? atomsKey(term.atoms) : `${term.coefficient}*${atomsKey(term.atoms)}`;
}

function termsOf(dim: Dim): readonly Term[] {
  if (typeof dim !== "number") return dim.terms;
  return dim === 0 ? [] : [{ coefficient: dim, atoms: [] }];
}

function fromTerms(terms: Iterable<Term>): Dim {
  const sums = new Map<string, Term>();
  for (const term of terms) {
    const key = atomsKey(term.atoms);
    const before = sums.get(key);
    sums.set(key, before ? { coefficient: before.coefficient + term.coefficient, atoms: term.atoms } : term);
  }
  const kept = [...sums.entries()].filter(([, term]) => term.coefficient !== 0);
  if (kept.length === 0) return 0;
  if (kept.length === 1 && kept[0]![0] === "") return kept[0]![1].coefficient;
  // The constant term last, the others by key.
  kept.sort(([a], [b]) => (a === "" ? 1 : b === "" ? -1 : a < b ? -1 : a > b ? 1 : 0));
  return new DimExpr(kept.map(([, term]) => term));
}

function fromAtom(atom: Atom): Dim {
  return new DimExpr([{ coefficient: 1, atoms: [atom] }]);
}

const ANY_SIZE: Range = { min: 0, max: Number.POSITIVE_INFINITY };

/**
 * A named size. Its range, when given, lets `min` and `max` decide (a slice of a table of 512 rows to `seq` rows has
 * `seq` rows when a profile ends at 512); it is no part of the symbol's identity.
 */
export function symbol(name: string, range: Range = ANY_SIZE): DimExpr {
  return fromAtom({ kind: "symbol", name, key: name, range }) as DimExpr;
}

export function dimKey(dim: Dim): string {
  return typeof dim === "number" ? String(dim) : dim.key;
}

export function dimEqual(a: Dim, b: Dim): boolean {
  return a === b || dimKey(a) === dimKey(b);
}

export function dimsEqual(a: readonly Dim[], b: readonly Dim[]): boolean {
  return a.length === b.length && a.every((dim, i) => dimEqual(dim, b[i]!));
}

export function add(...dims: readonly Dim[]): Dim {
  return fromTerms(dims.flatMap((dim) => termsOf(dim)));
}

export function sub(a: Dim, b: Dim): Dim {
  return add(a, mul(b, -1));
}

export function mul(...dims: readonly Dim[]): Dim {
  return dims.reduce<Dim>((a, b) => {
    if (typeof a === "number" && typeof b === "number") return a * b;
    const products: Term[] = [];
    for (const x of termsOf(a)) {
      for (const y of termsOf(b)) {
        const atoms = [...x.atoms, ...y.atoms].sort((p, q) => (p.key < q.key ? -1 : p.key > q.key ? 1 : 0));
        products.push({ coefficient: x.coefficient * y.coefficient, atoms });
      }
    }
    return fromTerms(products);
  }, 1);
}

/** a / b when b is one term that divides every term of a, or a sum that a is one term times of; undefined otherwise. */
function exactDivide(a: Dim, b: Dim): Dim | undefined {
  const divisor = termsOf(b);
  if (divisor.length !== 1) return dimEqual(a, b) ? 1 : divideBySum(a, b);
  const by = divisor[0]!;
  const quotient: Term[] = [];
  for (const term of termsOf(a)) {
    if (term.coefficient % by.coefficient !== 0) return undefined;
    const atoms = [...term.atoms];
    for (const atom of by.atoms) {
      const at = atoms.findIndex((candidate) => candidate.key === atom.key);
      if (at < 0) return undefined;
      atoms.splice(at, 1);
    }
    quotient.push({ coefficient: term.coefficient / by.coefficient, atoms });
  }
  return fromTerms(quotient);
}

function divideBySum(a: Dim, b: Dim): Dim | undefined {
  const [first] = termsOf(a);
  if (!first || termsOf(a).length !== termsOf(b).length) return undefined;
  for (const term of termsOf(b)) {
    const factor = exactDivide(fromTerms([first]), fromTerms([term]));
    if (factor !== undefined && dimEqual(mul(factor, b), a)) return factor;
  }
  return undefined;
}

function binaryAtom(kind: "floorDiv" | "mod" | "min" | "max", a: Dim, b: Dim): Dim {
  return fromAtom({ kind, a, b, key: `${kind}(${dimKey(a)}, ${dimKey(b)})` });
}

/** max(a, min(a, c)) = a = min(a, max(a, c)): the operand that absorbs the other, which is an atom of the given kind. */
function absorb(kind: "min" | "max", a: Dim, b: Dim): Dim | undefined {
  const isIn = (outer: Dim, inner: Dim): boolean => {
    if (typeof outer === "number" || outer.terms.length !== 1) return false;
    const [term] = outer.terms;
    const [atom] = term!.atoms;
    return term!.coefficient === 1 && term!.atoms.length === 1 && atom!.kind === kind && (dimEqual(atom!.a, inner) || dimEqual(atom!.b, inner));
  };
  return isIn(b, a) ? a : isIn(a, b) ? b : undefined;
}

/** Rounds toward minus infinity. */
export function floorDiv(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") {
    assert(b !== 0, "division of a dimension by zero");
    return Math.floor(a / b);
  }
  if (a === 0) return 0;
  return exactDivide(a, b) ?? splitDivide(a, b) ?? binaryAtom("floorDiv", a, b);
}

/** floor((q*b + r) / b) = q + floor(r / b): keeps the multiples of a constant divisor outside. */
function splitDivide(a: Dim, b: Dim): Dim | undefined {
  if (typeof b !== "number" || b <= 0) return undefined;
  const whole: Term[] = [];
  const rest: Term[] = [];
  for (const term of termsOf(a)) {
    const q = Math.floor(term.coefficient / b);
    if (term.atoms.length === 0 || term.coefficient % b === 0) {
      if (q !== 0) whole.push({ coefficient: q, atoms: term.atoms });
      const r = term.coefficient - q * b;
      if (r !== 0) rest.push({ coefficient: r, atoms: term.atoms });
    } else rest.push(term);
  }
  if (whole.length === 0) return undefined;
  const remainder = fromTerms(rest);
  return add(fromTerms(whole), typeof remainder === "number" ? Math.floor(remainder / b) : binaryAtom("floorDiv", remainder, b));
}

export function ceilDiv(a: Dim, b: Dim): Dim {
  return floorDiv(add(a, b, -1), b);
}

export function mod(a: Dim, b: Dim): Dim {
  if (typeof a === "number" && typeof b === "number") return a - Math.floor(a / b) * b;
  return exactDivide(a, b) === undefined ? binaryAtom("mod", a, b) : 0;
}

export function min(a: Dim, b: Dim): Dim {
  const difference = boundsOf(sub(a, b), NO_RANGES);
  if (difference.max <= 0) return a;
  if (difference.min >= 0) return b;
  return absorb("max", a, b) ?? (dimKey(a) < dimKey(b) ? binaryAtom("min", a, b) : binaryAtom("min", b, a));
}

export function max(a: Dim, b: Dim): Dim {
  const difference = boundsOf(sub(a, b), NO_RANGES);
  if (difference.min >= 0) return a;
  if (difference.max <= 0) return b;
  return absorb("min", a, b) ?? (dimKey(a) < dimKey(b) ? binaryAtom("max", a, b) : binaryAtom("max", b, a));
}

/** True when the sign follows from the form and the symbols' ranges. */
export function isNonNegative(dim: Dim): boolean {
  return boundsOf(dim, NO_RANGES).min >= 0;
}

/** Product of dims: the number of elements. */
export function product(dims: readonly Dim[]): Dim {
  return mul(...dims);
}

export function isStatic(dims: readonly Dim[]): dims is readonly number[] {
  return dims.every((dim) => typeof dim === "number");
}

function walk(dim: Dim, visit: (atom: Atom) => void): void {
  if (typeof dim === "number") return;
  for (const term of dim.terms) {
    for (const atom of term.atoms) {
      visit(atom);
      if (atom.kind !== "symbol") {
        walk(atom.a, visit);
        walk(atom.b, visit);
      }
    }
  }
}

/** Names of the symbols a dimension depends on. */
export function symbolsOf(dim: Dim): Set<string> {
  const names = new Set<string>();
  walk(dim, (atom) => { if (atom.kind === "symbol") names.add(atom.name); });
  return names;
}

export type Bindings = ReadonlyMap<string, number>;

/** The dimension's value under the bindings. A symbol without a binding is a bug of the caller. */
export function evaluate(dim: Dim, bindings: Bindings): number {
  if (typeof dim === "number") return dim;
  let sum = 0;
  for (const term of dim.terms) {
    let value = term.coefficient;
    for (const atom of term.atoms) value *= evaluateAtom(atom, bindings);
    sum += value;
  }
  return sum;
}

function evaluateAtom(atom: Atom, bindings: Bindings): number {
  if (atom.kind === "symbol") {
    const value = bindings.get(atom.name);
    assert(value !== undefined, `dimension symbol "${atom.name}" is not bound`);
    return value;
  }
  const a = evaluate(atom.a, bindings);
  const b = evaluate(atom.b, bindings);
  switch (atom.kind) {
    case "floorDiv": return b === 0 ? 0 : Math.floor(a / b);
    case "mod": return b === 0 ? 0 : a - Math.floor(a / b) * b;
    case "min": return Math.min(a, b);
    case "max": return Math.max(a, b);
  }
}

/** Replaces symbols; those without an entry stay. */
export function substitute(dim: Dim, replacements: ReadonlyMap<string, Dim>): Dim {
  if (typeof dim === "number") return dim;
  return add(...dim.terms.map((term) => mul(term.coefficient, ...term.atoms.map((atom): Dim => {
    if (atom.kind === "symbol") return replacements.get(atom.name) ?? fromAtom(atom);
    const a = substitute(atom.a, replacements);
    const b = substitute(atom.b, replacements);
    return { floorDiv, mod, min, max }[atom.kind](a, b);
  }))));
}

export interface Range { readonly min: number; readonly max: number }

const NO_RANGES: ReadonlyMap<string, Range> = new Map();

/** Interval arithmetic: a sound bound on the dimension when each symbol lies in its range; symbols that are not listed have their own. */
export function boundsOf(dim: Dim, ranges: ReadonlyMap<string, Range>): Range {
  if (typeof dim === "number") return { min: dim, max: dim };
  let low = 0;
  let high = 0;
  for (const term of dim.terms) {
    let range: Range = { min: term.coefficient, max: term.coefficient };
    for (const atom of term.atoms) range = multiply(range, atomBounds(atom, ranges));
    low += range.min;
    high += range.max;
  }
  return { min: low, max: high };
}

function multiply(a: Range, b: Range): Range {
  const corners = [a.min, a.max].flatMap((x) => [b.min, b.max].map((y) => (x === 0 || y === 0 ? 0 : x * y)));
  return { min: Math.min(...corners), max: Math.max(...corners) };
}

function atomBounds(atom: Atom, ranges: ReadonlyMap<string, Range>): Range {
  if (atom.kind === "symbol") return ranges.get(atom.name) ?? atom.range;
  const a = boundsOf(atom.a, ranges);
  const b = boundsOf(atom.b, ranges);
  switch (atom.kind) {
    case "min": return { min: Math.min(a.min, b.min), max: Math.min(a.max, b.max) };
    case "max": return { min: Math.max(a.min, b.min), max: Math.max(a.max, b.max) };
    case "mod": return { min: 0, max: Math.min(Math.max(0, b.max - 1), a.min >= 0 ? a.max : Number.POSITIVE_INFINITY) };
    case "floorDiv": {
      const divisors = { min: Math.max(1, b.min), max: Math.max(1, b.max) };
      const corners = [a.min, a.max].flatMap((x) => [divisors.min, divisors.max].map((y) => (Number.isFinite(x) ? Math.floor(x / y) : x)));
      return { min: Math.min(...corners), max: Math.max(...corners) };
    }
  }
}

/** Serialized form: a number, a symbol's name, or [operator, ...operands]. */
export type DimJson = number | string | readonly [string, ...DimJson[]];

export function dimToJson(dim: Dim): DimJson {
  if (typeof dim === "number") return dim;
  const terms = dim.terms.map((term): DimJson => {
    const factors: DimJson[] = term.atoms.map((atom): DimJson => (atom.kind === "symbol" ? atom.name : [atom.kind, dimToJson(atom.a), dimToJson(atom.b)]));
    if (term.coefficient !== 1 || factors.length === 0) factors.unshift(term.coefficient);
    return factors.length === 1 ? factors[0]! : ["mul", ...factors];
  });
  return terms.length === 1 ? terms[0]! : ["add", ...terms];
}

const OPERATORS: Readonly<Record<string, (...dims: Dim[]) => Dim>> = { add, mul, floorDiv, mod, min, max };

export function dimFromJson(json: DimJson): Dim {
  if (typeof json === "number") return json;
  if (typeof json === "string") return symbol(json);
  const operator = OPERATORS[json[0]];
  assert(operator, `dimension operator "${json[0]}"`);
  return operator(...json.slice(1).map((item) => dimFromJson(item as DimJson)));
}
