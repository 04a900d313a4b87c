/** Products of tensors: MatMul and its integer and packed forms, Gemm, Einsum, attention. */
import type { DType } from "../../base/index.ts";
import { add, type Dim, floorDiv, mul, type Node } from "../../ir/index.ts";
import type { InferRule } from "../contract.ts";
import { broadcast, commonType, type Dims, dimsOf, dimsText, numberOf, require, type Rules, setOutput, stringOf, typeOf } from "./rule.ts";

/** numpy's matmul; undefined when a shape is unknown. */
function matmulDims(node: Node, a: Dims | undefined, b: Dims | undefined): Dims | undefined {
  if (!a || !b) return undefined;
  require(node, a.length > 0 && b.length > 0, () => "an input is a scalar; expected at least one dimension.");
  const left = a.length === 1 ? [1, ...a] : a;
  const right = b.length === 1 ? [...b, 1] : b;
  const [inner, outer] = [left.at(-1)!, right.at(-2)!];
  if (typeof inner === "number" && typeof outer === "number") require(node, inner === outer, () => `cannot multiply ${dimsText(a)} by ${dimsText(b)}: ${inner} columns against ${outer} rows.`);
  const batch = broadcast(node, [left.slice(0, -2), right.slice(0, -2)])!;
  return [...batch, ...(a.length === 1 ? [] : [left.at(-2)!]), ...(b.length === 1 ? [] : [right.at(-1)!])];
}

const matmul: InferRule = (node) => setOutput(node, 0, commonType(node, [0, 1]), matmulDims(node, dimsOf(node, 0), dimsOf(node, 1)));

function swapped(dims: Dims | undefined, swaps: boolean): Dims | undefined {
  return dims && swaps && dims.length > 1 ? [...dims.slice(0, -2), dims.at(-1)!, dims.at(-2)!] : dims;
}

function batchMoved(dims: Dims | undefined, moves: boolean): Dims | undefined {
  return dims && moves && dims.length > 2 ? [...dims.slice(1, -1), dims[0]!, dims.at(-1)!] : dims;
}

const fusedMatMul: InferRule = (node) => {
  const operand = (input: number, side: "A" | "B"): Dims | undefined =>
    swapped(batchMoved(dimsOf(node, input), numberOf(node, `transBatch${side}`, 0) !== 0), numberOf(node, `trans${side}`, 0) !== 0);
  setOutput(node, 0, typeOf(node, 0), matmulDims(node, operand(0, "A"), operand(1, "B")));
};

const gemm: InferRule = (node) => {
  const [a, b] = [swapped(dimsOf(node, 0), numberOf(node, "transA", 0) !== 0), swapped(dimsOf(node, 1), numberOf(node, "transB", 0) !== 0)];
  for (const dims of [a, b]) require(node, !dims || dims.length === 2, () => `input ${dimsText(dims ?? [])} is no matrix.`);
  setOutput(node, 0, commonType(node, [0, 1]), matmulDims(node, a, b));
};

const integerMatmul = (dtype: (node: Node) => DType | undefined, b: number): InferRule => (node) => setOutput(node, 0, dtype(node), matmulDims(node, dimsOf(node, 0), dimsOf(node, b)));

const matMulNBits: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  setOutput(node, 0, typeOf(node, 0), dims && [...dims.slice(0, -1), numberOf(node, "N", 0)]);
};

/** Labels of each term; an ellipsis stands for as many as its operand has dimensions left, aligned at the right. */
const einsum: InferRule = (node) => {
  const shapes = node.inputs.map((input) => input?.dims);
  const dtype = typeOf(node, 0);
  if (!shapes.every((dims) => dims !== undefined)) return setOutput(node, 0, dtype, undefined);
  const [left = "", right] = stringOf(node, "equation", "").replaceAll(" ", "").split("->");
  const terms = left.split(",");
  const spans = terms.map((term, i) => shapes[i]!.length - term.replace("...", "").length);
  const widest = Math.max(0, ...terms.map((term, i) => (term.includes("...") ? spans[i]! : 0)));
  const labels = (term: string, span: number): string[] => term.split(/(\.\.\.|.)/).filter(Boolean).flatMap((item) => (item === "..." ? Array.from({ length: span }, (_, k) => `.${widest - span + k}`) : [item]));
  const sizes = new Map<string, Dim>();
  terms.forEach((term, i) => {
    const names = labels(term, spans[i]!);
    require(node, names.length === shapes[i]!.length, () => `term "${term}" does not fit its operand ${dimsText(shapes[i]!)}.`);
    names.forEach((name, d) => { if ((sizes.get(name) ?? 1) === 1) sizes.set(name, shapes[i]![d]!); });
  });
  const letters = [...left.replace(/[.,]/g, "")];
  const implied = [...new Set(letters)].filter((letter) => letters.indexOf(letter) === letters.lastIndexOf(letter)).sort();
  const output = right === undefined ? [...Array.from({ length: widest }, (_, k) => `.${k}`), ...implied] : labels(right, widest);
  setOutput(node, 0, dtype, output.map((name) => sizes.get(name) ?? 1));
};

