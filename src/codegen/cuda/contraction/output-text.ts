/**
 * The way of a contraction's sums from registers to memory, as CUDA C++ text. The kernel's
 * epilogue is two lambdas over two columns: `fetch(row, column)` asks for what it reads, a group of blocks ahead, and
 * `finish(sum0, sum1, row, column, fetched)` computes. Rows and columns outside the output are not stored.
 *
 * Sums lie in the fragments of mma and wgmma (see products.ts): a lane holds two neighbours per block of eight columns. For
 * 16-bit outputs, four lanes exchange words so that each stores 16 neighbouring bytes; four such lanes fill 64.
 */
import { type DType, DTYPE_BITS } from "../../../base/index.ts";
import type { TiledOutput } from "./problem.ts";
import { isAligned } from "./tensor-map.ts";

/** Two floats as one word of the output's type. */
const PACK: Partial<Record<DType, string>> = { float16: "f16x2_of", bfloat16: "bf16x2_of" };

/** Elementary functions to the precision of 16-bit results. Source: Abramowitz and Stegun, 7.1.26. */
const FAST_MATH = `
__device__ __forceinline__ float fastErf(float x) {
  const float t = __fdividef(1.0f, fmaf(0.3275911f, fabsf(x), 1.0f));
  const float p = t * fmaf(t, fmaf(t, fmaf(t, fmaf(t, 1.061405429f, -1.453152027f), 1.421413741f), -0.284496736f), 0.254829592f);
  return copysignf(fmaf(-p, fastExp2(x * x * -1.4426950408889634f), 1.0f), x);
}
__device__ __forceinline__ float fastTanh(float x) { return 1.0f - __fdividef(2.0f, fastExp2(x * 2.8853900817779268f) + 1.0f); }
__device__ __forceinline__ float fastExp(float x) { return fastExp2(x * 1.4426950408889634f); }
`;

/** Statements with the fast forms, where the result is rounded to 16 bits. */
export function roundedMath(dtype: DType, statements: string): string {
  return dtype === "float32" ? statements : statements.replaceAll("erff(", "fastErf(").replaceAll("tanhf(", "fastTanh(").replaceAll(/\bexpf\(/g, "fastExp(");
}

const STORE_HALVES = (pack: string): string => `${FAST_MATH}
template <int BLOCKS, bool ALIGNED, int FROM, class Sum, int COUNT, class Fetch, class Finish>
__device__ __forceinline__ void storeFragment(const Sum (&d)[COUNT], u16* out, i64 rowStride, int row, int column, int rows, int columns, Fetch fetch, Finish finish) {
  const u32 lane = threadIdx.x % 32;
  row += lane / 4;
  const int safeRow[2] = {min(row, rows - 1), min(row + 8, rows - 1)}, first = column + (lane % 4) * 2;
  decltype(fetch(0, 0)) ahead[2][4];
  #pragma unroll
  for (int i = 0; i < 8; i++) ahead[i / 4][i % 4] = fetch(safeRow[i / 4], first + i % 4 * 8);
  #pragma unroll
  for (int g = 0; g < BLOCKS; g += 4) {
    decltype(fetch(0, 0)) fetched[2][4];
    #pragma unroll
    for (int i = 0; i < 8; i++) {
      fetched[i / 4][i % 4] = ahead[i / 4][i % 4];
      if (g + 4 < BLOCKS) ahead[i / 4][i % 4] = fetch(safeRow[i / 4], first + (g + 4 + i % 4) * 8);
    }
    #pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8;
      u32 w[4];
      #pragma unroll
      for (int b = 0; b < 4; b++) {
        const int i = FROM + (g + b) * 4 + half * 2;
        const float2 v = finish((float)d[i], (float)d[i + 1], safeRow[half], first + (g + b) * 8, fetched[half][b]);
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
template <bool ALIGNED, class Fetch, class Finish>
__device__ __forceinline__ void storeFour(float4 v, u16* out, i64 rowStride, int row, int column, int rows, int columns, Fetch fetch, Finish finish) {
  if (row >= rows) return;
  u16* to = out + row * rowStride + column;
  const float2 low = finish(v.x, v.y, row, column, fetch(row, column)), high = finish(v.z, v.w, row, column + 2, fetch(row, column + 2));
  const u32 w[2] = {${pack}(low.x, low.y), ${pack}(high.x, high.y)};
  if (ALIGNED && column + 4 <= columns) *(Vector8*)to = Vector8{w[0], w[1]};
  else {
    #pragma unroll
    for (int e = 0; e < 4; e++) if (column + e < columns) to[e] = (u16)(w[e / 2] >> (e % 2 * 16));
  }
}
`;

const STORE_FLOATS = `
template <int BLOCKS, bool ALIGNED, int FROM, class Sum, int COUNT, class Fetch, class Finish>
__device__ __forceinline__ void storeFragment(const Sum (&d)[COUNT], float* out, i64 rowStride, int row, int column, int rows, int columns, Fetch fetch, Finish finish) {
  const u32 lane = threadIdx.x % 32;
  row += lane / 4;
  #pragma unroll
  for (int b = 0; b < BLOCKS; b++) {
    #pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8, c = column + b * 8 + (lane % 4) * 2, i = FROM + b * 4 + half * 2;
      if (r >= rows || c >= columns) continue;
      const float2 v = finish((float)d[i], (float)d[i + 1], r, c, fetch(r, c));
      float* to = out + r * rowStride + c;
      if (ALIGNED && c + 2 <= columns) *(float2*)to = v;
      else {
        to[0] = v.x;
        if (c + 1 < columns) to[1] = v.y;
      }
    }
  }
}
template <bool ALIGNED, class Fetch, class Finish>
__device__ __forceinline__ void storeFour(float4 v, float* out, i64 rowStride, int row, int column, int rows, int columns, Fetch fetch, Finish finish) {
  if (row >= rows) return;
  float* to = out + row * rowStride + column;
  const float2 low = finish(v.x, v.y, row, column, fetch(row, column)), high = finish(v.z, v.w, row, column + 2, fetch(row, column + 2));
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
  return isAligned(buffer, [rowStride, ...batchStrides], DTYPE_BITS[buffer.dtype] / 8);
}
