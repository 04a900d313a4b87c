/**
 * CUDA C++ that stands in front of every kernel: element types and their conversions, arithmetic with the meaning that
 * the loop IR gives it, vectors of elements, reductions within a warp. No header is included, so that NVRTC alone
 * compiles it. Instructions of the GPU are behind `__CUDA_ARCH__`, so that tests can run the same kernels as host code
 * over a shim which defines the `host_*` functions.
 *
 * Sources: PTX ISA 8.5, 9.7.9.21 (cvt), 9.7.3 (min, max with NaN).
 */
export const PRELUDE = `
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
typedef unsigned char u8; typedef unsigned short u16; typedef unsigned int u32; typedef unsigned long long u64;
struct f16 { u16 bits; };
struct bf16 { u16 bits; };
struct alignas(64) TensorMap { u64 opaque[16]; };
template <typename T, int N> struct alignas(sizeof(T) * N > 16 ? 16 : sizeof(T) * N) Vec { T at[N]; };

#ifdef __CUDA_ARCH__
__device__ __forceinline__ float element(f16 x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits)); return y; }
__device__ __forceinline__ f16 f16_of(float x) { f16 y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); return y; }
__device__ __forceinline__ u32 f16x2_of(float low, float high) { u32 y; asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low)); return y; }
__device__ __forceinline__ u32 bf16x2_of(float low, float high) { u32 y; asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low)); return y; }
__device__ __forceinline__ bf16 bf16_of(float x) { bf16 y; y.bits = (u16)bf16x2_of(x, 0.0f); return y; }
__device__ __forceinline__ float min_of(float a, float b) { float y; asm("min.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b)); return y; }
__device__ __forceinline__ float max_of(float a, float b) { float y; asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b)); return y; }
#else
__device__ inline float element(f16 x) { return host_f16(x.bits); }
__device__ inline f16 f16_of(float x) { f16 y; y.bits = host_f16_bits(x); return y; }
__device__ inline bf16 bf16_of(float x) { bf16 y; y.bits = host_bf16_bits(x); return y; }
__device__ inline u32 f16x2_of(float low, float high) { return f16_of(low).bits | (u32)f16_of(high).bits << 16; }
__device__ inline u32 bf16x2_of(float low, float high) { return bf16_of(low).bits | (u32)bf16_of(high).bits << 16; }
__device__ inline float min_of(float a, float b) { return a != a ? a : b != b ? b : a < b ? a : b; }
__device__ inline float max_of(float a, float b) { return a != a ? a : b != b ? b : a > b ? a : b; }
#endif
__device__ __forceinline__ float element(bf16 x) { return __uint_as_float((u32)x.bits << 16); }
__device__ __forceinline__ float element(float x) { return x; }
__device__ __forceinline__ double element(double x) { return x; }
__device__ __forceinline__ int element(signed char x) { return x; }
__device__ __forceinline__ int element(short x) { return x; }
__device__ __forceinline__ int element(int x) { return x; }
__device__ __forceinline__ long long element(long long x) { return x; }
__device__ __forceinline__ int element(u8 x) { return x; }
__device__ __forceinline__ int element(u16 x) { return x; }
__device__ __forceinline__ u32 element(u32 x) { return x; }
__device__ __forceinline__ u64 element(u64 x) { return x; }
__device__ __forceinline__ bool element(bool x) { return x; }

__device__ __forceinline__ double min_of(double a, double b) { return a != a ? a : b != b ? b : a < b ? a : b; }
__device__ __forceinline__ double max_of(double a, double b) { return a != a ? a : b != b ? b : a > b ? a : b; }
template <typename T> __device__ __forceinline__ T min_of(T a, T b) { return a < b ? a : b; }
template <typename T> __device__ __forceinline__ T max_of(T a, T b) { return a > b ? a : b; }
template <typename T> __device__ __forceinline__ T div_of(T a, T b) { return b == 0 ? 0 : b == (T)-1 && (T)-1 < 0 ? 0 - a : a / b; }
template <typename T> __device__ __forceinline__ T rem_of(T a, T b) { return b == 0 || b == (T)-1 && (T)-1 < 0 ? 0 : a % b; }
template <typename T> __device__ __forceinline__ T mod_of(T a, T b) { T r = rem_of(a, b); return r != 0 && ((r < 0) != (b < 0)) ? r + b : r; }
__device__ __forceinline__ float rem_of(float a, float b) { return fmodf(a, b); }
__device__ __forceinline__ double rem_of(double a, double b) { return fmod(a, b); }
__device__ __forceinline__ float mod_of(float a, float b) { float r = fmodf(a, b); return r != 0 && ((r < 0) != (b < 0)) ? r + b : r; }
__device__ __forceinline__ double mod_of(double a, double b) { double r = fmod(a, b); return r != 0 && ((r < 0) != (b < 0)) ? r + b : r; }
template <typename T> __device__ __forceinline__ T sign_of(T a) { return a > 0 ? (T)1 : a < 0 ? (T)-1 : a; }
template <typename T> __device__ __forceinline__ T abs_of(T a) { return a < 0 ? 0 - a : a; }
template <typename T> __device__ __forceinline__ T left_of(T a, T b) { return b < 0 || b >= (T)(8 * sizeof(T)) ? 0 : a << b; }
template <typename T> __device__ __forceinline__ T right_of(T a, T b) { return b < 0 || b >= (T)(8 * sizeof(T)) ? 0 : a >> b; }
template <typename T> __device__ T pow_of(T a, T b) {
  if (b < 0) return a == 1 ? 1 : a == (T)-1 ? (b % 2 != 0 ? (T)-1 : 1) : 0;
  T y = 1;
  for (; b > 0; b >>= 1, a *= a) if (b & 1) y *= a;
  return y;
}
template <typename T> __device__ __forceinline__ int int_of(T x) { return x >= -2147483648.0 && x < 2147483648.0 ? (int)x : (int)0x80000000u; }
template <typename T> __device__ __forceinline__ long long long_of(T x) { return x >= -9223372036854775808.0 && x < 9223372036854775808.0 ? (long long)x : (long long)0x8000000000000000ull; }
template <typename T> __device__ __forceinline__ u32 unsigned_of(T x) { return (u32)long_of(x); }
template <typename T> __device__ __forceinline__ u64 unsigned_long_of(T x) { return x >= 9223372036854775808.0 ? (u64)(long long)(x - 9223372036854775808.0) + 0x8000000000000000ull : (u64)long_of(x); }

/* x / s as IEEE 754 rounds it, inverse being 1 / s rounded, where neither it nor a remainder leaves the normal numbers. Source: Markstein, 1990. */
__device__ __forceinline__ float quotient_of(float x, float s, float inverse) { const float q = x * inverse; return fmaf(fmaf(-q, s, x), inverse, q); }
/* The nearest integer, half to even, of |x| < 2^22: the last place of x + 1.5 * 2^23 is worth one. */
__device__ __forceinline__ float small_round_of(float x) { return (x + 12582912.0f) - 12582912.0f; }
__device__ __forceinline__ int small_int_of(float x) { return (int)(__float_as_uint(x + 12582912.0f) - 0x4b400000u); }

struct Sum { template <typename T> __device__ __forceinline__ static T join(T a, T b) { return a + b; } };
struct Product { template <typename T> __device__ __forceinline__ static T join(T a, T b) { return a * b; } };
struct Least { template <typename T> __device__ __forceinline__ static T join(T a, T b) { return min_of(a, b); } };
struct Most { template <typename T> __device__ __forceinline__ static T join(T a, T b) { return max_of(a, b); } };
template <> __device__ __forceinline__ bool Sum::join(bool a, bool b) { return a | b; }
template <> __device__ __forceinline__ bool Product::join(bool a, bool b) { return a & b; }

/* Every lane of the warp gets the result over all 32. */
template <typename Op, typename T> __device__ __forceinline__ T warp_all(T x) {
#pragma unroll
  for (int step = 16; step > 0; step >>= 1) x = Op::join(x, (T)__shfl_xor_sync(0xffffffffu, x, step));
  return x;
}
/* Every thread of a block of Warps warps gets the result; parts is shared memory of this reduction's own. */
template <typename Op, int Warps, typename T> __device__ __forceinline__ T block_all(T x, T* parts) {
  x = warp_all<Op>(x);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  T y = parts[0];
#pragma unroll
  for (int i = 1; i < Warps; i++) y = Op::join(y, parts[i]);
  return y;
}
`;