/** ONNX Attention-25: projected inputs of rank 3 with head counts, or [batch, heads, length, size]; past states before the new ones. */
const attention: InferRule = (node) => {
  const [q, k, v] = [dimsOf(node, 0), dimsOf(node, 1), dimsOf(node, 2)];
  const dtype = typeOf(node, 0);
  if (!q || !k || !v) return [0, 1, 2, 3].forEach((i) => setOutput(node, i, i === 1 ? typeOf(node, 1) : i === 2 ? typeOf(node, 2) : dtype, undefined));
  const isFlat = q.length === 3;
  const heads = isFlat ? numberOf(node, "q_num_heads", 1) : q[1]!;
  const kvHeads = isFlat ? numberOf(node, "kv_num_heads", 1) : k[1]!;
  const sizeOf = (dims: Dims, count: Dim): Dim => (dims.length === 3 ? floorDiv(dims[2]!, count) : dims[3]!);
  const lengthOf = (dims: Dims): Dim => dims[dims.length - 2]!;
  const past = dimsOf(node, 4)?.[2] ?? 0;
  const total = add(past, lengthOf(k));
  const valueSize = sizeOf(v, kvHeads);
  setOutput(node, 0, dtype, isFlat ? [q[0]!, q[1]!, mul(heads, valueSize)] : [q[0]!, heads, q[2]!, valueSize]);
  setOutput(node, 1, typeOf(node, 1), [k[0]!, kvHeads, total, sizeOf(k, kvHeads)]);
  setOutput(node, 2, typeOf(node, 2), [v[0]!, kvHeads, total, valueSize]);
  setOutput(node, 3, dtype, [q[0]!, heads, lengthOf(q), total]);
};

/** Ours: q [b, h, i, d], k [b, h', j, d], v [b, h', j, e], mask that broadcasts to [b, h, i, j]; gives [b, h, i, e]. */
const sinterAttention: InferRule = (node) => {
  const [q, v] = [dimsOf(node, 0), dimsOf(node, 2)];
  setOutput(node, 0, typeOf(node, 0), q && v && [q[0]!, q[1]!, q[2]!, v[3]!]);
};

/** Ours: [..., bytes] to [..., 2 * bytes] integers of four bits, low ones first. */
const unpack4: InferRule = (node) => {
  const dims = dimsOf(node, 0);
  setOutput(node, 0, numberOf(node, "signed", 0) !== 0 ? "int8" : "uint8", dims && [...dims.slice(0, -1), mul(dims.at(-1)!, 2)]);
};

/** Ours: x [..., k] times weights [n, bytes of a row]. */
const blockMatmul: InferRule = (node) => {
  const [x, weights] = [dimsOf(node, 0), dimsOf(node, 1)];
  setOutput(node, 0, "float32", x && weights && [...x.slice(0, -1), weights[0]!]);
};

const linearAttention: InferRule = (node) => {
  const [q, k, v] = [dimsOf(node, 0), dimsOf(node, 1), dimsOf(node, 2)];
  const dtype = typeOf(node, 0);
  if (!q || !k || !v) return [0, 1].forEach((i) => setOutput(node, i, dtype, undefined));
  const [heads, kvHeads] = [numberOf(node, "q_num_heads", 1), numberOf(node, "kv_num_heads", 1)];
  const [keySize, valueSize] = [floorDiv(k[2]!, kvHeads), floorDiv(v[2]!, kvHeads)];
  setOutput(node, 0, dtype, [q[0]!, q[1]!, mul(heads, valueSize)]);
  setOutput(node, 1, typeOf(node, 3) ?? dtype, [q[0]!, kvHeads, keySize, valueSize]);
};

/** onnxruntime's: query [batch, length, hidden]; states [batch, heads, total, size]. */
const multiHeadAttention: InferRule = (node) => {
  const [q, k, v] = [dimsOf(node, 0), dimsOf(node, 1), dimsOf(node, 2)];
  const dtype = typeOf(node, 0);
  const hidden = v && (v.length === 3 ? v[2]! : mul(v[1]!, v[3]!));
  setOutput(node, 0, dtype, q && q.length === 3 && hidden !== undefined ? [q[0]!, q[1]!, hidden] : q?.length === 5 ? [q[0]!, q[1]!, mul(q[2]!, q[4]!)] : undefined);
  const heads = numberOf(node, "num_heads", 1);
  const past = dimsOf(node, 6)?.[2] ?? 0;
  const state = (dims: Dims | undefined): Dims | undefined => (dims?.length === 3 ? [dims[0]!, heads, add(past, dims[1]!), floorDiv(dims[2]!, heads)] : undefined);
  setOutput(node, 1, dtype, state(k));
  setOutput(node, 2, dtype, state(v));
};

const microsoftAttention: InferRule = (node) => {
  const [x, weights] = [dimsOf(node, 0), dimsOf(node, 1)];
  const sizes = node.attributes["qkv_hidden_sizes"] as readonly number[] | undefined;
  const width = sizes?.length === 3 ? sizes[2]! : weights && floorDiv(weights[1]!, 3);
  setOutput(node, 0, typeOf(node, 0), x && width !== undefined ? [x[0]!, x[1]!, width] : undefined);
  const heads = numberOf(node, "num_heads", 1);
  const past = dimsOf(node, 4);
  setOutput(node, 1, typeOf(node, 0), x && width !== undefined ? [2, x[0]!, heads, add(past?.[3] ?? 0, x[1]!), floorDiv(width, heads)] : undefined);
};

export const CONTRACTION: Rules = {
  MatMul: matmul, Gemm: gemm, Einsum: einsum, Attention: attention, LinearAttention: linearAttention,
  MatMulInteger: integerMatmul(() => "int32", 1),
  QLinearMatMul: integerMatmul((node) => typeOf(node, 7), 3),
  "com.microsoft.FusedMatMul": fusedMatMul,
  "com.microsoft.FusedGemm": gemm,
  "com.microsoft.MatMulNBits": matMulNBits,
  "com.microsoft.MultiHeadAttention": multiHeadAttention,
  "com.microsoft.Attention": microsoftAttention,
  "sinter.Attention": sinterAttention,
  "sinter.Unpack4": unpack4,
  "sinter.BlockMatMul": blockMatmul,
};
