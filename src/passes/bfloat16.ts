/**
 * Precision bf16: products of weights and activations take bfloat16 operands and keep float32 sums. Everything between stays
 * float32: softmax, statistics of normalisations, the residual streams of transformers, depthwise convolutions (they gain
 * nothing), and the last products on the way to an output, as far as they are a small part of the work.
 *
 * A product in bfloat16 is followed by a Cast to float32. The plan applies what follows to the float32 sums, so that the Cast
 * rounds nothing where the two are one kernel; and a Cast to bfloat16 is how the kernel before stores its result, beside
 * the float32 one when that has readers too. Images are large, and are stored once: what a convolution reads in bfloat16
 * is read so by the others, too.
 */
import { type Bindings, evaluate, type Node, product, symbolsOf, type Value } from "../ir/index.ts";
import { numberOf } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import type { Pass } from "./pass.ts";

/** ONNX's numbers of the types. */
const FLOAT = 1;
const BFLOAT16 = 16;

/** Share of all products' work up to which the last ones stay float32. */
const SMALL_SHARE = 0.02;
/** What a size known only at run time is taken for when layers are weighed against each other. */
const ASSUMED_SIZE = 64;

const isCastTo = (node: Node | undefined, type: number): boolean => node?.op === "Cast" && node.domain === "" && numberOf(node, "to", 0) === type;

export const BFLOAT16_PASSES: readonly Pass[] = [
  { name: "products in bfloat16", rule: (_, graph) => castProducts(keptNodes(graph.nodes, graph.outputs)) },
  { name: "casts above views", rule: () => castAboveView },
  { name: "casts that undo each other", rule: () => undoCasts },
];

/** Not to be repeated, nor followed by sharing of subexpressions: each reader has a Cast of its own, which costs nothing inside it. */
export const BFLOAT16_STORAGE: Pass = { name: "images stored in bfloat16", rule: () => storeOnce() };

// ---- products

/** Convolutions that are generated, unless each channel has its own filter. */
const isConvolution = (node: Node): boolean =>
  node.op === "Conv" && node.attributes["layout"] === "NHWC" && node.attributes["inputLayout"] === undefined && node.inputs[1]?.constant !== undefined && node.inputs[1].dims?.[1] !== 1;

const isProduct = (node: Node): boolean =>
  node.domain === "" && (node.op === "MatMul" || isConvolution(node))
  && [...node.inputs, ...node.outputs].every((value) => !value || (value.dtype === "float32" && value.dims !== undefined));

/** @param kept products that stay float32 */
function castProducts(kept: ReadonlySet<Node>): Rule {
  const casts = new Map<Value, Value>();
  const narrow = (value: Value, editor: Editor): Value => {
    const known = casts.get(value) ?? editor.emit("Cast", [value], { to: BFLOAT16 });
    casts.set(value, known);
    return known;
  };
  return (node, editor) => {
    if (!isProduct(node) || kept.has(node)) return false;
    const [a, b, ...rest] = node.inputs;
    const sums = editor.emit(node.op, [narrow(a!, editor), narrow(b!, editor), ...rest], node.attributes);
    return editor.replaceNode(node, editor.emit("Cast", [sums], { to: FLOAT }));
  };
}

/** What may lie between a last product and an output, or another last product. */
const LAST = /^(Add|Mul|Cast|Clip|Flatten|Gather|GlobalAveragePool|Identity|LogSoftmax|ReduceMean|Relu|Reshape|Sigmoid|Slice|Softmax|Squeeze|Tanh|Transpose|Unsqueeze)$/;

/** Whether a node multiplies matrices or convolves, in float32 or in bfloat16 by now. */
const isWork = (node: Node): boolean => node.domain === "" && (node.op === "MatMul" || node.op === "Conv") && node.inputs[0]?.dims !== undefined && node.inputs[1]?.dims !== undefined && node.outputs[0]?.dims !== undefined;

/** The last products on the way to the outputs, from the end on, while together they are a small part of the work. */
function keptNodes(nodes: readonly Node[], outputs: readonly Value[]): Set<Node> {
  const total = nodes.filter(isWork).reduce((sum, node) => sum + workOf(node), 0);
  const kept = new Set<Node>();
  let work = 0;
  const visit = (node: Node | undefined): void => {
    if (!node || kept.has(node) || node.domain !== "") return;
    if (isProduct(node)) {
      work += workOf(node);
      if (work > SMALL_SHARE * total) return;
      kept.add(node);
    } else if (!LAST.test(node.op)) return;
    visit(node.inputs.find((input) => input?.producer && !input.constant)?.producer);
  };
  for (const value of outputs) visit(value.producer);
  return kept;
}

function workOf(node: Node): number {
  const dims = [...node.outputs[0]!.dims!, ...(node.op === "Conv" ? node.inputs[1]!.dims!.slice(1) : [node.inputs[0]!.dims!.at(-1) ?? 1])];
  const bindings: Bindings = new Map(dims.flatMap((dim) => [...symbolsOf(dim)]).map((name) => [name, ASSUMED_SIZE]));
  return Math.max(0, evaluate(product(dims), bindings));
}

// ---- casts

const VIEWS: ReadonlySet<string> = new Set(["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat"]);

/** Cast(view(x)) becomes view(Cast(x)), so that the kernel that makes x stores it narrow. */
const castAboveView: Rule = (node, editor) => {
  const view = node.inputs[0]?.producer;
  if (!isCastTo(node, BFLOAT16) || !view || view.domain !== "" || !VIEWS.has(view.op) || !editor.isOnlyUse(node.inputs[0]!)) return false;
  const count = view.op === "Concat" ? view.inputs.length : 1;
  const narrowed = view.inputs.map((input, i) => (i < count ? editor.emit("Cast", [input], { to: BFLOAT16 }) : input));
  return editor.replaceNode(node, editor.emit(view.op, narrowed, view.attributes));
};

/** A bfloat16 value that became float32 and comes back is itself. */
const undoCasts: Rule = (node, editor) => {
  const wide = node.inputs[0]?.producer;
  const source = wide?.inputs[0];
  if (!isCastTo(node, BFLOAT16) || !isCastTo(wide, FLOAT) || !source || source.dtype !== "bfloat16") return false;
  return editor.replaceNode(node, source);
};

/** Readers of a value that is stored in bfloat16 for a convolution read that. */
function storeOnce(): Rule {
  const stored = new Map<Value, Value>();
  return (node, editor) => {
    if (isCastTo(node, BFLOAT16)) {
      const known = stored.get(node.inputs[0]!);
      if (known && known !== node.outputs[0]) return editor.replaceNode(node, known);
      stored.set(node.inputs[0]!, node.outputs[0]!);
      return false;
    }
    let changed = false;
    node.inputs.forEach((value, i) => {
      if (!value || !isNarrowed(value, editor)) return;
      const narrow = stored.get(value) ?? editor.emit("Cast", [value], { to: BFLOAT16 });
      stored.set(value, narrow);
      editor.setInput(node, i, editor.emit("Cast", [narrow], { to: FLOAT }));
      changed = true;
    });
    return changed;
  };
}

function isNarrowed(value: Value, editor: Editor): boolean {
  return value.dtype === "float32" && value.producer !== undefined && !value.constant && !editor.isOutput(value) && !isCastTo(value.producer, FLOAT)
    && editor.usersOf(value).some((user) => isCastTo(user, BFLOAT16) && editor.usersOf(user.outputs[0]!).some(({ op }) => op === "Conv"));
}
