/**
 * Contractions as kernels: matrix products, convolutions and attention, each with its epilogue.
 *
 * A contraction is written where the last node of its chain stands, when everything the epilogue reads exists. What the
 * kernel sees are plain views: batches that follow each other are rows, a convolution of one pixel is a product, a
 * transposed convolution is one convolution per phase of its stride.
 */
import { assert, UnsupportedError } from "../base/index.ts";
import { type AttentionKernel, type Axis, type Buffer, type ConvKernel, type Dim, dimEqual, dimsEqual, type Epilogue, type Expr, i64, type Kernel, type MatmulKernel, type MatmulOperand, type Node, op, product, type StridedOperand, sub, type Value, type ZeroPoint } from "../ir/index.ts";
import { convInputs, convPads, sumType } from "./contractions.ts";
import { axesOf, axisExpr, elementOf, type ExpressionContext, type ReshapedIndex, reshapeIndex } from "./expression.ts";
import { isReshape } from "./fusion.ts";
import { InlineTrace, type StepWriter } from "./step-writer.ts";
import { convPhases } from "./transposed-conv.ts";
import { contiguousView, expandView, reshapeView, sliceView, transposeView, type View } from "./view.ts";

export class ContractionWriter {
  private readonly writer: StepWriter;

  constructor(writer: StepWriter) {
    this.writer = writer;
  }

  emit(node: Node, chain: readonly Node[]): void {
    const trace = new InlineTrace();
    if (isMatmul(node)) this.emitMatmul(node, chain, trace);
    else if (node.op === "Conv" || node.op === "ConvInteger") this.emitConv(node, chain, trace);
    else if (node.op === "ConvTranspose") this.emitTransposedConv(node, chain, trace);
    else this.emitAttention(node, chain, trace);
  }

  /** Where a contraction's results go: the last value of its chain, with the axes of the contraction's own output dims. */
  private target(node: Node, chain: readonly Node[]): { result: Value; written: View; own: View } {
    const last = chain[chain.length - 1] ?? node;
    const result = last.outputs[0]!;
    const straighten = (view: View): View | undefined => reshapeView(last.op === "Transpose" && last !== node ? transposeView(view, inverse(last.attributes["perm"] as number[])) : view, node.outputs[0]!.dims!);
    const placed = this.writer.place(result);
    const fits = straighten(placed);
    if (fits && (!isMatmul(node) || joinsRows(fits))) return { result, written: placed, own: fits };
    const written = this.writer.newView(result);
    const own = straighten(written);
    assert(own, `the results of ${node.name} cannot be placed`);
    return { result, written, own };
  }

  /** @param places where in the contraction's value a point of the kernel's output lies, when that is not the point itself */
  private epilogue(node: Node, chain: readonly Node[], axisDims: readonly Dim[], bias: ((axes: readonly Axis[]) => Expr) | undefined, trace: InlineTrace, places?: (axes: readonly Axis[]) => Expr[]): Epilogue | undefined {
    const pointwise = chain.filter((item) => item.op !== "Transpose");
    if (!bias && !pointwise.some((item) => !isReshape(item))) return undefined;
    const axes = axesOf(axisDims, "o");
    const accumulator: Expr = { kind: "accumulator", type: sumType(node) };
    const start: Expr = bias ? { kind: "op", type: "f32", op: "add", args: [accumulator, bias(axes)] } : accumulator;
    const value = node.outputs[0]!;
    let dims: readonly Dim[] = value.dims!;
    const ownIndex = places ? places(axes) : axes.map(axisExpr);
    const ownDims = places ? dims : axisDims;
    let index = reshapeIndex(ownDims, dims, ownIndex);
    const reshaped: ReshapedIndex[] = [{ from: ownDims, fromIndex: ownIndex, to: dims, toIndex: index }];
    const given = new Map<Value, Expr>([[value, start]]);
    let result: Expr = start;
    for (const item of pointwise) {
      const output = item.outputs[0]!;
      if (isReshape(item)) {
        index = reshapeIndex(ownDims, output.dims!, ownIndex);
        dims = output.dims!;
        reshaped.push({ from: ownDims, fromIndex: ownIndex, to: dims, toIndex: index });
      } else {
        const context: ExpressionContext = { viewOf: this.writer.viewOf, bufferOf: this.writer.bufferOf, given, reshaped, onInline: trace.note };
        result = elementOf(output, index, context);
      }
      given.set(output, result);
    }
    return { axes, value: result };
  }

