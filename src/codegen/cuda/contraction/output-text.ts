/**
 * The way of a contraction's sums from registers to memory, as CUDA C++ text. `finish(sum0, sum1, row, column)` is the
 * kernel's epilogue, a lambda over two columns; rows and columns outside the output are not stored.
 *
 * Sums lie in the fragments of mma and wgmma (see products.ts): a lane holds two neighbours per block of eight columns. For
 * 16-bit outputs, four lanes exchange words so that each stores 16 neighbouring bytes; four such lanes fill 64.
 */
import type { DType } from "../../../base/index.ts";
import type { TiledOutput } from "./problem.ts";
import { isMultipleOf } from "./tensor-map.ts";

/** Two floats as one word of the output's type. */
const PACK: Partial<Record<DType, string>> = { float16: "f16x2_of", bfloat16: "bf16x2_of" };

/** Elementary functions to the precision of 16-bit results. Source: Abramowitz and Stegun, 7.1.26. */
const FAST_MATH = `
__device__ __forceinline__ float fastErf(float x) {
  const float t = __fdividef(1.0f, fmaf(0.3275911f, fabsf(x), 1.0f));
  const float p = t * fmaf(t, fmaf(t, fmaf(t, fmaf(t, 1.061405429f, -1.453152027f), 1.421413741f), -0.284496736f), 0.254829592f);
  return copysignf(fmaf(-p, __expf(-x * x), 1.0f), x);
}
__device__ __forceinline__ float fastTanh(float x) { return 1.0f - __fdividef(2.0f, __expf(2.0f * x) + 1.0f); }
#define erff fastErf
#define tanhf fastTanh
#define expf __expf
`;

const STORE_HALVES = (pack: string): string => `${FAST_MATH}
template <int BLOCKS, bool ALIGNED, int FROM, class Sum, int COUNT, class Finish>
__device__ __forceinline__ void storeFragment(const Sum (&d)[COUNT], u16* out, i64 rowStride, int row, int column, int rows, int columns, Finish finish) {
  const u32 lane = threadIdx.x % 32;
  row += lane / 4;
  #pragma unroll
  for (int g = 0; g < BLOCKS; g += 4) {
    #pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8, safeRow = min(r, rows - 1);
      u32 w[4];
      #pragma unroll
      for (int b = 0; b < 4; b++) {
        const int c = column + (g + b) * 8 + (lane % 4) * 2, i = FROM + (g + b) * 4 + half * 2;
        const float2 v = finish((float)d[i], (float)d[i + 1], safeRow, c);
        w[b] = ${pack}(v.x, v.y);
      }
      transposeQuad(w, lane);
      const int c = column + g * 8 + (lane % 4) * 8;
      u16* to = out + r * rowStride + c;
      if (r < rows) {
        if (ALIGNED && c + 8 <= columns) *(Vector16*)to = Vector16{w[0], w[1], w[2], w[3]};
        else {
          #pragma unroll
          for (int e = 0; e < 8; e++) if (c + e < columns) to[e] = (u16)(w[e / 2] >> (e % 2 * 16));
        }
      }
    }
  }
}
/* Four neighbouring columns of one row. */
template <bool ALIGNED, class Finish>
__device__ __forceinline__ void storeFour(float4 v, u16* out, i64 rowStride, int row, int column, int rows, int columns, Finish finish) {
  if (row >= rows) return;
  u16* to = out + row * rowStride + column;
  const float2 low = finish(v.x, v.y, row, column), high = finish(v.z, v.w, row, column + 2);
  const u32 w[2] = {${pack}(low.x, low.y), ${pack}(high.x, high.y)};
  if (ALIGNED && column + 4 <= columns) *(Vector8*)to = Vector8{w[0], w[1]};
  else {
    #pragma unroll
    for (int e = 0; e < 4; e++) if (column + e < columns) to[e] = (u16)(w[e / 2] >> (e % 2 * 16));
  }
}
`;

const STORE_FLOATS = `
template <int BLOCKS, bool ALIGNED, int FROM, class Sum, int COUNT, class Finish>
__device__ __forceinline__ void storeFragment(const Sum (&d)[COUNT], float* out, i64 rowStride, int row, int column, int rows, int columns, Finish finish) {
  const u32 lane = threadIdx.x % 32;
  row += lane / 4;
  #pragma unroll
  for (int b = 0; b < BLOCKS; b++) {
    #pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8, c = column + b * 8 + (lane % 4) * 2, i = FROM + b * 4 + half * 2;
      if (r >= rows || c >= columns) continue;
      const float2 v = finish((float)d[i], (float)d[i + 1], r, c);
      float* to = out + r * rowStride + c;
      if (ALIGNED && c + 2 <= columns) *(float2*)to = v;
      else {
        to[0] = v.x;
        if (c + 1 < columns) to[1] = v.y;
      }
    }
  }
}
template <bool ALIGNED, class Finish>
__device__ __forceinline__ void storeFour(float4 v, float* out, i64 rowStride, int row, int column, int rows, int columns, Finish finish) {
  if (row >= rows) return;
  float* to = out + row * rowStride + column;
  const float2 low = finish(v.x, v.y, row, column), high = finish(v.z, v.w, row, column + 2);
  const float g[4] = {low.x, low.y, high.x, high.y};
  if (ALIGNED && column + 4 <= columns) *(float4*)to = float4{g[0], g[1], g[2], g[3]};
  else {
    #pragma unroll
    for (int e = 0; e < 4; e++) if (column + e < columns) to[e] = g[e];
  }
}
`;

/** Functions that store; undefined when outputs of this type are not written by contractions. */
export function storeFunctions(dtype: DType): string | undefined {
  const pack = PACK[dtype];
  if (pack) return STORE_HALVES(pack);
  return dtype === "float32" ? STORE_FLOATS : undefined;
}

/** Whether rows begin at multiples of 16 bytes, so that several elements are stored at once. */
export function isStoredWide({ buffer, rowStride, batchStrides }: TiledOutput): boolean {
  const elements = buffer.dtype === "float32" ? 4 : 8;
  return [rowStride, ...batchStrides].every((stride) => isMultipleOf(stride, elements));
}
