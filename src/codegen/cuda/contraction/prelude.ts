/**
 * The device functions that contraction kernels are written with, as CUDA C++ text: one function per PTX instruction,
 * so that kernels read as algorithms. They stand after the target's general prelude.
 * Source: PTX ISA 9.0, chapter 9.7 (mbarrier, cp.async, cp.async.bulk.tensor, ldmatrix, mma, wgmma, setmaxnreg).
 */

/** What every contraction uses; any architecture. */
export const BASE = `
typedef long long i64;
__device__ __forceinline__ u32 sharedAddress(const void* p) { return (u32)__cvta_generic_to_shared(p); }
__device__ __forceinline__ float fastExp2(float x) { float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
struct alignas(16) Vector16 { u32 x, y, z, w; };
struct alignas(8) Vector8 { u32 x, y; };

/* How an epilogue is reached; see epilogue-text.ts. */
template <class Fetch, class FetchOwn, class Share, class FetchAll, class Finish> struct Access { Fetch fetch; FetchOwn fetchOwn; Share share; FetchAll fetchAll; Finish finish; };
template <class Fetch, class FetchOwn, class Share, class FetchAll, class Finish> Access(Fetch, FetchOwn, Share, FetchAll, Finish) -> Access<Fetch, FetchOwn, Share, FetchAll, Finish>;

/* Lane t of four neighbours holds word t of its four blocks; afterwards it holds the four words of block t. */
__device__ __forceinline__ void transposeQuad(u32 (&w)[4], u32 lane) {
  const bool odd = lane & 1, high = lane & 2;
  u32 a = odd ? w[0] : w[1], b = odd ? w[2] : w[3];
  a = __shfl_xor_sync(0xffffffffu, a, 1);
  b = __shfl_xor_sync(0xffffffffu, b, 1);
  if (odd) { w[0] = a; w[2] = b; } else { w[1] = a; w[3] = b; }
  u32 c = high ? w[0] : w[2], d = high ? w[1] : w[3];
  c = __shfl_xor_sync(0xffffffffu, c, 2);
  d = __shfl_xor_sync(0xffffffffu, d, 2);
  if (high) { w[0] = c; w[1] = d; } else { w[2] = c; w[3] = d; }
}
`;

/** sm_80 and later: asynchronous copies of up to 16 bytes, matrix fragments from shared memory. */
export const AMPERE = `
/* Copies the first \`bytes\` of 16 and fills the rest with zeros; the global address must be a multiple of 16. */
__device__ __forceinline__ void copyAsync16(u32 to, const void* from, u32 bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copyAsync4(u32 to, const void* from, u32 bytes) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" :: "r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copyCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT> __device__ __forceinline__ void copyWait() { asm volatile("cp.async.wait_group %0;" :: "n"(LEFT) : "memory"); }
__device__ __forceinline__ void loadMatrix4(u32 (&r)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
__device__ __forceinline__ void loadMatrix4Transposed(u32 (&r)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
`;

