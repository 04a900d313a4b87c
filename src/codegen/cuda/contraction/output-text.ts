/**
 * The way of a contraction's sums from registers to memory, as CUDA C++ text. The kernel's epilogue comes as lambdas
 * (see epilogue-text.ts): `fetch(row, column)` asks for what it reads of a pair of columns, `fetchOwn(row, column)` for
 * what it reads of several neighbours at once, a group of blocks ahead, and `finish(sum0, sum1, row, column, fetched)`
 * computes. Rows and columns outside the output are not stored.
 *
 * Sums lie in the fragments of mma and wgmma (see products.ts): a lane holds two neighbours per block of eight columns. Where
 * outputs have 8 or 16 bits, four lanes exchange words, so that each stores neighbours as one vector, and what is read of
 * tensors of such types comes the same way back: each lane loads its vector, and they exchange (`shareOwn`).
 */
import { type DType, DTYPE_BITS } from "../../../base/index.ts";
import type { Epilogue } from "../../../ir/index.ts";
import type { Element } from "./elements.ts";
import type { TiledOutput } from "./problem.ts";
import { isAligned } from "./tensor-map.ts";

/** How results of a type are stored, and what two of them are as C++ before that. */
export interface OutputForm {
  readonly pointer: string;
  readonly pair: "float2" | "int2";
  readonly store: string;
}

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

