/**
 * What the compiler knows about an operator: how its output types follow from its inputs (`infer`); where it can be
 * written as one expression per output element, that expression (`lower`); and where each step depends on the one
 * before, the kernels that do it (`sequential`).
 */
import type { DType } from "../base/index.ts";
import type { Buffer, Dim, Expr, Node, SequentialKernel } from "../ir/index.ts";

/** Gives out names for sizes that only the data decides. */
export interface InferContext {
  /** A fresh symbol, e.g. for the count of NonZero's results. The node's output then has a data-dependent shape. */
  dataSymbol(hint: string): Dim;
}

/**
 * Sets dtype, dims (symbolic where needed) and, for small integer tensors, `elements` of the node's outputs.
 * @throws UserError "model-invalid" when the inputs break the operator's rules; the text names the node.
 */
export type InferRule = (node: Node, context: InferContext) => void;

/** "" for ai.onnx; "com.microsoft.Gelu", "sinter.X" otherwise. */
export type OpKey = string;

export function opKey(node: Pick<Node, "op" | "domain">): OpKey {
  return node.domain ? `${node.domain}.${node.op}` : node.op;
}

/** Reads an element of input `input` of the node being lowered; index has one i64 expression per dimension of that input. */
export type LoadInput = (input: number, index: readonly Expr[]) => Expr;

/**
 * pointwise: each output element reads the same index of each input, broadcast included.
 * view: moves elements, no arithmetic (transpose, slice, pad, concat, gather, expand).
 * reduction: reads many elements per output element.
 */
export type LoweringKind = "pointwise" | "view" | "reduction";

export interface Lowering {
  readonly kind: LoweringKind;
  /** Whether this node (its dtypes, attributes, constant inputs) can be lowered this way. Absent: always. */
  supports?(node: Node): boolean;
  /** The value of output number `output` at `index` (one i64 expression per output dimension). */
  element(node: Node, output: number, index: readonly Expr[], load: LoadInput): Expr;
}

/** Memory for the kernels of a sequential operator. Buffers are row-major without gaps. */
export interface SequentialMemory {
  /** @param as the type to read its elements as, of the same size, for operators that only move them */
  input(index: number, as?: DType): Buffer;
  output(index: number, as?: DType): Buffer;
  /** Memory that only this operator's kernels use. */
  temporary(name: string, dtype: DType, dims: readonly Dim[]): Buffer;
}

/** What a sequential operator does, in order. */
export type SequentialPart =
  | { readonly kind: "kernel"; readonly kernel: SequentialKernel }
  /** The symbol, a size that only the data decide, becomes the first element of `from` (int64). */
  | { readonly kind: "size"; readonly symbol: Dim; readonly from: Buffer }
  /** Input to output, element by element. */
  | { readonly kind: "copy"; readonly input: number; readonly output: number };

export interface SequentialOperator {
  supports(node: Node): boolean;
  parts(node: Node, memory: SequentialMemory): readonly SequentialPart[];
}
