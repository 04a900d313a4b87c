/**
 * Convolution as a product without conditions: rows are output positions, columns the output channels of one group, steps
 * the kernel's elements times input channels. One and two spatial dimensions.
 */
import { stridesOf } from "../../flatten.ts";
import type { ConvKernel, Dim } from "../../../ir/index.ts";
import { CodeWriter } from "../code-writer.ts";
import type { CudaKernel } from "../contract.ts";
import { Epilogue } from "../epilogue.ts";
import { indexTypeFor, KernelParams } from "../kernel-params.ts";
import { less } from "./matmul.ts";
import { add, ceilDiv, DTYPE_SIZE, mul } from "./sizes.ts";
import { emitTile, TILE } from "./tile.ts";

export function plainConv(kernel: ConvKernel): CudaKernel {
  const { input, weights, output, groups } = kernel;
  const first = kernel.inputChannelsFirst ?? false;
  const isFlat = kernel.kernel.length === 1;
  const inputDims = channelsLast(input.dims, first);
  const inputStrides = channelsLast(stridesOf(input), first);
  const pair = <T>(values: readonly T[], missing: T): [T, T] => (isFlat ? [missing, values[0]!] : [values[0]!, values[1]!]);
  const [batch] = inputDims as [Dim];
  const [height, width] = pair(inputDims.slice(1, -1), 1 as Dim);
  const [outHeight, outWidth] = pair(output.dims.slice(1, -1), 1 as Dim);
  const [kernelHeight, kernelWidth] = pair(kernel.kernel, 1);
  const [strideY, strideX] = pair(kernel.strides, 1);
  const [dilationY, dilationX] = pair(kernel.dilations, 1);
  const [padY, padX] = pair(kernel.pads, 0);
  const [rowPitch, columnPitch] = pair(inputStrides.slice(1, -1), 0 as Dim);
  const channels = weights.dims[1] as number;
  const outputs = (weights.dims[0] as number) / groups;
  const rows = mul(batch, outHeight, outWidth);
  const steps = kernelHeight * kernelWidth * channels;

  const code = new CodeWriter();
  const params = new KernelParams([output], indexTypeFor([input, weights, output], [rows]));
  const epilogue = new Epilogue(code, params, kernel.epilogue, output);
  const columnBlocks = Math.ceil(outputs / TILE.columns);
  const type = params.index;
  const position = (row: string): void => {
    code.line(`const ${type} ox = ${row} % ${params.dim(outWidth)}, rest = ${row} / ${params.dim(outWidth)}, oy = rest % ${params.dim(outHeight)}, image = rest / ${params.dim(outHeight)};`);
  };
  code.block("", () => {
    code.line(`const ${type} column0 = blockIdx.x % ${columnBlocks} * ${TILE.columns}, group = blockIdx.x / ${columnBlocks} % ${groups}, row0 = (${type})(blockIdx.x / ${columnBlocks * groups}) * ${TILE.rows};`);
    emitTile(code, params, "row0", "column0", {
      sum: input.dtype === "int8" || input.dtype === "uint8" ? "int" : "float", rows: params.dim(rows), columns: String(outputs), steps: String(steps),
      a: (row, k) => {
        position(row);
        code.line(`const ${type} channel = ${k} % ${channels}, tap = ${k} / ${channels}, y = oy * ${strideY} + tap / ${kernelWidth} * ${dilationY} - ${padY}, x = ox * ${strideX} + tap % ${kernelWidth} * ${dilationX} - ${padX};`);
        const at = `image * ${params.dim(inputStrides[0]!)} + y * ${params.dim(rowPitch)} + x * ${params.dim(columnPitch)} + (group * ${channels} + channel) * ${params.dim(inputStrides.at(-1)!)}`;
        return `y < 0 || y >= ${params.dim(height)} || x < 0 || x >= ${params.dim(width)} ? 0 : ${less(params, `element(${params.pointer(input)}[${at}])`, kernel.inputZero, "0")}`;
      },
      b: (k, column) => less(params, `element(${params.pointer(weights)}[((group * ${outputs} + ${column}) * ${channels} + ${k} % ${channels}) * ${kernelHeight * kernelWidth} + ${k} / ${channels}])`, kernel.weightsZero, `group * ${outputs} + ${column}`),
      aAlongSteps: !first, bAlongSteps: kernelHeight * kernelWidth === 1,
      store: (accumulator, row, column) => {
        position(row);
        epilogue.store(accumulator, epilogue.at(["image", ...(isFlat ? [] : ["oy"]), "ox", `group * ${outputs} + ${column}`]));
      },
    });
  });
  return {
    name: kernel.name,
    source: `extern "C" __global__ void __launch_bounds__(${TILE.threads}) conv_plain(${params.declarations()})\n${code.text()}\n`,
    params: params.list, packed: [], scratchBytes: 0,
    launch: { entry: "conv_plain", grid: [mul(ceilDiv(rows, TILE.rows), columnBlocks * groups), 1, 1], block: TILE.threads, sharedBytes: 0, tensorMaps: [] },
    flops: mul(2, rows, outputs * groups, steps),
    bytes: add(mul(...input.dims, DTYPE_SIZE(input)), mul(...weights.dims, DTYPE_SIZE(weights)), mul(...output.dims, DTYPE_SIZE(output))),
    tactic: "conv plain 64x64x16",
  };
}

function channelsLast<T>(values: readonly T[], channelsFirst: boolean): readonly T[] {
  return channelsFirst ? [values[0]!, ...values.slice(2), values[1]!] : values;
}
