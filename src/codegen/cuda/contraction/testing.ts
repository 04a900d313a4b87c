/** What the tests of GPU contractions share: kernels to try, and their results by plain loops. */
import { type DType, fromBfloat16Bits, fromFloat16Bits, newArray, type NumericArray, toBfloat16Bits, toFloat16Bits } from "../../../base/index.ts";
import { type AttentionKernel, type Bindings, type Buffer, type ConvKernel, type Dim, type Epilogue, evaluate, type Expr, type MatmulKernel, mul, type ScalarOp, type StridedOperand, type ZeroPoint } from "../../../ir/index.ts";
import { spanOf } from "../../../tune/index.ts";
import { stridesOf } from "./strides.ts";

export type Contents = Map<Buffer, NumericArray>;

interface Codec {
  readonly read: (bits: number) => number;
  readonly write: (value: number) => number;
}

/** Elements of a type as numbers, and back. */
export function codecOf(dtype: DType): Codec {
  switch (dtype) {
    case "bfloat16": return { read: fromBfloat16Bits, write: toBfloat16Bits };
    case "float16": return { read: fromFloat16Bits, write: toFloat16Bits };
    default: return { read: (value) => value, write: (value) => value };
  }
}

export function buffer(name: string, dtype: DType, dims: readonly Dim[], strides?: readonly Dim[]): Buffer {
  return { name, dtype, dims, ...(strides && { strides }) };
}

/** Random numbers in [-1, 1) from a seed. */
export function randomizer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return ((state >>> 8) & 0xffff) / 32768 - 1;
  };
}

export function randomContents(buffers: readonly Buffer[], bindings: Bindings, seed = 1): Contents {
  const random = randomizer(seed);
  return new Map(buffers.map((item) => {
    const { write } = codecOf(item.dtype);
    const array = newArray(item.dtype, Math.max(1, spanOf(item, bindings))) as Float32Array;
    const largest = item.dtype === "int8" ? 127 : 0;
    for (let i = 0; i < array.length; i++) array[i] = item.dtype === "uint8" ? Math.floor((random() + 1) * 127.9) : largest > 0 ? Math.round(random() * largest) : write(random());
    return [item, array];
  }));
}

/** Element at a position, as a number. */
function elementAt(contents: Contents, item: Buffer, position: number): number {
  return codecOf(item.dtype).read(Number(contents.get(item)![position]));
}

/** To the nearest integer, half to even. */
function rounded(value: number): number {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor & 1) : Math.round(value);
}

const OPERATIONS: Partial<Record<ScalarOp, (a: number, b: number) => number>> = {
  add: (a, b) => a + b, sub: (a, b) => a - b, mul: (a, b) => a * b, max: Math.max, min: Math.min, div: (a, b) => a / b, round: rounded, tanh: Math.tanh, exp: Math.exp,
};

/** An epilogue's value at a point; knows the operators that tests use. */
export function epilogueValue(epilogue: Epilogue | undefined, sum: number, point: readonly number[], contents: Contents, bindings: Bindings): number {
  const value = (expr: Expr): number => {
    switch (expr.kind) {
      case "const": return Number(expr.value);
      case "accumulator": return sum;
      case "axis": return point[epilogue!.axes.indexOf(expr.axis)]!;
      case "load": return elementAt(contents, expr.buffer, positionOf(expr.buffer, expr.index.map(value), bindings));
      case "cast": return expr.type === "i32" ? Math.trunc(value(expr.arg)) : value(expr.arg);
      case "op": return OPERATIONS[expr.op]!(value(expr.args[0]!), expr.args[1] ? value(expr.args[1]) : 0);
      default: throw new Error(`no test evaluation of ${expr.kind}`);
    }
  };
  return epilogue ? value(epilogue.value) : sum;
}

function positionOf(item: Buffer, index: readonly number[], bindings: Bindings): number {
  const strides = stridesOf(item);
  return index.reduce((at, i, d) => at + i * evaluate(strides[d]!, bindings), 0);
}

/** All points of a box, last index fastest. */
function* pointsOf(sizes: readonly number[]): Generator<number[]> {
  if (sizes.length === 0) return yield [];
  for (const outer of pointsOf(sizes.slice(0, -1))) for (let i = 0; i < sizes.at(-1)!; i++) yield [...outer, i];
}

