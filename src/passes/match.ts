/**
 * Patterns over values, so that a recogniser reads like the formula it looks for:
 * `op("Mul", any("x"), op("Sigmoid", any("x")))`. A name that is bound twice must be the same value both times. The
 * inputs of Add and Mul are tried in both orders.
 */
import type { Node, Value } from "../ir/index.ts";
import { numbersConstant } from "../ops/index.ts";

export interface Bindings {
  readonly values: Map<string, Value>;
  readonly numbers: Map<string, number>;
  readonly nodes: Node[];
}

export type Pattern = (value: Value | undefined, bindings: Bindings) => boolean;

/** What the pattern binds when it matches. */
export function match(value: Value | undefined, pattern: Pattern): Bindings | undefined {
  const bindings: Bindings = { values: new Map(), numbers: new Map(), nodes: [] };
  return pattern(value, bindings) ? bindings : undefined;
}

/** The one number that a constant holds, whatever its shape. */
export function scalarOf(value: Value | undefined): number | undefined {
  if (!value?.constant || !value.dims?.every((dim) => dim === 1)) return undefined;
  return numbersConstant(value)?.[0];
}

/** Any value, bound to a name. */
export const any = (name: string): Pattern => (value, { values }) => {
  if (!value) return false;
  const before = values.get(name);
  if (before) return before === value;
  values.set(name, value);
  return true;
};

/** A constant of one element near `wanted`. */
export const number = (wanted: number): Pattern => (value) => {
  const found = scalarOf(value);
  return found !== undefined && Math.abs(found - wanted) <= 1e-4 * Math.max(Math.abs(wanted), 1e-3);
};

/** A constant of one element, bound to a name. */
export const scalar = (name: string): Pattern => (value, { numbers }) => {
  const found = scalarOf(value);
  if (found === undefined) return false;
  numbers.set(name, found);
  return true;
};

const COMMUTATIVE = new Set(["Add", "Mul", "Max", "Min"]);

/** The result of one of the operators (names separated by spaces), its leading inputs as given. */
export const op = (names: string, ...inputs: readonly Pattern[]): Pattern => (value, bindings) => {
  const node = value?.producer;
  if (node?.domain !== "" || !names.split(" ").includes(node.op) || node.outputs[0] !== value) return false;
  const orders = inputs.length === 2 && COMMUTATIVE.has(node.op) ? [[0, 1], [1, 0]] : [inputs.map((_, i) => i)];
  return orders.some((order) => attempt(bindings, () => {
    bindings.nodes.push(node);
    return order.every((input, i) => inputs[i]!(node.inputs[input], bindings));
  }));
};

/** The first of the patterns that matches. */
export const either = (...patterns: readonly Pattern[]): Pattern => (value, bindings) => patterns.some((pattern) => attempt(bindings, () => pattern(value, bindings)));

/** The pattern, seen through a Cast if there is one. */
export const maybeCast = (pattern: Pattern): Pattern => either(pattern, op("Cast", pattern));

/** Undoes what a failed try has bound. */
function attempt(bindings: Bindings, action: () => boolean): boolean {
  const [values, numbers, count] = [new Map(bindings.values), new Map(bindings.numbers), bindings.nodes.length];
  if (action()) return true;
  for (const [map, saved] of [[bindings.values, values], [bindings.numbers, numbers]] as const) restore(map as Map<string, unknown>, saved);
  bindings.nodes.length = count;
  return false;
}

function restore(map: Map<string, unknown>, saved: ReadonlyMap<string, unknown>): void {
  map.clear();
  for (const [key, value] of saved) map.set(key, value);
}

/** Names of the model's nodes that the matched ones stand for. */
export function originsOf(nodes: readonly Node[]): string[] {
  return [...new Set(nodes.flatMap((node) => node.origins))];
}
