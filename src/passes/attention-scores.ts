/**
 * The way from a softmax up to the product of queries and keys: what was done to the scores, step by step, so that it
 * can be done again to a mask alone. Reshapes that only regroup batch and heads are part of the way.
 */
import { type Dim, dimEqual, type Node, type Value } from "../ir/index.ts";
import { numberOf } from "./attributes.ts";
import { HIDDEN } from "./attention-mask.ts";
import { scalarOf } from "./match.ts";
import { isReshape } from "./simplify.ts";

export type Step =
  | { readonly kind: "scale"; readonly factor: number }
  /** `dims`: those of the scores at that step. */
  | { readonly kind: "add"; readonly term: Value; readonly dims: readonly Dim[] }
  | { readonly kind: "choose"; readonly condition: Value; readonly hidden: number; readonly keepsWhenTrue: boolean; readonly dims: readonly Dim[] };

export interface Scores {
  readonly product: Node;
  /** From the product on. */
  readonly steps: readonly Step[];
  /** The dims that the scores have on the way. */
  readonly shapes: readonly (readonly Dim[])[];
  readonly nodes: readonly Node[];
}

const MAX_STEPS = 12;

/** value * factor for Mul and Div by a number. */
export function scaledBy(node: Node | undefined): { value: Value; factor: number } | undefined {
  if (!node || node.domain !== "" || (node.op !== "Mul" && node.op !== "Div")) return undefined;
  const [a, b] = node.inputs;
  const right = scalarOf(b);
  if (a && right !== undefined && right !== 0) return { value: a, factor: node.op === "Mul" ? right : 1 / right };
  const left = node.op === "Mul" ? scalarOf(a) : undefined;
  return left !== undefined && b ? { value: b, factor: left } : undefined;
}

export function sameShape(a: Value | undefined, b: Value | undefined): boolean {
  return a?.dims !== undefined && b?.dims !== undefined && a.dims.length === b.dims.length && a.dims.every((dim, i) => dimEqual(dim, b.dims![i]!));
}

/** Follows the scores up to the product; undefined where something else was done to them. */
export function scoresOf(value: Value | undefined, depth = MAX_STEPS): Scores | undefined {
  const node = value?.producer;
  if (!node || node.domain !== "" || !value.dims || depth === 0) return undefined;
  if (node.op === "MatMul") return { product: node, steps: [], shapes: [value.dims], nodes: [node] };
  if (regroups(node)) return extended(scoresOf(node.inputs[0], depth - 1), node);
  const scaled = scaledBy(node);
  if (scaled && sameShape(scaled.value, value)) {
    const inner = scoresOf(scaled.value, depth - 1);
    return inner?.steps.some((step) => step.kind === "choose") ? undefined : extended(inner, node, { kind: "scale", factor: scaled.factor });
  }
  if (node.op === "Add") return withTerm(node, depth);
  return node.op === "Where" ? withChoice(node, depth) : undefined;
}

function extended(scores: Scores | undefined, node: Node, step?: Step): Scores | undefined {
  return scores && { product: scores.product, steps: step ? [...scores.steps, step] : scores.steps, shapes: [...scores.shapes, node.outputs[0]!.dims!], nodes: [...scores.nodes, node] };
}

/** A reshape that keeps queries and keys as they are. */
export function regroups(node: Node): boolean {
  const [from, to] = [node.inputs[0]?.dims, node.outputs[0]?.dims];
  return isReshape(node) && from !== undefined && to !== undefined && from.length >= 2 && to.length >= 2 && [1, 2].every((i) => dimEqual(from[from.length - i]!, to[to.length - i]!));
}

function withTerm(node: Node, depth: number): Scores | undefined {
  const dims = node.outputs[0]!.dims!;
  for (const [at, other] of [[0, 1], [1, 0]] as const) {
    const term = node.inputs[other];
    if (!term?.dims || term.dtype !== "float32" || !sameShape(node.inputs[at], node.outputs[0])) continue;
    const inner = scoresOf(node.inputs[at], depth - 1);
    if (inner) return extended(inner, node, { kind: "add", term, dims });
  }
  return undefined;
}

function withChoice(node: Node, depth: number): Scores | undefined {
  const [condition, a, b] = node.inputs;
  const dims = node.outputs[0]!.dims!;
  for (const [scores, hiddenValue, keepsWhenTrue] of [[a, b, true], [b, a, false]] as const) {
    const hidden = scalarOf(hiddenValue);
    if (hidden === undefined || hidden > HIDDEN || !condition?.dims || !sameShape(scores, node.outputs[0])) continue;
    const inner = scoresOf(scores, depth - 1);
    if (inner) return extended(inner, node, { kind: "choose", condition, hidden, keepsWhenTrue, dims });
  }
  return undefined;
}

export interface Weights {
  readonly softmax: Node;
  readonly nodes: readonly Node[];
}

/** The softmax below torch's guard Where(IsNaN(p), 0, p) and regrouping reshapes. */
export function weightsOf(value: Value | undefined): Weights | undefined {
  const node = value?.producer;
  if (!node || node.domain !== "") return undefined;
  const below = (inner: Value | undefined, ...more: readonly Node[]): Weights | undefined => {
    const found = weightsOf(inner);
    return found && { softmax: found.softmax, nodes: [...found.nodes, ...more] };
  };
  if (node.op === "Where") {
    const [condition, zero, inner] = node.inputs;
    const test = condition?.producer;
    return test?.op === "IsNaN" && test.inputs[0] === inner && scalarOf(zero) === 0 ? below(inner, test, node) : undefined;
  }
  if (node.op === "Softmax") {
    const rank = node.inputs[0]?.dims?.length ?? 0;
    return [-1, rank - 1].includes(numberOf(node, "axis", -1)) ? { softmax: node, nodes: [node] } : undefined;
  }
  return regroups(node) ? below(node.inputs[0], node) : undefined;
}
