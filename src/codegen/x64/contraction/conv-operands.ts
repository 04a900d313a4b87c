/** What a convolution multiplies and how, and its weights in packed form: one matrix per group. */
import { DTYPE_BITS } from "../../../base/index.ts";
import type { Buffer, ConstantLookup, ConvKernel, PackedData } from "../../../ir/index.ts";
import type { Isa } from "../function.ts";
import type { ConvShape } from "./conv-shape.ts";
import { sumStart, type SumStart } from "./matmul-operands.ts";
import { type MatrixView, packPanels } from "./panels.ts";
import { type Product, productOf } from "./products.ts";
import { fitsBytes, packWords, type WordMatrix, type WordSource } from "./word-panels.ts";
import { constantZeros, scalarZero } from "./zero-points.ts";

export interface ConvOperands {
  readonly product: Product;
  /** Rows are vertical taps, horizontal taps, words of channels; columns are output channels. */
  readonly packed: PackedData;
  readonly zero: number | Buffer;
  readonly start: SumStart | undefined;
  /** Words of one tap. */
  readonly words: number;
}

/** Undefined when the weights are not constant, or there is no product of these types on this instruction set. */
export function convOperands(kernel: ConvKernel, shape: ConvShape, isa: Isa, constants: ConstantLookup): ConvOperands | undefined {
  const bytes = constants(kernel.weights);
  const zeros = constantZeros(kernel.weightsZero, constants);
  if (!bytes || !zeros) return undefined;
  const source: WordSource = { bytes, dtype: kernel.weights.dtype, zeros };
  const product = productOf(kernel.input.dtype, kernel.weights.dtype, isa, fitsBytes(source));
  if (!product || (shape.channelsFirst && product.name !== "float")) return undefined;
  const zero = scalarZero(kernel.inputZero, constants);
  const inputs = shape.channels / shape.groups;
  const words = Math.ceil(inputs / product.perWord);
  const taps = shape.kernel[0] * shape.kernel[1];
  const key = `conv:${kernel.weights.name}:${shape.groups}x${taps}x${inputs}x${shape.outChannels / shape.groups}`;
  if (product.name === "float") return { product, packed: packFloats(key, source, kernel, shape), zero: 0, start: undefined, words };
  const merged = withZeros(source, kernel, shape);
  const matrices = groupMatrices(shape, product);
  const packed = packWords(`${key}-${Array.from(zeros)}`, merged, product, matrices);
  return { product, packed, zero, words, start: product.name === "bytes" ? sumStart(key, merged, matrices, product, zero) : undefined };
}

function packFloats(key: string, source: WordSource, kernel: ConvKernel, shape: ConvShape): PackedData {
  const taps = shape.kernel[0] * shape.kernel[1];
  const inputs = shape.channels / shape.groups;
  const outputs = shape.outChannels / shape.groups;
  const rowStride = Array.from({ length: taps * inputs }, (_, row) => (row % inputs) * taps + Math.floor(row / inputs));
  const views = Array.from({ length: shape.groups }, (_, group): MatrixView => ({
    rows: taps * inputs, columns: outputs, offset: group * outputs * inputs * taps, rowStride, columnStride: inputs * taps,
  }));
  const { sizeBytes } = packPanels(key, source.bytes, views);
  return { key: `panel16${key}`, sizeBytes, write: (into) => packPanels(key, withZeros(source, kernel, shape).bytes, views).write(into) };
}

function groupMatrices(shape: ConvShape, { perWord }: Product): WordMatrix[] {
  const taps = shape.kernel[0] * shape.kernel[1];
  const inputs = shape.channels / shape.groups;
  const outputs = shape.outChannels / shape.groups;
  const padded = Math.ceil(inputs / perWord) * perWord;
  const rows = Array.from({ length: taps * padded }, (_, row) => {
    const [tap, channel] = [Math.floor(row / padded), row % padded];
    return channel < inputs ? channel * taps + tap : -1;
  });
  return Array.from({ length: shape.groups }, (_, group): WordMatrix => ({
    rows, columns: outputs, offset: group * outputs * inputs * taps, columnStride: inputs * taps, firstColumn: group * outputs,
  }));
}

/** The weights with every merged group's inputs: what multiplies to zero for those of its neighbours. */
function withZeros(source: WordSource, kernel: ConvKernel, shape: ConvShape): WordSource {
  if (shape.groups === kernel.groups) return source;
  const size = DTYPE_BITS[source.dtype] / 8;
  const taps = shape.kernel[0] * shape.kernel[1];
  const [own, all] = [(shape.channels / kernel.groups) * taps * size, (shape.channels / shape.groups) * taps * size];
  const outputs = shape.outChannels / kernel.groups;
  const merged = kernel.groups / shape.groups;
  const to = new Uint8Array(shape.outChannels * all);
  for (let output = 0; output < shape.outChannels; output++) {
    const zero = source.zeros[source.zeros.length === 1 ? 0 : output]!;
    if (zero !== 0) to.fill(zero, output * all, (output + 1) * all);
    const group = Math.floor(output / outputs) % merged;
    to.set(source.bytes.subarray(output * own, (output + 1) * own), output * all + group * own);
  }
  return { ...source, bytes: to };
}
