/**
 * Depthwise convolution, one filter per channel: no reduction over channels, so nothing for the matrix units, and bound
 * by memory. A thread has eight neighbouring channels of a few neighbouring output pixels; an input vector is loaded
 * once for all of them.
 */
import { type DType, DTYPE_BITS } from "../../../base/index.ts";
import { type Bindings, ceilDiv, type ConstantLookup, type ConvKernel, evaluate, mul } from "../../../ir/index.ts";
import type { CudaArch, CudaKernel, CudaTactic } from "../contract.ts";
import { type ConvShape, describeConv } from "./conv-shape.ts";
import { convProblem } from "./conv.ts";
import { outputText } from "./epilogue-text.ts";
import { KernelText } from "./kernel-text.ts";
import { elementType } from "../scalars.ts";
import { ELEMENTS, isMultiplied } from "./elements.ts";
import { outputForm } from "./output-text.ts";
import { packColumns, type PackedMatrix } from "./packing.ts";
import { BASE } from "./prelude.ts";
import { isAligned } from "./tensor-map.ts";
import { isZero, shiftedBytes } from "./zero-points.ts";

const CHANNELS = 8;
const THREADS = 128;

/** Whether there is a filter per channel, and vectors of channels are aligned. */
function isDepthwise(shape: ConvShape, conv: ConvKernel): boolean {
  const { bytes } = ELEMENTS[shape.element];
  const [image, row, column, channel] = shape.inputStrides;
  const vectors = (bytesOf: number): number => Math.min(16, CHANNELS * bytesOf);
  const outputBytes = DTYPE_BITS[conv.output.dtype] / 8;
  const aligned = channel === 1 && shape.groups % CHANNELS === 0 && isAligned(conv.input, [image, row, column], bytes, vectors(bytes)) && isAligned(conv.output, shape.outputStrides.slice(0, 3), outputBytes, vectors(outputBytes));
  return shape.inputs === 1 && shape.outputs === 1 && bytes <= 2 && aligned;
}

/** Weights as `[tap][channel]`, without their zero points. */
function packWeights({ weights, weightsZero }: ConvKernel, { kernel, groups }: ConvShape, constants: ConstantLookup): PackedMatrix | undefined {
  const taps = kernel[0] * kernel[1];
  const isPlain = isZero(weightsZero);
  const source = isPlain ? constants(weights) : shiftedBytes(weights, weightsZero, constants, (element) => Math.floor(element / taps));
  const dtype = isPlain ? weights.dtype : "int8";
  if (!source || !isMultiplied(dtype)) return undefined;
  const zero = isPlain ? "" : ` less ${typeof weightsZero === "number" ? weightsZero : weightsZero!.name}`;
  return packColumns(`depthwise:${weights.name}:${taps}x${groups}${zero}`, source, dtype, { columns: taps, depth: Int32Array.from({ length: groups }, (_, channel) => channel * taps), columnStart: (tap) => tap });
}

export function depthwiseTactics(conv: ConvKernel, shape: ConvShape, arch: CudaArch, constants: ConstantLookup, optimum: Bindings): CudaTactic[] {
  const packed = isDepthwise(shape, conv) ? packWeights(conv, shape, constants) : undefined;
  if (!packed) return [];
  return [1, 2, 4, 8].map((pixels) => ({
    name: tacticName(pixels),
    estimate: estimate(shape, pixels, arch, optimum),
    compile: () => depthwiseKernel(conv, shape, packed, pixels),
  })).sort((a, b) => a.estimate - b.estimate);
}

function tacticName(pixels: number): string {
  return `direct ${pixels} pixels`;
}

/** Vectors loaded, and idle multiprocessors when there are few threads. */
function estimate(shape: ConvShape, pixels: number, arch: CudaArch, optimum: Bindings): number {
  const rows = evaluate(shape.batch, optimum) * evaluate(shape.outHeight, optimum);
  const threads = rows * Math.ceil(evaluate(shape.outWidth, optimum) / pixels) * (shape.groups / CHANNELS);
  const columns = (pixels - 1) * shape.stride[1] + (shape.kernel[1] - 1) * shape.dilation[1] + 1;
  const rounds = Math.ceil(threads / (arch.multiprocessors * 1024));
  return rounds * shape.kernel[0] * (columns + shape.kernel[1] + 0.5 * pixels * shape.kernel[1]);
}

function depthwiseKernel(conv: ConvKernel, shape: ConvShape, packed: PackedMatrix, pixels: number): CudaKernel {
  const text = new KernelText(conv.output);
  const body = bodyText(text, conv, shape, packed);
  return {
    ...describeConv(conv, shape),
    source: `${BASE}${outputForm(conv.output.dtype).store}
constexpr int PIXELS = ${pixels}, KERNEL_Y = ${shape.kernel[0]}, KERNEL_X = ${shape.kernel[1]}, STRIDE_Y = ${shape.stride[0]}, STRIDE_X = ${shape.stride[1]}, DILATION_Y = ${shape.dilation[0]}, DILATION_X = ${shape.dilation[1]};
constexpr int COLUMNS = (PIXELS - 1) * STRIDE_X + (KERNEL_X - 1) * DILATION_X + 1;

extern "C" __global__ void __launch_bounds__(${THREADS}) depthwise(${text.declarations}) {${body}}
`,
    launch: {
      entry: "depthwise",
      grid: [ceilDiv(mul(shape.batch, shape.outHeight, ceilDiv(shape.outWidth, pixels), shape.groups / CHANNELS), THREADS), 1, 1],
      block: THREADS, sharedBytes: 0, tensorMaps: [],
    },
    params: text.list,
    packed: text.packed,
    scratchBytes: 0,
    tactic: tacticName(pixels),
  };
}