/** Positions in the output and the values expected there. */
export type Expected = Map<number, number>;

const zeroOf = (zero: ZeroPoint | undefined): number => (typeof zero === "number" ? zero : 0);

export function expectedMatmul({ batch, m, n, k, a, b, output, epilogue }: MatmulKernel, bindings: Bindings, contents: Contents): Expected {
  const at = (dim: Dim | undefined): number => evaluate(dim ?? 0, bindings);
  const depth = at(k);
  const expected: Expected = new Map();
  for (const point of pointsOf([...batch, m, n].map(at))) {
    const start = ({ batchStrides, offset }: MatmulKernel["a"]): number => batchStrides.reduce<number>((sum, stride, i) => sum + point[i]! * at(stride), at(offset));
    const [row, column] = point.slice(-2) as [number, number];
    let sum = 0;
    for (let z = 0; z < depth; z++) {
      sum += (elementAt(contents, a.buffer, start(a) + row * at(a.rowStride) + z * at(a.columnStride)) - zeroOf(a.zero)) * elementAt(contents, b.buffer, start(b) + z * at(b.rowStride) + column * at(b.columnStride));
    }
    expected.set(positionOf(output, point, bindings), epilogueValue(epilogue, sum, point, contents, bindings));
  }
  return expected;
}

/** Two spatial dimensions. */
export function expectedConv(conv: ConvKernel, bindings: Bindings, contents: Contents): Expected {
  const { input, weights, output, groups, kernel, strides, dilations, pads, inputChannelsFirst: first } = conv;
  const dims = input.dims.map((dim) => evaluate(dim, bindings));
  const [height, width, channels] = first ? [dims[2]!, dims[3]!, dims[1]!] : [dims[1]!, dims[2]!, dims[3]!];
  const outputs = output.dims.map((dim) => evaluate(dim, bindings));
  const [inside, outside] = [channels / groups, outputs[3]! / groups];
  const expected: Expected = new Map();
  for (const point of pointsOf(outputs)) {
    const [image, oy, ox, channel] = point as [number, number, number, number];
    const group = Math.floor(channel / outside);
    let sum = 0;
    for (const [ky, kx, c] of pointsOf([kernel[0]!, kernel[1]!, inside]) as Generator<[number, number, number]>) {
      const [y, x] = [oy * strides[0]! - pads[0]! + ky * dilations[0]!, ox * strides[1]! - pads[1]! + kx * dilations[1]!];
      if (y < 0 || x < 0 || y >= height || x >= width) continue;
      const from = group * inside + c;
      sum += (elementAt(contents, input, positionOf(input, first ? [image, from, y, x] : [image, y, x, from], bindings)) - zeroOf(conv.inputZero)) * elementAt(contents, weights, positionOf(weights, [channel, c, ky, kx], bindings));
    }
    expected.set(positionOf(output, point, bindings), epilogueValue(conv.epilogue, sum, point, contents, bindings));
  }
  return expected;
}

export function expectedAttention(kernel: AttentionKernel, bindings: Bindings, contents: Contents): Expected {
  const at = (dim: Dim | undefined): number => evaluate(dim ?? 0, bindings);
  const [keys, size, valueSize] = [at(kernel.keys), at(kernel.headSize), at(kernel.valueSize)];
  const place = (operand: StridedOperand, point: readonly number[]): number => operand.strides.reduce<number>((sum, stride, i) => sum + point[i]! * at(stride), at(operand.offset));
  const read = (operand: StridedOperand, point: readonly number[]): number => elementAt(contents, operand.buffer, place(operand, point));
  const expected: Expected = new Map();
  for (const [b, h, i] of pointsOf([at(kernel.batch), at(kernel.heads), at(kernel.queries)]) as Generator<[number, number, number]>) {
    const head = Math.floor(h / kernel.headsPerKv);
    const last = kernel.causalOffset === undefined ? keys - 1 : Math.min(keys - 1, i + at(kernel.causalOffset));
    const scores: number[] = [];
    for (let j = 0; j <= last; j++) {
      let score = 0;
      for (let e = 0; e < size; e++) score += read(kernel.q, [b, h, i, e]) * read(kernel.k, [b, head, j, e]);
      scores.push(score * kernel.scale + (kernel.mask ? epilogueValue(kernel.mask, 0, [b, h, i, j], contents, bindings) : 0));
    }
    const most = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - most));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    for (let e = 0; e < valueSize; e++) {
      const sum = weights.reduce((so, weight, j) => so + weight * read(kernel.v, [b, head, j, e]), 0);
      expected.set(place(kernel.output, [b, h, i, e]), total > 0 ? sum / total : 0);
    }
  }
  return expected;
}