  private emitMatmul(node: Node, chain: readonly Node[], trace: InlineTrace): void {
    const operands = matmulOperands(this.writer.materialize(node.inputs[0]!), this.rightSide(node), node.outputs[0]!.dims!);
    const { result, written, own } = this.target(node, chain);
    const ownDims = [...operands.batch, operands.m, operands.n];
    const output = reshapeView(own, ownDims);
    assert(output, `the results of ${node.name} cannot be placed`);
    const epilogue = this.epilogue(node, chain, ownDims, undefined, trace);
    const [zeroA, zeroB] = node.op === "MatMulInteger" ? node.inputs.slice(2) : [];
    const kernel: MatmulKernel = {
      kind: "matmul", name: node.name, batch: operands.batch, m: operands.m, n: operands.n, k: operands.k,
      a: this.matmulOperand(operands.a, zeroA), b: { ...this.matmulOperand(operands.b, zeroB), ...this.blocksOf(node) }, output: this.writer.bufferOf(output), ...(epilogue ? { epilogue } : {}),
    };
    this.finish(kernel, node, chain, trace, result, written);
  }

  /** Weights with a scale per block lie as they do; here they have the dims of what they stand for. */
  private rightSide(node: Node): View {
    const view = this.writer.materialize(node.inputs[1]!);
    return isBlockMatmul(node) ? { ...view, dims: [node.attributes["k"] as number, view.dims[0]!], strides: [1, 1] } : view;
  }

  private blocksOf(node: Node): Pick<MatmulOperand, "blocks"> {
    if (!isBlockMatmul(node)) return {};
    const [, , scales, zeros] = node.inputs;
    const bufferOf = (value: Value): Buffer => this.writer.bufferOf(this.writer.materializeContiguous(value));
    return { blocks: { bits: node.attributes["bits"] as 4 | 8, size: node.attributes["block_size"] as number, scales: bufferOf(scales!), ...(zeros ? { zeros: bufferOf(zeros) } : {}) } };
  }

  private matmulOperand(view: View, zero?: Value): MatmulOperand {
    const rank = view.dims.length;
    return { buffer: this.writer.bufferOf(view), batchStrides: view.strides.slice(0, rank - 2), rowStride: view.strides[rank - 2]!, columnStride: view.strides[rank - 1]!, ...(zero ? { zero: this.zeroPoint(zero) } : {}) };
  }

  /** The number where there is one that is known, else where the run finds it. */
  private zeroPoint(value: Value): ZeroPoint {
    if (value.constant && value.dims!.every((dim) => dim === 1)) return (value.dtype === "int8" ? new Int8Array(value.constant.bytes.slice().buffer) : value.constant.bytes)[0]!;
    return this.writer.bufferOf(this.writer.materializeContiguous(value));
  }

  private finish(kernel: Kernel, node: Node, chain: readonly Node[], trace: InlineTrace, result: Value, written: View): void {
    this.writer.viewOfValue.set(result, written);
    this.writer.push(this.withNarrowCopy(kernel, result, written), [...node.origins, ...trace.origins, ...chain.flatMap((item) => item.origins)], [node.op, ...trace.operators]);
  }

  /** The kernel with its results once more in bfloat16, when both are read and lie alike. */
  private withNarrowCopy(kernel: Kernel, result: Value, written: View): Kernel {
    if ((kernel.kind !== "matmul" && kernel.kind !== "conv") || kernel.output.strides || !dimEqual(product(kernel.output.dims), product(written.dims))) return kernel;
    const narrow = this.writer.placeNarrow(result);
    return narrow ? { ...kernel, copy: this.writer.bufferOf(contiguousView(narrow.storage, narrow.dtype, kernel.output.dims)) } : kernel;
  }

  private emitConv(node: Node, chain: readonly Node[], trace: InlineTrace): void {
    if (isPointwiseConv(node) && this.emitPointwiseConv(node, chain, trace)) return;
    const { input, weights, bias, inputZero, weightsZero } = convInputs(node);
    const { result, written, own } = this.target(node, chain);
    const spatial = weights.dims!.length - 2;
    const channelsFirst = node.attributes["inputLayout"] === "NCHW";
    const source = this.writer.materializeContiguous(input);
    const epilogue = this.epilogue(node, chain, node.outputs[0]!.dims!, this.channelBias(bias), trace);
    const kernel: ConvKernel = {
      kind: "conv", name: node.name, input: this.writer.bufferOf(source), weights: this.writer.bufferOf(this.writer.materializeContiguous(weights)), output: this.writer.bufferOf(own),
      groups: (node.attributes["group"] as number | undefined) ?? 1,
      kernel: weights.dims!.slice(2) as number[],
      strides: (node.attributes["strides"] as number[] | undefined) ?? new Array(spatial).fill(1),
      dilations: (node.attributes["dilations"] as number[] | undefined) ?? new Array(spatial).fill(1),
      pads: convPads(node)!,
      ...(channelsFirst ? { inputChannelsFirst: true } : {}),
      ...(inputZero ? { inputZero: this.zeroPoint(inputZero) } : {}),
      ...(weightsZero ? { weightsZero: this.zeroPoint(weightsZero) } : {}),
      ...(epilogue ? { epilogue } : {}),
    };
    this.finish(kernel, node, chain, trace, result, written);
  }

