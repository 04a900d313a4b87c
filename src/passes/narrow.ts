/**
 * Precisions bf16 and fp16: products of weights and activations take operands of 16 bits and keep float32 sums. Everything
 * between stays float32: softmax, statistics of normalisations, the residual streams of transformers, depthwise convolutions
 * (they gain nothing on a processor), and the last products on the way to an output, as far as they are a small part of the work.
 *
 * A narrow product is followed by a Cast to float32. The plan applies what follows to the float32 sums, so that the Cast
 * rounds nothing where the two are one kernel; and a Cast to the narrow type is how the kernel before stores its result, beside
 * the float32 one when that has readers too. Images are large, and are stored once: what a convolution reads narrow is read so
 * by the others, too. On a GPU, where memory is what most kernels wait for, that holds of everything.
 */
import { type Bindings, evaluate, type Node, product, symbolsOf, type Value } from "../ir/index.ts";
import { numberOf } from "./attributes.ts";
import type { Editor, Rule } from "./editor.ts";
import type { Pass } from "./pass.ts";

/** ONNX's numbers of the types. */
const FLOAT = 1;
const NUMBER = { bfloat16: 16, float16: 10 } as const;

/** What is narrowed, by what the target has kernels for and gains from. */
export interface Narrow {
  readonly type: keyof typeof NUMBER;
  /** Attention takes the type too; its scores and sums stay float32. */
  readonly attention: boolean;
  /** First and last layers and depthwise convolutions take it too, and what is stored narrow is read so by all. */
  readonly everywhere: boolean;
}

/** Share of all products' work up to which the last ones stay float32. */
const SMALL_SHARE = 0.02;
/** What a size known only at run time is taken for when layers are weighed against each other. */
const ASSUMED_SIZE = 64;

const isCastTo = (node: Node | undefined, type: number): boolean => node?.op === "Cast" && node.domain === "" && numberOf(node, "to", 0) === type;

/** In order; the group may repeat. */
export function narrowPasses(narrow: Narrow): readonly Pass[] {
  return [
    { name: `products in ${narrow.type}`, rule: (_, graph) => castProducts(narrow, narrow.everywhere ? new Set() : keptNodes(graph.nodes, graph.outputs)) },
    { name: "casts above views", rule: () => castAboveView(NUMBER[narrow.type]) },
    { name: "casts that undo each other", rule: () => undoCasts(narrow.type) },
  ];
}

/** Not to be repeated, nor followed by sharing of subexpressions: each reader has a Cast of its own, which costs nothing inside it. */
export function narrowStorage({ type, everywhere }: Narrow): Pass {
  return { name: `activations stored in ${type}`, rule: (_, graph) => storeOnce(NUMBER[type], everywhere ? storedSums(graph.nodes) : undefined) };
}

// ---- products

/** Convolutions that are generated; not everywhere those that read an image as it comes, or have a filter for each channel. */
const isConvolution = (node: Node, everywhere: boolean): boolean =>
  node.op === "Conv" && node.attributes["layout"] === "NHWC" && node.inputs[1]?.constant !== undefined && (everywhere || (node.attributes["inputLayout"] === undefined && node.inputs[1].dims?.[1] !== 1));

const isProduct = (node: Node, everywhere = false): boolean =>
  node.domain === "" && (node.op === "MatMul" || isConvolution(node, everywhere))
  && [...node.inputs, ...node.outputs].every((value) => !value || (value.dtype === "float32" && value.dims !== undefined));

const isAttention = (node: Node): boolean => node.domain === "sinter" && node.op === "Attention" && node.inputs.slice(0, 3).every((value) => value?.dtype === "float32" && value.dims !== undefined);

/** @param kept products that stay float32 */
function castProducts({ type, attention, everywhere }: Narrow, kept: ReadonlySet<Node>): Rule {
  const casts = new Map<Value, Value>();
  const narrow = (value: Value, editor: Editor): Value => {
    const known = casts.get(value) ?? editor.emit("Cast", [value], { to: NUMBER[type] });
    casts.set(value, known);
    return known;
  };
  return (node, editor) => {
    if (attention && isAttention(node)) {
      const attended = editor.emit("Attention", [...node.inputs.slice(0, 3).map((value) => narrow(value!, editor)), ...node.inputs.slice(3)], node.attributes, { domain: "sinter" });
      return editor.replaceNode(node, editor.emit("Cast", [attended], { to: FLOAT }));
    }
    if (!isProduct(node, everywhere) || kept.has(node)) return false;
    const [a, b, ...rest] = node.inputs;
    const sums = editor.emit(node.op, [narrow(a!, editor), narrow(b!, editor), ...rest], node.attributes);
    return editor.replaceNode(node, editor.emit("Cast", [sums], { to: FLOAT }));
  };
}

