// Kernels that exercise warpgroup products as attention uses them, and two that are wrong on purpose.
//
// They are part of the stand-in library only.
#include "warpgroup.cuh"

namespace {

// Bytes of element (row, column) of a tile of rows of 128 bytes, 64 columns, swizzled by 128 bytes.
__device__ __forceinline__ int place(int row, int column) {
  return row * 128 + (((column / 8) ^ (row & 7)) * 16 + column % 8 * 2);
}
__device__ __forceinline__ void fill(u8* tile, const bf16* from, int rows) {
  for (int i = threadIdx.x; i < rows * 64; i += 256)
    *reinterpret_cast<bf16*>(tile + place(i / 64, i % 64)) = from[i];
}

}  // namespace

// out (128, 64) = round(a b^T) b of a (128, 64) and b (N, 64): two warpgroups of 64 rows of a, which wait for each other at
// barriers of their own only. The product of the scores goes from registers into the second one.
template <int N>
__device__ __forceinline__ void products(float* out, const bf16* a, const bf16* b) {
  DYN_SHARED(u8, shared);
  u8* tile_b = shared + 128 * 128;
  const int part = threadIdx.x / 128, lane = threadIdx.x & 31;
  fill(shared, a, 128);
  fill(tile_b, b, N);
  async_proxy_fence();
  named_barrier(3, 256);   // a and b are there
  float scores[N / 2], sums[32];
  u32 left[N / 16][4];
  for (float& sum : sums) sum = 0.f;
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < 64; k += 16)
    wgmma_trans(scores, wgmma_descriptor(shared + part * 64 * 128 + k * 2, 16), wgmma_descriptor(tile_b + k * 2, 16), k > 0);
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(scores);
#pragma unroll
  for (int k = 0; k < N / 16; ++k)
#pragma unroll
    for (int e = 0; e < 4; ++e) left[k][e] = pack_bf16x2(scores[8 * k + 2 * e], scores[8 * k + 2 * e + 1]);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < N / 16; ++k) wgmma_registers(sums, left[k], wgmma_descriptor(tile_b + k * 16 * 128, 16));
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(sums);
  // The results leave by the rows of a of this warpgroup, 32 columns at a time.
  float* staged = reinterpret_cast<float*>(shared + part * 64 * 128);
  const int row = threadIdx.x / 32 % 4 * 16 + lane / 4, column = lane % 4 * 2;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    named_barrier(1 + part, 128);   // this warpgroup has read its rows
#pragma unroll
    for (int e = 0; e < 16; ++e)
      staged[(row + e / 2 % 2 * 8) * 32 + e / 4 * 8 + column + e % 2] = sums[half * 16 + e];
    named_barrier(1 + part, 128);   // the results are there
    for (int i = threadIdx.x % 128; i < 64 * 32; i += 128)
      out[(part * 64 + i / 32) * 64 + half * 32 + i % 32] = staged[i];
  }
}

#define PRODUCTS(N)                                                                                              \
  extern "C" __global__ void __launch_bounds__(256) simt_warpgroup_##N(float* out, const bf16* a, const bf16* b) { \
    products<N>(out, a, b);                                                                                      \
  }                                                                                                              \
  EXPORT_KERNEL(simt_warpgroup_##N)

PRODUCTS(64)
PRODUCTS(128)

// Changes registers that a product still reads.
extern "C" __global__ void simt_mistake_changed_registers(float* y, const float*) {
  float sums[32] = {};
  u32 left[4] = {1, 2, 3, 4};
  wgmma_registers(sums, left, (u64)1 << 62);
  wgmma_commit();
  left[2] = 5;
  wgmma_wait<0>();
  y[threadIdx.x] = sums[0];
}
EXPORT_KERNEL(simt_mistake_changed_registers)

// The two halves of the block do not agree on how many meet.
extern "C" __global__ void simt_mistake_named_barrier(float* y, const float*) {
  named_barrier(1, threadIdx.x < 128 ? 256 : 128);
  y[threadIdx.x] = 0.f;
}
EXPORT_KERNEL(simt_mistake_named_barrier)