  /** A convolution that looks at one pixel is a matrix product whose rows are the pixels of all images. */
  private emitPointwiseConv(node: Node, chain: readonly Node[], trace: InlineTrace): boolean {
    const { input, weights, bias, inputZero, weightsZero } = convInputs(node);
    const dims = node.outputs[0]!.dims!;
    const [n, k] = weights.dims as number[];
    const m = product(dims.slice(0, -1));
    const a = reshapeView(this.writer.materialize(input), [m, k!]);
    if (!a) return false;
    const { result, written, own } = this.target(node, chain);
    const output = reshapeView(own, [m, n!]);
    if (!output) return false;
    const epilogue = this.epilogue(node, chain, [m, n!], this.channelBias(bias), trace);
    const kernel: MatmulKernel = {
      kind: "matmul", name: node.name, batch: [], m, n: n!, k: k!, a: this.matmulOperand(a, inputZero),
      b: { buffer: this.writer.bufferOf(this.writer.materializeContiguous(weights)), batchStrides: [], rowStride: 1, columnStride: k!, ...(weightsZero ? { zero: this.zeroPoint(weightsZero) } : {}) },
      output: this.writer.bufferOf(output), ...(epilogue ? { epilogue } : {}),
    };
    this.finish(kernel, node, chain, trace, result, written);
    return true;
  }

  private channelBias(bias: Value | undefined): ((axes: readonly Axis[]) => Expr) | undefined {
    if (!bias) return undefined;
    const buffer = this.writer.bufferOf(this.writer.materializeContiguous(bias));
    return (axes) => ({ kind: "load", type: "f32", buffer, index: [axisExpr(axes[axes.length - 1]!)] });
  }

  /** One convolution per remainder of the output's positions, all writing into one result. */
  private emitTransposedConv(node: Node, chain: readonly Node[], trace: InlineTrace): void {
    const [input, , bias] = node.inputs;
    const { result, written, own } = this.target(node, chain);
    const source = this.writer.materializeContiguous(input!);
    const kernels = convPhases(node).map((phase): ConvKernel => {
      let part = own;
      phase.starts.forEach((start, d) => { part = sliceView(part, d + 1, start, phase.strides[d]!, phase.counts[d]!); });
      const places = (axes: readonly Axis[]): Expr[] => axes.map((axis, i) => {
        const d = i - 1;
        return d < 0 || d >= phase.starts.length ? axisExpr(axis) : op("add", op("mul", axisExpr(axis), i64(phase.strides[d]!)), i64(phase.starts[d]!));
      });
      const epilogue = this.epilogue(node, chain, part.dims, this.channelBias(bias), trace, places);
      return {
        kind: "conv", name: node.name, input: this.writer.bufferOf(source), weights: this.writer.bufferOf(this.writer.materializeContiguous(phase.weights)), output: this.writer.bufferOf(part),
        groups: (node.attributes["group"] as number | undefined) ?? 1,
        kernel: phase.kernel, strides: phase.kernel.map(() => 1), dilations: phase.dilations, pads: phase.pads,
        ...(epilogue ? { epilogue } : {}),
      };
    });
    for (const kernel of kernels) this.finish(kernel, node, chain, trace, result, written);
  }

  private emitAttention(node: Node, chain: readonly Node[], trace: InlineTrace): void {
    const [q, k, v] = node.inputs.slice(0, 3).map((value) => this.attentionOperand(value!));
    const mask = node.inputs[3];
    const { result, written, own } = this.target(node, chain);
    const [batch, heads, queries, headSize] = q!.dims as [Dim, Dim, Dim, Dim];
    const keys = k!.dims[2]!;
    const kvHeads = k!.dims[1]!;
    const headsPerKv = dimEqual(heads, kvHeads) ? 1 : Number(heads) / Number(kvHeads);
    if (!Number.isInteger(headsPerKv)) throw new UnsupportedError("unsupported", `Attention "${node.name}" has ${heads} query heads and ${kvHeads} key heads; the first must be a multiple of the second.`);
    const kernel: AttentionKernel = {
      kind: "attention", name: node.name, batch, heads, headsPerKv, queries, keys, headSize, valueSize: v!.dims[3]!,
      q: this.strided(q!), k: this.strided(k!), v: this.strided(v!), output: this.strided(own),
      scale: (node.attributes["scale"] as number | undefined) ?? 1,
      ...(node.attributes["causal"] ? { causalOffset: sub(keys, queries) } : {}),
      ...(mask ? { mask: this.maskOf(mask, [batch, heads, queries, keys], trace) } : {}),
    };
    this.finish(kernel, node, chain, trace, result, written);
  }