/** sm_90a: barriers in shared memory, the tensor copy engine, warpgroup matrix products. */
export const HOPPER = `
__device__ __forceinline__ void barrierInit(u32 barrier, u32 count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(count) : "memory"); }
__device__ __forceinline__ void barrierInitDone() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); asm volatile("fence.proxy.async;" ::: "memory"); }
__device__ __forceinline__ void barrierExpect(u32 barrier, u32 bytes) { asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(barrier), "r"(bytes) : "memory"); }
__device__ __forceinline__ void barrierArrive(u32 barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(barrier) : "memory"); }
__device__ __forceinline__ void barrierArriveAt(u32 barrier, u32 rank) {
  asm volatile("{\\n.reg .b32 remote;\\nmapa.shared::cluster.u32 remote, %0, %1;\\nmbarrier.arrive.shared::cluster.b64 _, [remote];\\n}" :: "r"(barrier), "r"(rank) : "memory");
}
__device__ __forceinline__ void barrierWait(u32 barrier, u32 phase) {
  asm volatile("{\\n.reg .pred done;\\nAGAIN:\\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\\n@done bra FINISHED;\\nbra AGAIN;\\nFINISHED:\\n}" :: "r"(barrier), "r"(phase) : "memory");
}
template <int ID, int THREADS> __device__ __forceinline__ void namedSync() { asm volatile("bar.sync %0, %1;" :: "n"(ID), "n"(THREADS) : "memory"); }
__device__ __forceinline__ void namedSyncAt(u32 id, u32 threads) { asm volatile("bar.sync %0, %1;" :: "r"(id), "r"(threads) : "memory"); }
__device__ __forceinline__ void namedArriveAt(u32 id, u32 threads) { asm volatile("bar.arrive %0, %1;" :: "r"(id), "r"(threads) : "memory"); }
template <int COUNT> __device__ __forceinline__ void registersGrow() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(COUNT)); }
template <int COUNT> __device__ __forceinline__ void registersShrink() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(COUNT)); }
__device__ __forceinline__ u32 clusterRank() { u32 r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
__device__ __forceinline__ void clusterSync() { asm volatile("barrier.cluster.arrive.release.aligned;\\nbarrier.cluster.wait.acquire.aligned;" ::: "memory"); }
__device__ __forceinline__ u32 addressAt(u32 address, u32 rank) { u32 r; asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(address), "r"(rank)); return r; }
__device__ __forceinline__ void loadCluster(u32 address, float4& v) {
  asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(address) : "memory");
}
__device__ __forceinline__ void loadCluster(u32 address, int4& v) {
  asm volatile("ld.shared::cluster.v4.s32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address) : "memory");
}
__device__ __forceinline__ void mapPrefetch(const TensorMap* map) { asm volatile("prefetch.tensormap [%0];" :: "l"(map) : "memory"); }
__device__ __forceinline__ void loadTile2(u32 to, const TensorMap* map, u32 barrier, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4}], [%2];" :: "r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y) : "memory");
}
__device__ __forceinline__ void loadTile3(u32 to, const TensorMap* map, u32 barrier, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4,%5}], [%2];" :: "r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z) : "memory");
}
__device__ __forceinline__ void loadTile4(u32 to, const TensorMap* map, u32 barrier, int x, int y, int z, int w) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4,%5,%6}], [%2];" :: "r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}
__device__ __forceinline__ void loadTile5(u32 to, const TensorMap* map, u32 barrier, int x, int y, int z, int w, int v) {
  asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4,%5,%6,%7}], [%2];" :: "r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w), "r"(v) : "memory");
}
/* One box for every block of \`mask\` in the cluster, at the same place in each one's shared memory. */
__device__ __forceinline__ void loadTile2Multicast(u32 to, const TensorMap* map, u32 barrier, u16 mask, int x, int y) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4,%5}], [%2], %3;" :: "r"(to), "l"(map), "r"(barrier), "h"(mask), "r"(x), "r"(y) : "memory");
}
__device__ __forceinline__ void loadTile3Multicast(u32 to, const TensorMap* map, u32 barrier, u16 mask, int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4,%5,%6}], [%2], %3;" :: "r"(to), "l"(map), "r"(barrier), "h"(mask), "r"(x), "r"(y), "r"(z) : "memory");
}
__device__ __forceinline__ void loadTile4Multicast(u32 to, const TensorMap* map, u32 barrier, u16 mask, int x, int y, int z, int w) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4,%5,%6,%7}], [%2], %3;" :: "r"(to), "l"(map), "r"(barrier), "h"(mask), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}
__device__ __forceinline__ void loadTile5Multicast(u32 to, const TensorMap* map, u32 barrier, u16 mask, int x, int y, int z, int w, int v) {
  asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%4,%5,%6,%7,%8}], [%2], %3;" :: "r"(to), "l"(map), "r"(barrier), "h"(mask), "r"(x), "r"(y), "r"(z), "r"(w), "r"(v) : "memory");
}
/* Pixels of an image [batch, row, column, channel] from (w, h, n) on, shifted by a kernel tap; zeros outside. */
__device__ __forceinline__ void loadPixels(u32 to, const TensorMap* map, u32 barrier, int c, int w, int h, int n, u16 tapX, u16 tapY) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3,%4,%5,%6}], [%2], {%7,%8};" :: "r"(to), "l"(map), "r"(barrier), "r"(c), "r"(w), "r"(h), "r"(n), "h"(tapX), "h"(tapY) : "memory");
}

__device__ __forceinline__ void productFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void productCommit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int LEFT> __device__ __forceinline__ void productWait() { asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(LEFT) : "memory"); }
/* A matrix in shared memory, swizzled over rows of 128 bytes, or of 64; strides in bytes. PTX ISA 9.7.15.5.1 (matrix descriptor). */
__device__ __forceinline__ u64 matrixAt(u32 address, u32 leading, u32 stride, u32 rowBytes = 128) {
  return (u64)((address & 0x3ffff) >> 4) | ((u64)(leading >> 4) << 16) | ((u64)(stride >> 4) << 32) | ((u64)(rowBytes == 128 ? 1 : 2) << 62);
}
`;