function bodyText(text: KernelText, { inputZero, ...conv }: ConvKernel, shape: ConvShape, packed: PackedMatrix): string {
  const [type, weight] = [shape.element, packed.dtype].map(elementType) as [string, string];
  const { sum } = ELEMENTS[shape.element];
  const zero = inputZero === undefined || inputZero === 0 ? "" : typeof inputZero === "number" ? ` - ${inputZero}` : ` - element(${text.pointer(inputZero)}[0])`;
  const product = sum === "int" ? `sums[p][c] += (element(v.at[c])${zero}) * element(w.at[c]);` : "sums[p][c] = fmaf(element(v.at[c]), element(w.at[c]), sums[p][c]);";
  const [image, row, column] = shape.inputStrides;
  const chunks = shape.groups / CHANNELS;
  const problem = convProblem(conv, { ...shape, groups: 1, outputs: shape.groups }, text, packed);
  const size = { outHeight: text.size(shape.outHeight), outWidth: text.size(shape.outWidth), height: text.size(shape.height), width: text.size(shape.width) };
  const place = `out + row * ${text.size64(shape.outputStrides[2])} + channel`;
  return `
  const i64 index = (i64)blockIdx.x * ${THREADS} + threadIdx.x;
  const int channel = index % ${chunks} * ${CHANNELS}, across = (${size.outWidth} + PIXELS - 1) / PIXELS;
  const int place = index / ${chunks}, firstX = place % across * PIXELS, outY = place / across % ${size.outHeight}, picture = place / across / ${size.outHeight};
  if (picture >= ${text.size(shape.batch)}) return;
  const ${type}* const from = ${text.pointer(conv.input)} + picture * ${text.size64(image)} + channel;
  const ${weight}* const weights = ${text.packedPointer(packed.data, weight)} + channel;
  ${sum} sums[PIXELS][${CHANNELS}] = {};
  #pragma unroll
  for (int ky = 0; ky < KERNEL_Y; ky++) {
    const int y = outY * STRIDE_Y - ${shape.pad[0]} + ky * DILATION_Y;
    if ((u32)y >= (u32)${size.height}) continue;
    #pragma unroll
    for (int cx = 0; cx < COLUMNS; cx++) {
      const int x = firstX * STRIDE_X - ${shape.pad[1]} + cx;
      if ((u32)x >= (u32)${size.width}) continue;
      const Vec<${type}, ${CHANNELS}> v = *(const Vec<${type}, ${CHANNELS}>*)(from + y * ${text.size64(row)} + x * ${text.size64(column)});
      #pragma unroll
      for (int kx = 0; kx < KERNEL_X; kx++) {
        #pragma unroll
        for (int p = 0; p < PIXELS; p++) {
          if (p * STRIDE_X + kx * DILATION_X != cx) continue;
          const Vec<${weight}, ${CHANNELS}> w = *(const Vec<${weight}, ${CHANNELS}>*)(weights + (ky * KERNEL_X + kx) * ${packed.pitch});
          #pragma unroll
          for (int c = 0; c < ${CHANNELS}; c++) ${product}
        }
      }
    }
  }
  ${outputText(text, problem, 1)}
  #pragma unroll
  for (int p = 0; p < PIXELS; p++) {
    if (firstX + p >= ${size.outWidth}) break;
    const int row = (picture * ${size.outHeight} + outY) * ${size.outWidth} + firstX + p;
    ${storeText(conv.output.dtype, place)}
  }
`;
}

const FINISHED = "access.finish(sums[p][c], sums[p][c + 1], row, channel + c, access.fetchAll(row, channel + c))";

/** Eight neighbours as one or two vectors. */
function storeText(dtype: DType, place: string): string {
  const { pair, pointer } = outputForm(dtype);
  const halves = `u32 packed[${CHANNELS / 2}];
    #pragma unroll
    for (int c = 0; c < ${CHANNELS}; c += 2) {
      const ${pair} v = ${FINISHED};
      packed[c / 2] = ${pair === "int2" ? "bytesOf" : dtype === "float16" ? "f16x2_of" : "bf16x2_of"}(v.x, v.y);
    }`;
  switch (pointer) {
    case "u16": return `${halves}
    *(Vector16*)(${place}) = Vector16{packed[0], packed[1], packed[2], packed[3]};`;
    case "u8": return `${halves}
    *(Vector8*)(${place}) = Vector8{packed[0] | packed[1] << 16, packed[2] | packed[3] << 16};`;
    default: return `${pointer} values[${CHANNELS}];
    #pragma unroll
    for (int c = 0; c < ${CHANNELS}; c += 2) {
      const ${pair} v = ${FINISHED};
      values[c] = v.x;
      values[c + 1] = v.y;
    }
    #pragma unroll
    for (int c = 0; c < ${CHANNELS}; c += 4) *(${pointer}4*)(${place} + c) = ${pointer}4{values[c], values[c + 1], values[c + 2], values[c + 3]};`;
  }
}
