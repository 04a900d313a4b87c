/**
 * The softmax between the two products of attention, on score fragments in registers: blocks of keys come one after
 * another, with a running maximum and sum per query.
 * Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018.
 */
import type { AttentionKernel, Epilogue } from "../../../ir/index.ts";
import { fieldOf, loadOf, pairText } from "./epilogue-text.ts";
import type { KernelText } from "./kernel-text.ts";

/** Minus infinity, without a header. */
export const NOTHING = `
#define NOTHING __int_as_float(0xff800000)
`;

/**
 * \`softmax(block)\`: scores to weights 2^(score - most), with the new maximum and sum; \`rescale\` is what earlier sums are to be
 * multiplied by. Scores are in units of log2(e) / scale unless a mask is added.
 */
export function softmaxText(text: KernelText, kernel: AttentionKernel): string {
  const factor = kernel.scale * Math.LOG2E;
  const causal = kernel.causalOffset !== undefined;
  const scaled = kernel.mask !== undefined || factor <= 0;
  const mask = kernel.mask ? maskText(text, kernel, kernel.mask) : "";
  const add = !scaled ? "" : `#pragma unroll
      for (int i = 0; i < KEYS / 2; i += 2) {
        const float2 m = ${kernel.mask ? "maskAt(min(row + i / 2 % 2 * 8, queries - 1), block * KEYS + i / 4 * 8 + lane % 4 * 2)" : "float2{0, 0}"};
        scores[i] = fmaf(scores[i], ${float(factor)}, m.x * ${float(Math.LOG2E)});
        scores[i + 1] = fmaf(scores[i + 1], ${float(factor)}, m.y * ${float(Math.LOG2E)});
      }`;
  const scale = scaled ? "1.0f" : float(factor);
  return `const auto softmax = [&](int block) {
      ${mask}
      ${add}
      if (block * KEYS + KEYS > ${causal ? "min(keys, warpRow + offset + 1)" : "keys"}) {
        #pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
          const int column = block * KEYS + i / 4 * 8 + lane % 4 * 2 + i % 2;
          if (column >= keys${causal ? " || column > row + i / 2 % 2 * 8 + offset" : ""}) scores[i] = NOTHING;
        }
      }
      #pragma unroll
      for (int half = 0; half < 2; half++) {
        float high = most[half];
        #pragma unroll
        for (int i = 0; i < KEYS / 2; i += 4) high = fmaxf(high, fmaxf(scores[i + half * 2], scores[i + half * 2 + 1]));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
        high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
        const float base = high == NOTHING ? 0.0f : high * ${scale};
        rescale[half] = fastExp2(fmaf(most[half], ${scale}, -base));
        most[half] = high;
        float sum = 0;
        #pragma unroll
        for (int i = 0; i < KEYS / 2; i += 4) {
          #pragma unroll
          for (int e = 0; e < 2; e++) {
            scores[i + half * 2 + e] = fastExp2(fmaf(scores[i + half * 2 + e], ${scale}, -base));
            sum += scores[i + half * 2 + e];
          }
        }
        total[half] = fmaf(total[half], rescale[half], sum);
      }
    };`;
}

/** `maskAt(row, column)`: what is added to two neighbouring scores. */
function maskText(text: KernelText, kernel: AttentionKernel, mask: Epilogue): string {
  const pair = pairText(text, mask, { indices: ["b0", "b1", "row"], columns: kernel.keys });
  return `const auto maskAt = [&](int row, int column) -> float2 {
        ${pair.place}
        struct { ${pair.loads.map(fieldOf).join(" ")} } fetched;
        ${pair.loads.map(loadOf).join("\n        ")}
        ${pair.finish.replaceAll("\n", "\n        ")}
      };`;
}

function float(value: number): string {
  const text = String(Math.fround(value));
  return `${/[.e]/.test(text) ? text : `${text}.0`}f`;
}

/** `pack()`: weights as the left operand of the next product. */
export function packText(element: "float16" | "bfloat16"): string {
  return `const auto pack = [&] {
      #pragma unroll
      for (int i = 0; i < KEYS / 16; i++) {
        #pragma unroll
        for (int e = 0; e < 4; e++) weights[i][e] = ${element === "float16" ? "f16x2_of" : "bf16x2_of"}(scores[i * 8 + e * 2], scores[i * 8 + e * 2 + 1]);
      }
    };`;
}

/** Divides results by the sums of weights; zero where no key was seen. */
export function finishText(sums: number): string {
  return `#pragma unroll
    for (int half = 0; half < 2; half++) {
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
      total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
      const float inverse = total[half] > 0 ? 1.0f / total[half] : 0.0f;
      #pragma unroll
      for (int i = 0; i < ${sums}; i += 4) { sums[i + half * 2] *= inverse; sums[i + half * 2 + 1] *= inverse; }
    }`;
}
