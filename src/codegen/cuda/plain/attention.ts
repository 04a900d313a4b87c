/**
 * Attention without conditions: a warp per query row and part of the value row. Each lane scores one of 32 keys; the
 * softmax's maximum and sum are carried along, so no score is stored.
 * Source: Milakov and Gimelshein, Online normalizer calculation for softmax, 2018.
 */
import { flattenExpr } from "../../flatten.ts";
import type { AttentionKernel, Dim, StridedOperand } from "../../../ir/index.ts";
import { CodeWriter } from "../code-writer.ts";
import type { CudaKernel } from "../contract.ts";
import { ExpressionEmitter, Point } from "../expression.ts";
import { indexTypeFor, KernelParams } from "../kernel-params.ts";
import { add, ceilDiv, DTYPE_SIZE, mul } from "./sizes.ts";
import { storedAs } from "../scalars.ts";

const WARPS = 4;
/** Value elements of a warp: 4 per lane. */
const VALUES = 128;

export function plainAttention(kernel: AttentionKernel): CudaKernel {
  const { batch, heads, queries, keys, headSize, valueSize, q, k, v, output } = kernel;
  const parts = ceilDiv(valueSize, VALUES);
  const units = mul(batch, heads, queries, parts);
  const code = new CodeWriter();
  const operands = [q, k, v, output];
  const params = new KernelParams([output.buffer], indexTypeFor(operands.map(({ buffer }) => buffer), [units]));
  const flat = kernel.mask ? flattenExpr(kernel.mask.value) : undefined;
  const emitter = new ExpressionEmitter(code, params, flat?.safe ?? new Set());
  const type = params.index;
  code.block("", () => {
    code.line("const int lane = threadIdx.x % 32;");
    code.line(`${type} unit = blockIdx.x * (${type})${WARPS} + threadIdx.x / 32;`);
    code.line(`if (unit >= ${params.dim(units)}) return;`);
    for (const [name, size] of [["part", parts], ["query", queries], ["head", heads]] as const) code.line(`const ${type} ${name} = unit % ${params.dim(size)}; unit /= ${params.dim(size)};`);
    const row = (operand: StridedOperand, head: string, place: string): string => `${params.pointer(operand.buffer)} + ${params.dim(operand.offset ?? 0)} + unit * ${params.dim(operand.strides[0])} + ${head} * ${params.dim(operand.strides[1])} + ${place} * ${params.dim(operand.strides[2])}`;
    code.line(`const auto* const q = ${row(q, "head", "query")};`);
    code.line(`const ${type} kv = head / ${kernel.headsPerKv};`);
    code.line(`const ${type} seen = ${kernel.causalOffset === undefined ? params.dim(keys) : `max_of<${type}>(0, min_of<${type}>(${params.dim(keys)}, query + ${params.dim(kernel.causalOffset)} + 1))`};`);
    code.line("float top = -3.40282347e38f, total = 0.0f, acc[4] = {};");
    code.block(`for (${type} first = 0; first < seen; first += 32)`, () => {
      code.line(`const ${type} key = first + lane;`);
      code.line("float score = -__int_as_float(0x7f800000);");
      code.block("if (key < seen)", () => {
        code.line(`const auto* const k = ${row(k, "kv", "key")};`);
        code.line("float dot = 0.0f;");
        code.line(`for (int d = 0; d < ${params.dim(headSize)}; d++) dot += element(q[d * ${params.dim(q.strides[3])}]) * element(k[d * ${params.dim(k.strides[3])}]);`);
        const scale = `dot * ${Math.fround(kernel.scale)}f`.replace(/(\* -?\d+)f$/, "$1.0f");
        const point = new Point(undefined, new Map((kernel.mask?.axes ?? []).map((axis, i) => [axis, ["unit", "head", "query", "key"][i]!] as const)));
        code.line(`score = ${scale}${flat ? ` + ${emitter.value(flat.expr, point)}` : ""};`);
      });
      code.line("const float higher = max_of(top, warp_all<Most>(score)), fade = expf(top - higher), weight = expf(score - higher);");
      code.line("top = higher;");
      code.line("total = total * fade + warp_all<Sum>(weight);");
      code.line("#pragma unroll");
      code.line("for (int i = 0; i < 4; i++) acc[i] *= fade;");
      code.line(`const int count = min_of<${type}>(32, seen - first);`);
      code.block("for (int j = 0; j < count; j++)", () => {
        code.line("const float w = __shfl_sync(0xffffffffu, weight, j);");
        code.line(`const auto* const v = ${row(v, "kv", "(first + j)")} + part * ${VALUES};`);
        code.line("#pragma unroll");
        code.line(`for (int i = 0; i < 4; i++) if (part * ${VALUES} + i * 32 + lane < ${params.dim(valueSize)}) acc[i] += w * element(v[i * 32 + lane]);`);
      });
    });
    code.line(`auto* const o = ${row(output, "head", "query")} + part * ${VALUES};`);
    code.line("const float scale = total > 0.0f ? 1.0f / total : total == 0.0f ? 1.0f : total;");
    code.line("#pragma unroll");
    code.line(`for (int i = 0; i < 4; i++) if (part * ${VALUES} + i * 32 + lane < ${params.dim(valueSize)}) o[i * 32 + lane] = ${storedAs(output.buffer.dtype, "acc[i] * scale")};`);
  });
  return {
    name: kernel.name,
    source: `extern "C" __global__ void __launch_bounds__(${32 * WARPS}) attention_plain(${params.declarations()})\n${code.text()}\n`,
    params: params.list, packed: [], scratchBytes: 0,
    launch: { entry: "attention_plain", grid: [ceilDiv(units, WARPS), 1, 1], block: 32 * WARPS, sharedBytes: 0, tensorMaps: [] },
    flops: mul(2, batch, heads, queries, keys, add(headSize, valueSize)),
    bytes: add(...operands.map((operand, i) => mul(batch, heads, i === 0 || i === 3 ? queries : keys, i < 2 ? headSize : (valueSize as Dim), DTYPE_SIZE(operand.buffer)))),
    tactic: "attention plain, a warp per row",
  };
}