/** What may lie between a last product and an output, or another last product. */
const LAST = /^(Add|Mul|Cast|Clip|Flatten|Gather|GlobalAveragePool|Identity|LogSoftmax|ReduceMean|Relu|Reshape|Sigmoid|Slice|Softmax|Squeeze|Tanh|Transpose|Unsqueeze)$/;

/** Whether a node multiplies matrices or convolves, in float32 or narrow by now. */
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
const castAboveView = (to: number): Rule => (node, editor) => {
  const view = node.inputs[0]?.producer;
  if (!isCastTo(node, to) || !view || view.domain !== "" || !VIEWS.has(view.op) || !editor.isOnlyUse(node.inputs[0]!)) return false;
  const count = view.op === "Concat" ? view.inputs.length : 1;
  const narrowed = view.inputs.map((input, i) => (i < count ? editor.emit("Cast", [input], { to }) : input));
  return editor.replaceNode(node, editor.emit(view.op, narrowed, view.attributes));
};

/** A narrow value that became float32 and comes back is itself. */
const undoCasts = (type: Narrow["type"]): Rule => (node, editor) => {
  const wide = node.inputs[0]?.producer;
  const source = wide?.inputs[0];
  if (!isCastTo(node, NUMBER[type]) || !isCastTo(wide, FLOAT) || !source || source.dtype !== type) return false;
  return editor.replaceNode(node, source);
};

/**
 * Readers of a value that is stored narrow for a convolution (or, everywhere, for any product) read that.
 * @param sums with everywhere: results of integer products that are stored
 */
function storeOnce(to: number, sums: ReadonlySet<Value> | undefined): Rule {
  const stored = new Map<Value, Value>();
  return (node, editor) => {
    if (isCastTo(node, to)) {
      const known = stored.get(node.inputs[0]!);
      if (known && known !== node.outputs[0]) return editor.replaceNode(node, known);
      stored.set(node.inputs[0]!, node.outputs[0]!);
      return false;
    }
    let changed = false;
    node.inputs.forEach((value, i) => {
      if (!value || !isNarrowed(value, editor, to, sums)) return;
      const narrow = stored.get(value) ?? editor.emit("Cast", [value], { to });
      stored.set(value, narrow);
      editor.setInput(node, i, editor.emit("Cast", [narrow], { to: FLOAT }));
      changed = true;
    });
    return changed;
  };
}

function isNarrowed(value: Value, editor: Editor, to: number, sums: ReadonlySet<Value> | undefined): boolean {
  const everywhere = sums !== undefined;
  if (value.dtype !== "float32" || value.producer === undefined || value.constant || editor.isOutput(value) || isCastTo(value.producer, FLOAT)) return false;
  if (everywhere && (isAveragedImage(value, editor) || sums.has(value))) return true;
  return editor.usersOf(value).some((user) => isCastTo(user, to) && (everywhere || editor.usersOf(user.outputs[0]!).some(({ op }) => op === "Conv")));
}

/** A mean over an image reads all of it again, so that its size is what the mean costs. */
function isAveragedImage(value: Value, editor: Editor): boolean {
  return value.dims?.length === 4 && editor.usersOf(value).some(({ op }) => op === "ReduceMean" || op === "GlobalAveragePool");
}

/** What may follow the sums of an integer product before its result is stored. */
const SCALING: ReadonlySet<string> = new Set(["Cast", "Mul", "Add", "Relu", "Clip", "Gelu", "Swish", "HardSwish", "Sigmoid"]);

/** The integer product whose sums these are, scaled. */
function integerProductOf(value: Value | undefined): Node | undefined {
  const node = value?.producer;
  if (!node || node.domain !== "") return undefined;
  if (node.op === "ConvInteger" || node.op === "MatMulInteger") return node;
  if (!SCALING.has(node.op)) return undefined;
  const computed = node.inputs.filter((input) => input && !input.constant);
  return computed.length === 1 ? integerProductOf(computed[0]) : undefined;
}

/** Results that are stored although only sums follow: of two branches that are added the earlier one, and rows that are looked at as a whole. */
function storedSums(nodes: readonly Node[]): ReadonlySet<Value> {
  const order = new Map(nodes.map((node, i) => [node, i]));
  return new Set(nodes.flatMap((node): readonly Value[] => {
    if (node.domain !== "") return [];
    if (node.op === "ReduceMin" || node.op === "ReduceMax") return integerProductOf(node.inputs[0]) ? [node.inputs[0]!] : [];
    const [a, b] = node.op === "Add" ? node.inputs.map(integerProductOf) : [];
    return a && b && a !== b ? [node.inputs[order.get(a)! < order.get(b)! ? 0 : 1]!] : [];
  }));
}