// Kernels to try.

const load = (from: Buffer, index: readonly Expr[]): Expr => ({ kind: "load", type: "f32", buffer: from, index });
const op = (name: ScalarOp, ...args: readonly Expr[]): Expr => ({ kind: "op", type: "f32", op: name, args });

/** max(sum + bias[column], 0) + residual[point]. */
export function biasReluResidual(output: Buffer, bias: Buffer, residual: Buffer): Epilogue {
  const axes = output.dims.map((extent, i) => ({ name: `o${i}`, extent }));
  const index = axes.map((axis): Expr => ({ kind: "axis", type: "i64", axis }));
  return { axes, value: op("add", op("max", op("add", { kind: "accumulator", type: "f32" }, load(bias, index.slice(-1))), { kind: "const", type: "f32", value: 0 }), load(residual, index)) };
}

/** Sums in units of 1/8192, with a bias and a residual in units of 1/4 or their own, as bytes in units of 1/2: every step is exact in float32. */
export function requantized(output: Buffer, bias: Buffer, residual: Buffer | undefined): Epilogue {
  const axes = output.dims.map((extent, i) => ({ name: `o${i}`, extent }));
  const index = axes.map((axis): Expr => ({ kind: "axis", type: "i64", axis }));
  const number = (value: number): Expr => ({ kind: "const", type: "f32", value });
  const scaled = op("add", op("mul", { kind: "cast", type: "f32", arg: { kind: "accumulator", type: "i32" } }, number(1 / 8192)), op("mul", load(bias, index.slice(-1)), number(0.25)));
  const bytes = residual?.dtype === "uint8" || residual?.dtype === "int8";
  const added = residual && (bytes ? op("mul", { kind: "cast", type: "f32", arg: { kind: "load", type: "i32", buffer: residual, index } }, number(0.25)) : load(residual, index));
  const [low, high] = output.dtype === "int8" ? [-128, 127] : [0, 255];
  const clipped = op("max", op("min", added ? op("add", scaled, added) : scaled, number(high / 2)), number(low / 2));
  return { axes, value: { kind: "cast", type: "i32", arg: op("round", op("div", clipped, number(0.5))) } };
}

export interface Sample<K> {
  readonly kernel: K;
  readonly bindings: Bindings;
  /** What it reads. */
  readonly inputs: readonly Buffer[];
  readonly constant?: Buffer;
}

export interface MatmulOptions {
  readonly dtype: DType;
  readonly output?: DType;
  /** Of B, when it is another, and the zero point of A. */
  readonly right?: DType;
  readonly zero?: number;
  /** Bytes as results, with this residual added before. */
  readonly requantize?: DType | "alone";
  readonly m: Dim;
  readonly n: number;
  readonly k: number;
  readonly batch?: readonly number[];
  readonly constant?: boolean;
  readonly epilogue?: boolean;
  readonly bindings?: Bindings;
}

export function matmulSample({ dtype, right = dtype, zero, requantize, output: outputType = dtype, m, n, k, batch = [], constant = false, epilogue = false, bindings = new Map() }: MatmulOptions): Sample<MatmulKernel> {
  const batchesOfB = constant ? [] : batch;
  const a = buffer("a", dtype, [...batch, m, k]);
  const b = buffer("b", right, [...batchesOfB, k, n]);
  const output = buffer("c", outputType, [...batch, m, n]);
  const [bias, residual] = [buffer("bias", requantize ? "uint8" : dtype, [n]), buffer("residual", requantize && requantize !== "alone" ? requantize : dtype, output.dims)];
  const read = requantize === "alone" ? [bias] : epilogue || requantize ? [bias, residual] : [];
  const kernel: MatmulKernel = {
    kind: "matmul", name: "product", batch, m, n, k, output,
    a: { buffer: a, batchStrides: batch.map((_, i) => mul(...batch.slice(i + 1), m, k)), rowStride: k, columnStride: 1, ...(zero !== undefined && { zero }) },
    b: { buffer: b, batchStrides: batch.map((_, i) => (constant ? 0 : mul(...batch.slice(i + 1), k, n))), rowStride: n, columnStride: 1 },
    ...(epilogue && { epilogue: biasReluResidual(output, bias, residual) }),
    ...(requantize && { epilogue: requantized(output, bias, requantize === "alone" ? undefined : residual) }),
  };
  return { kernel, bindings, inputs: [a, b, ...read], ...(constant && { constant: b }) };
}

