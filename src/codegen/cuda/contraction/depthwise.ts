/**
 * Depthwise convolution, one filter per channel: no reduction over channels, so nothing for the matrix units, and bound
 * by memory. A thread has eight neighbouring channels of a few neighbouring output pixels; an input vector is loaded
 * once for all of them.
 */
import { type Bindings, ceilDiv, type ConstantLookup, type ConvKernel, evaluate, mul } from "../../../ir/index.ts";
import type { CudaArch, CudaKernel, CudaTactic } from "../contract.ts";
import { type ConvShape, describeConv } from "./conv-shape.ts";
import { convProblem } from "./conv.ts";
import { outputText } from "./epilogue-text.ts";
import { KernelText } from "./kernel-text.ts";
import { storeFunctions } from "./output-text.ts";
import { packColumns, type PackedMatrix } from "./packing.ts";
import { BASE } from "./prelude.ts";
import { isAligned } from "./tensor-map.ts";

const CHANNELS = 8;
const THREADS = 128;

/** Undefined when it is not depthwise, or its vectors of channels are not aligned. */
function depthwiseShape(shape: ConvShape, conv: ConvKernel): ConvShape | undefined {
  const half = (dtype: string): boolean => dtype === "float16" || dtype === "bfloat16";
  const [image, row, column, channel] = shape.inputStrides;
  const { dtype } = conv.output;
  const aligned = channel === 1 && shape.groups % CHANNELS === 0 && isAligned(conv.input, [image, row, column], 2) && isAligned(conv.output, shape.outputStrides.slice(0, 3), dtype === "float32" ? 4 : 2);
  return shape.inputs === 1 && shape.outputs === 1 && half(shape.element) && (dtype === shape.element || dtype === "float32") && aligned ? shape : undefined;
}

export function depthwiseTactics(conv: ConvKernel, given: ConvShape, arch: CudaArch, constants: ConstantLookup, optimum: Bindings): CudaTactic[] {
  const shape = depthwiseShape(given, conv);
  const source = constants(conv.weights);
  if (!shape || !source) return [];
  const taps = shape.kernel[0] * shape.kernel[1];
  const packed = packColumns(`depthwise:${conv.weights.name}:${taps}x${shape.groups}`, source, 2, {
    columns: taps, depth: Int32Array.from({ length: shape.groups }, (_, channel) => channel * taps), columnStart: (tap) => tap,
  });
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
    source: `${BASE}${storeFunctions(conv.output.dtype)}
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
    packed: [packed.data],
    scratchBytes: 0,
    tactic: tacticName(pixels),
  };
}

function bodyText(text: KernelText, conv: ConvKernel, shape: ConvShape, packed: PackedMatrix): string {
  const type = shape.element === "float16" ? "f16" : "bf16";
  const pack = shape.element === "float16" ? "f16x2_of" : "bf16x2_of";
  const [image, row, column] = shape.inputStrides;
  const chunks = shape.groups / CHANNELS;
  const problem = convProblem(conv, { ...shape, groups: 1, outputs: shape.groups }, text);
  const size = { outHeight: text.size(shape.outHeight), outWidth: text.size(shape.outWidth), height: text.size(shape.height), width: text.size(shape.width) };
  const place = `out + row * ${text.size64(shape.outputStrides[2])} + channel`;
  return `
  const i64 index = (i64)blockIdx.x * ${THREADS} + threadIdx.x;
  const int channel = index % ${chunks} * ${CHANNELS}, across = (${size.outWidth} + PIXELS - 1) / PIXELS;
  const int place = index / ${chunks}, firstX = place % across * PIXELS, outY = place / across % ${size.outHeight}, picture = place / across / ${size.outHeight};
  if (picture >= ${text.size(shape.batch)}) return;
  const ${type}* const from = ${text.pointer(conv.input)} + picture * ${text.size64(image)} + channel;
  const ${type}* const weights = ${text.packedPointer(packed.data, type)} + channel;
  float sums[PIXELS][${CHANNELS}] = {};
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
          const Vec<${type}, ${CHANNELS}> w = *(const Vec<${type}, ${CHANNELS}>*)(weights + (ky * KERNEL_X + kx) * ${packed.pitch});
          #pragma unroll
          for (int c = 0; c < ${CHANNELS}; c++) sums[p][c] = fmaf(element(v.at[c]), element(w.at[c]), sums[p][c]);
        }
      }
    }
  }
  ${outputText(text, problem)}
  #pragma unroll
  for (int p = 0; p < PIXELS; p++) {
    if (firstX + p >= ${size.outWidth}) break;
    const int row = (picture * ${size.outHeight} + outY) * ${size.outWidth} + firstX + p;
    ${conv.output.dtype === "float32" ? storeFloats(place) : storeHalves(pack, place)}
  }
`;
}

const FINISHED = "finish(sums[p][c], sums[p][c + 1], row, channel + c, fetch(row, channel + c))";

const storeHalves = (pack: string, place: string): string => `u32 packed[${CHANNELS / 2}];
    #pragma unroll
    for (int c = 0; c < ${CHANNELS}; c += 2) {
      const float2 v = ${FINISHED};
      packed[c / 2] = ${pack}(v.x, v.y);
    }
    *(Vector16*)(${place}) = Vector16{packed[0], packed[1], packed[2], packed[3]};`;

const storeFloats = (place: string): string => `float values[${CHANNELS}];
    #pragma unroll
    for (int c = 0; c < ${CHANNELS}; c += 2) {
      const float2 v = ${FINISHED};
      values[c] = v.x;
      values[c + 1] = v.y;
    }
    #pragma unroll
    for (int c = 0; c < ${CHANNELS}; c += 4) *(float4*)(${place} + c) = float4{values[c], values[c + 1], values[c + 2], values[c + 3]};`;