/** Statements with the fast forms, where the result is rounded to 16 bits or fewer. */
export function roundedMath(dtype: DType, statements: string): string {
  return dtype === "float32" ? statements : statements.replaceAll("erff(", "fastErf(").replaceAll("tanhf(", "fastTanh(").replaceAll(/\bexpf\(/g, "fastExp(");
}

/**
 * Vectors of neighbours to pairs of the blocks: lane t of four neighbours has what lies at its 2 GROUP columns, and gets its
 * pair of every block.
 */
const SHARE = `
template <class Pair> __device__ __forceinline__ Pair pairOf(u32 word) {
  Pair pair;
  if (sizeof(Pair) == 4) *(u32*)&pair = word;
  else *(u16*)&pair = (u16)word;
  return pair;
}
template <int GROUP, class Item> __device__ __forceinline__ void shareOwn(const Vec<Item, 2 * GROUP>& own, Vec<Item, 2> (&pairs)[GROUP]) {
  const u32 lane = threadIdx.x % 32;
  const u32* const words = (const u32*)own.at;
  typedef Vec<Item, 2> Pair;
  if (sizeof(Item) == 2) {
    #pragma unroll
    for (int i = 0; i < GROUP; i += 4) {
      u32 w[4];
      #pragma unroll
      for (int e = 0; e < 4; e++) w[e] = words[i + e];
      transposeQuad(w, lane);
      /* Of eight blocks, word e is one of block 2e, or of the block behind it. */
      #pragma unroll
      for (int e = 0; e < 4; e++) pairs[GROUP == 8 ? 2 * e + i / 4 : e] = pairOf<Pair>(w[e]);
    }
  } else if (GROUP == 8) {
    u32 w[4] = {__byte_perm(words[0], words[2], 0x5410), __byte_perm(words[0], words[2], 0x7632), __byte_perm(words[1], words[3], 0x5410), __byte_perm(words[1], words[3], 0x7632)};
    transposeQuad(w, lane);
    #pragma unroll
    for (int e = 0; e < 4; e++) { pairs[2 * e] = pairOf<Pair>(w[e]); pairs[2 * e + 1] = pairOf<Pair>(w[e] >> 16); }
  } else {
    u32 w[4] = {words[0], words[0] >> 16, words[1], words[1] >> 16};
    transposeQuad(w, lane);
    #pragma unroll
    for (int e = 0; e < 4; e++) pairs[e] = pairOf<Pair>(w[e]);
  }
}
`;

const HEAD = (type: string): string => `template <int BLOCKS, bool ALIGNED, int FROM, class Sum, int COUNT, class Access>
__device__ __forceinline__ void storeFragment(const Sum (&d)[COUNT], ${type}* out, i64 rowStride, int row, int column, int rows, int columns, const Access& access) {`;

const STORE_HALVES = (pack: string): string => `${FAST_MATH}${SHARE}
${HEAD("u16")}
  const u32 lane = threadIdx.x % 32;
  row += lane / 4;
  const int safeRow[2] = {min(row, rows - 1), min(row + 8, rows - 1)}, first = column + (lane % 4) * 2, own = column + (lane % 4) * 8;
  decltype(access.fetch(0, 0)) ahead[2][4];
  decltype(access.fetchOwn(0, 0)) ownAhead[2] = {access.fetchOwn(safeRow[0], own), access.fetchOwn(safeRow[1], own)};
  #pragma unroll
  for (int i = 0; i < 8; i++) ahead[i / 4][i % 4] = access.fetch(safeRow[i / 4], first + i % 4 * 8);
  #pragma unroll
  for (int g = 0; g < BLOCKS; g += 4) {
    decltype(access.fetch(0, 0)) fetched[2][4];
    #pragma unroll
    for (int half = 0; half < 2; half++) {
      #pragma unroll
      for (int b = 0; b < 4; b++) fetched[half][b] = ahead[half][b];
      access.share(ownAhead[half], fetched[half]);
      if (g + 4 < BLOCKS) {
        ownAhead[half] = access.fetchOwn(safeRow[half], own + (g + 4) * 8);
        #pragma unroll
        for (int b = 0; b < 4; b++) ahead[half][b] = access.fetch(safeRow[half], first + (g + 4 + b) * 8);
      }
    }
    #pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8;
      u32 w[4];
      #pragma unroll
      for (int b = 0; b < 4; b++) {
        const int i = FROM + (g + b) * 4 + half * 2;
        const float2 v = access.finish(d[i], d[i + 1], safeRow[half], first + (g + b) * 8, fetched[half][b]);
        w[b] = ${pack}(v.x, v.y);
      }
      transposeQuad(w, lane);
      const int c = own + g * 8;
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
template <bool ALIGNED, class Four, class Access>
__device__ __forceinline__ void storeFour(Four v, u16* out, i64 rowStride, int row, int column, int rows, int columns, const Access& access) {
  if (row >= rows) return;
  u16* to = out + row * rowStride + column;
  const float2 low = access.finish(v.x, v.y, row, column, access.fetchAll(row, column)), high = access.finish(v.z, v.w, row, column + 2, access.fetchAll(row, column + 2));
  const u32 w[2] = {${pack}(low.x, low.y), ${pack}(high.x, high.y)};
  if (ALIGNED && column + 4 <= columns) *(Vector8*)to = Vector8{w[0], w[1]};
  else {
    #pragma unroll
    for (int e = 0; e < 4; e++) if (column + e < columns) to[e] = (u16)(w[e / 2] >> (e % 2 * 16));
  }
}
`;

/** Groups of eight blocks, so that a lane stores 16 bytes; of four where there are no more. */
const STORE_BYTES = `${FAST_MATH}${SHARE}
__device__ __forceinline__ u32 bytesOf(int low, int high) { return __byte_perm(low, high, 0x0040) & 0xffffu; }
${HEAD("u8")}
  constexpr int GROUP = BLOCKS % 8 == 0 ? 8 : 4, OWN = 2 * GROUP;
  const u32 lane = threadIdx.x % 32;
  row += lane / 4;
  const int safeRow[2] = {min(row, rows - 1), min(row + 8, rows - 1)}, first = column + (lane % 4) * 2, own = column + (lane % 4) * OWN;
  decltype(access.fetchOwn(0, 0)) ownAhead[2] = {access.fetchOwn(safeRow[0], own), access.fetchOwn(safeRow[1], own)};
  #pragma unroll
  for (int g = 0; g < BLOCKS; g += GROUP) {
    #pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8;
      decltype(access.fetch(0, 0)) fetched[GROUP];
      #pragma unroll
      for (int b = 0; b < GROUP; b++) fetched[b] = access.fetch(safeRow[half], first + (g + b) * 8);
      access.share(ownAhead[half], fetched);
      if (g + GROUP < BLOCKS) ownAhead[half] = access.fetchOwn(safeRow[half], own + (g + GROUP) * 8);
      u32 w[4] = {};
      #pragma unroll
      for (int b = 0; b < GROUP; b++) {
        const int i = FROM + (g + b) * 4 + half * 2;
        const int2 v = access.finish(d[i], d[i + 1], safeRow[half], first + (g + b) * 8, fetched[b]);
        const u32 two = bytesOf(v.x, v.y);
        if (GROUP == 4) w[b % 4] = two;
        else if (b % 2 == 0) w[b / 2] = two;
        else w[b / 2] = __byte_perm(w[b / 2], two, 0x5410);
      }
      transposeQuad(w, lane);
      const u32 words[4] = {__byte_perm(w[0], w[1], 0x5410), __byte_perm(w[2], w[3], 0x5410), __byte_perm(w[0], w[1], 0x7632), __byte_perm(w[2], w[3], 0x7632)};
      const int c = own + g * 8;
      u8* to = out + r * rowStride + c;
      if (r < rows) {
        if (ALIGNED && c + OWN <= columns) {
          if (GROUP == 8) *(Vector16*)to = Vector16{words[0], words[1], words[2], words[3]};
          else *(Vector8*)to = Vector8{words[0], words[1]};
        } else {
          #pragma unroll
          for (int e = 0; e < OWN; e++) if (c + e < columns) to[e] = (u8)(words[e / 4] >> (e % 4 * 8));
        }
      }
    }
  }
}
template <bool ALIGNED, class Four, class Access>
__device__ __forceinline__ void storeFour(Four v, u8* out, i64 rowStride, int row, int column, int rows, int columns, const Access& access) {
  if (row >= rows) return;
  u8* to = out + row * rowStride + column;
  const int2 low = access.finish(v.x, v.y, row, column, access.fetchAll(row, column)), high = access.finish(v.z, v.w, row, column + 2, access.fetchAll(row, column + 2));
  const u32 word = bytesOf(low.x, low.y) | bytesOf(high.x, high.y) << 16;
  if (ALIGNED && column + 4 <= columns) *(u32*)to = word;
  else {
    #pragma unroll
    for (int e = 0; e < 4; e++) if (column + e < columns) to[e] = (u8)(word >> (e * 8));
  }
}
`;

const STORE_WORDS = (type: "float" | "int"): string => `
${HEAD(type)}
  const u32 lane = threadIdx.x % 32;
  row += lane / 4;
  #pragma unroll
  for (int b = 0; b < BLOCKS; b++) {
    #pragma unroll
    for (int half = 0; half < 2; half++) {
      const int r = row + half * 8, c = column + b * 8 + (lane % 4) * 2, i = FROM + b * 4 + half * 2;
      if (r >= rows || c >= columns) continue;
      const ${type}2 v = access.finish(d[i], d[i + 1], r, c, access.fetchAll(r, c));
      ${type}* to = out + r * rowStride + c;
      if (ALIGNED && c + 2 <= columns) *(${type}2*)to = v;
      else {
        to[0] = v.x;
        if (c + 1 < columns) to[1] = v.y;
      }
    }
  }
}
template <bool ALIGNED, class Four, class Access>
__device__ __forceinline__ void storeFour(Four v, ${type}* out, i64 rowStride, int row, int column, int rows, int columns, const Access& access) {
  if (row >= rows) return;
  ${type}* to = out + row * rowStride + column;
  const ${type}2 low = access.finish(v.x, v.y, row, column, access.fetchAll(row, column)), high = access.finish(v.z, v.w, row, column + 2, access.fetchAll(row, column + 2));
  const ${type} g[4] = {low.x, low.y, high.x, high.y};
  if (ALIGNED && column + 4 <= columns) *(${type}4*)to = ${type}4{g[0], g[1], g[2], g[3]};
  else {
    #pragma unroll
    for (int e = 0; e < 4; e++) if (column + e < columns) to[e] = g[e];
  }
}
`;

const FORMS: Partial<Record<DType, OutputForm>> = {
  float16: { pointer: "u16", pair: "float2", store: STORE_HALVES("f16x2_of") },
  bfloat16: { pointer: "u16", pair: "float2", store: STORE_HALVES("bf16x2_of") },
  float32: { pointer: "float", pair: "float2", store: STORE_WORDS("float") },
  int32: { pointer: "int", pair: "int2", store: STORE_WORDS("int") },
  int8: { pointer: "u8", pair: "int2", store: STORE_BYTES },
  uint8: { pointer: "u8", pair: "int2", store: STORE_BYTES },
};

export function outputForm(dtype: DType): OutputForm {
  const form = FORMS[dtype];
  if (!form) throw new Error(`Bug in sinter: ${dtype} results of a contraction`);
  return form;
}

/** Whether results of that type, computed by that epilogue from such sums, are stored by contractions. */
export function isStorable(dtype: DType, epilogue: Epilogue | undefined, sum: Element["sum"]): boolean {
  const value = epilogue ? epilogue.value.type : sum === "int" ? "i32" : "f32";
  return FORMS[dtype]?.pair === (value === "f32" ? "float2" : value === "i32" ? "int2" : undefined);
}

/** Columns that a lane stores, and loads, as one vector; undefined for outputs of 32 bits. @param blocks of eight columns that a warp stores of a row */
export function ownColumns(dtype: DType, blocks: number): number | undefined {
  const bits = DTYPE_BITS[dtype];
  return bits === 16 ? 8 : bits === 8 ? (blocks % 8 === 0 ? 16 : 8) : undefined;
}

/** Whether rows begin at multiples of 16 bytes, so that several elements are stored at once. */
export function isStoredWide({ buffer, rowStride, batchStrides }: TiledOutput): boolean {
  return isAligned(buffer, [rowStride, ...batchStrides], DTYPE_BITS[buffer.dtype] / 8);
}