export interface ConvOptions {
  readonly dtype: DType;
  /** Of the weights, when it is another, and the zero point of the input. */
  readonly right?: DType;
  readonly zero?: number;
  /** Bytes as results. */
  readonly requantize?: boolean;
  readonly batch: Dim;
  readonly channels: number;
  readonly size: number;
  readonly outputs: number;
  readonly kernel: number;
  readonly stride?: number;
  readonly pad?: number;
  readonly dilation?: number;
  readonly groups?: number;
  readonly channelsFirst?: boolean;
  readonly epilogue?: boolean;
  readonly bindings?: Bindings;
}

export function convSample({ dtype, right = dtype, zero, requantize = false, batch, channels, size, outputs, kernel: side, stride = 1, pad = 0, dilation = 1, groups = 1, channelsFirst = false, epilogue = false, bindings = new Map() }: ConvOptions): Sample<ConvKernel> {
  const out = Math.floor((size + 2 * pad - dilation * (side - 1) - 1) / stride) + 1;
  const input = buffer("x", dtype, channelsFirst ? [batch, channels, size, size] : [batch, size, size, channels]);
  const weights = buffer("w", right, [outputs, channels / groups, side, side]);
  const output = buffer("y", dtype, [batch, out, out, outputs]);
  const [bias, residual] = [buffer("bias", requantize ? "uint8" : dtype, [outputs]), buffer("residual", dtype, output.dims)];
  const kernel: ConvKernel = {
    kind: "conv", name: "convolution", input, weights, output, groups, kernel: [side, side], strides: [stride, stride], dilations: [dilation, dilation], pads: [pad, pad],
    ...(channelsFirst && { inputChannelsFirst: true }), ...(epilogue && { epilogue: biasReluResidual(output, bias, residual) }),
    ...(requantize && { epilogue: requantized(output, bias, undefined) }), ...(zero !== undefined && { inputZero: zero }),
  };
  return { kernel, bindings, inputs: [input, weights, ...(requantize ? [bias] : epilogue ? [bias, residual] : [])], constant: weights };
}

export interface AttentionOptions {
  readonly dtype: DType;
  readonly batch: Dim;
  readonly heads: number;
  readonly headsPerKv?: number;
  readonly queries: Dim;
  readonly keys: Dim;
  readonly size: number;
  readonly causal?: boolean;
  /** A mask of [batch, keys]. */
  readonly masked?: boolean;
  readonly bindings?: Bindings;
}

/** Heads lie side by side in a row, as a projection leaves them. */
export function attentionSample({ dtype, batch, heads, headsPerKv = 1, queries, keys, size, causal = false, masked = false, bindings = new Map() }: AttentionOptions): Sample<AttentionKernel> {
  const operand = (name: string, rows: Dim, count: number): StridedOperand => ({ buffer: buffer(name, dtype, [batch, rows, count, size]), strides: [mul(rows, count, size), size, count * size, 1] });
  const [q, k, v, output] = [operand("q", queries, heads), operand("k", keys, heads / headsPerKv), operand("v", keys, heads / headsPerKv), operand("o", queries, heads)];
  const mask = buffer("mask", "float32", [batch, keys]);
  const axes = [batch, heads, queries, keys].map((extent, i) => ({ name: `a${i}`, extent }));
  const index = axes.map((axis): Expr => ({ kind: "axis", type: "i64", axis }));
  const kernel: AttentionKernel = {
    kind: "attention", name: "attention", batch, heads, headsPerKv, queries, keys, headSize: size, valueSize: size, scale: 1 / Math.sqrt(size), q, k, v, output,
    ...(causal && { causalOffset: 0 }), ...(masked && { mask: { axes, value: op("mul", load(mask, [index[0]!, index[3]!]), { kind: "const", type: "f32", value: 3 }) } }),
  };
  return { kernel, bindings, inputs: [q.buffer, k.buffer, v.buffer, ...(masked ? [mask] : [])] };
}