  /** q, k and v are read through strides; rows must be contiguous, except that keys may be transposed. */
  private attentionOperand(value: Value): View {
    const view = this.writer.materialize(value);
    const last = view.strides[view.strides.length - 1]!;
    return last === 1 || last === 0 ? view : this.writer.materializeContiguous(value);
  }

  private strided(view: View): StridedOperand {
    return { buffer: this.writer.bufferOf(view), strides: view.strides as [Dim, Dim, Dim, Dim] };
  }

  private maskOf(mask: Value, dims: readonly Dim[], trace: InlineTrace): Epilogue {
    const axes = axesOf(dims, "s");
    if (this.writer.fusion.inlined.has(mask)) {
      const context: ExpressionContext = { viewOf: this.writer.viewOf, bufferOf: this.writer.bufferOf, onInline: trace.note };
      return { axes, value: elementOf(mask, axes.map((axis, i) => (mask.dims![i] === 1 ? i64(0) : axisExpr(axis))), context) };
    }
    const expanded = expandView(this.writer.materialize(mask), dims);
    assert(expanded, "an attention mask that does not broadcast to the scores");
    return { axes, value: { kind: "load", type: "f32", buffer: this.writer.bufferOf(expanded), index: axes.map(axisExpr) } };
  }
}

function isMatmul(node: Node): boolean {
  return node.op === "MatMul" || node.op === "MatMulInteger" || isBlockMatmul(node);
}

function isBlockMatmul(node: Node): boolean {
  return node.domain === "sinter" && node.op === "BlockMatMul";
}

/** Whether each output pixel is made from the input pixel at its place. */
function isPointwiseConv(node: Node): boolean {
  const [input, weights] = node.inputs;
  const are = (name: string, value: number): boolean => ((node.attributes[name] as number[] | undefined) ?? []).every((item) => item === value);
  return node.attributes["inputLayout"] !== "NCHW" && ((node.attributes["group"] as number | undefined) ?? 1) === 1
    && weights!.dims!.slice(2).every((size) => size === 1) && are("strides", 1)
    && dimsEqual(input!.dims!.slice(0, -1), node.outputs[0]!.dims!.slice(0, -1));
}

function inverse(permutation: readonly number[]): number[] {
  const result = new Array<number>(permutation.length);
  for (const [i, axis] of permutation.entries()) result[axis] = i;
  return result;
}

/** Whether rows of all batches follow each other at one distance, as a matrix product over all of them writes them. */
function joinsRows(view: View): boolean {
  const rank = view.dims.length;
  return rank < 2 || reshapeView(view, [product(view.dims.slice(0, -1)), view.dims[rank - 1]!]) !== undefined;
}

/** numpy's matmul rules; batch dims of A join M when B has none and A's rows follow each other. */
function matmulOperands(a: View, b: View, outputDims: readonly Dim[]): { a: View; b: View; batch: Dim[]; m: Dim; n: Dim; k: Dim } {
  const left = a.dims.length === 1 ? reshapeView(a, [1, a.dims[0]!])! : a;
  const right = b.dims.length === 1 ? { ...b, dims: [b.dims[0]!, 1], strides: [b.strides[0]!, 1] } : b;
  const [k, n] = right.dims.slice(-2) as [Dim, Dim];
  if (right.dims.length === 2 && left.dims.length > 2) {
    const rows = product(left.dims.slice(0, -1));
    const flat = reshapeView(left, [rows, k]);
    if (flat) return { a: flat, b: right, batch: [], m: rows, n, k };
  }
  const vectors = (a.dims.length === 1 ? 1 : 0) + (b.dims.length === 1 ? 1 : 0);
  const batch = outputDims.slice(0, outputDims.length - 2 + vectors);
  const m = left.dims[left.dims.length - 2]!;
  return { a: expandView(left, [...batch, m, k])!, b: expandView(right, [...batch, k, n])!, batch, m, n, k };
}
