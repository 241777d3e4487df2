// Kernels that exercise the simulator and the device headers; each does by a primitive what a plain loop can check.
//
// They are part of the stand-in library only.
#include "mma.cuh"
#include "reduce.cuh"

// sums[b] = sum of x[b, 0..n) (f32): two-level reduction.
extern "C" __global__ void __launch_bounds__(256)
    simt_row_sums(float* __restrict__ sums, const float* __restrict__ x, int n) {
  float v = 0.0f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) v += x[(size_t)blockIdx.x * n + i];
  v = block_sum(v);
  if (threadIdx.x == 0) sums[blockIdx.x] = v;
}
EXPORT_KERNEL(simt_row_sums)

// y = x reversed within each block of 256 (the last may be shorter), through shared memory.
extern "C" __global__ void __launch_bounds__(256)
    simt_reverse(float* __restrict__ y, const float* __restrict__ x, int n) {
  SHARED(float, tile, [256]);
  const int begin = blockIdx.x * 256, count = min(256, n - begin), t = threadIdx.x;
  if (t < count) tile[t] = x[begin + t];
  __syncthreads();
  if (t < count) y[begin + t] = tile[count - 1 - t];
}
EXPORT_KERNEL(simt_reverse)

// counts[0] += how many x are positive; counts[1] += how many exceed 1: votes, early exits, atomics.
extern "C" __global__ void __launch_bounds__(256) simt_count(u32* counts, const float* x, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  const u32 votes = __ballot_sync(0xffffffffu, i < n && x[i] > 0.0f);
  if ((threadIdx.x & 31) == 0) atomicAdd(counts, (u32)__popc(votes));
  if (i >= n) return;
  if (x[i] > 1.0f) atomicAdd(counts + 1, 1u);
}
EXPORT_KERNEL(simt_count)

// Inclusive sums of each warp's 32 elements, upwards, and the lane's group of equal values.
extern "C" __global__ void __launch_bounds__(128) simt_scan(float* sums, u32* groups, const float* x) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x & 31;
  float v = x[i];
  groups[i] = __match_any_sync(0xffffffffu, v);
#pragma unroll
  for (int offset = 1; offset < 32; offset <<= 1) {
    const float below = __shfl_up_sync(0xffffffffu, v, offset);
    if (lane >= offset) v += below;
  }
  sums[i] = v;
}
EXPORT_KERNEL(simt_scan)

// c (64, 64) f32 = a (64, k) * b (64, k)^T, bf16, k a multiple of 32: two stages of asynchronous copies, ldmatrix, mma.
// With `transposed`, b is (k, 64) and its tiles are transposed on the way to the registers.
extern "C" __global__ void __launch_bounds__(128) simt_matmul(float* __restrict__ c, const bf16* __restrict__ a,
                                                              const bf16* __restrict__ b, int k, int transposed) {
  constexpr int kDepth = 32, kLeft = 64 * (kDepth + 8), kRight = kDepth * 72 > kLeft ? kDepth * 72 : kLeft;
  DYN_SHARED(bf16, stages);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  auto load = [&](int stage, int first) {
    bf16* left = stages + stage * (kLeft + kRight);
    bf16* right = left + kLeft;
    for (int i = threadIdx.x; i < 256; i += 128) {
      const int row = i >> 2, col = (i & 3) * 8;
      cp_async16(left + row * (kDepth + 8) + col, a + (size_t)row * k + first + col);
      if (!transposed) cp_async16(right + row * (kDepth + 8) + col, b + (size_t)row * k + first + col);
      if (transposed)
        cp_async16(right + (i >> 3) * 72 + (i & 7) * 8, b + (size_t)(first + (i >> 3)) * 64 + (i & 7) * 8);
    }
    cp_async_commit();
  };
  float sum[8][4] = {};
  load(0, 0);
  for (int first = 0, stage = 0; first < k; first += kDepth, stage ^= 1) {
    if (first + kDepth < k) {
      load(stage ^ 1, first + kDepth);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();  // the stage is there for all
    const bf16* left = stages + stage * (kLeft + kRight);
    const bf16* right = left + kLeft;
    for (int depth = 0; depth < kDepth; depth += 16) {
      u32 fragment[4];
      ldmatrix_x4(fragment, left + (warp * 16 + (lane & 15)) * (kDepth + 8) + depth + (lane >> 4) * 8);
      for (int column = 0; column < 64; column += 16) {
        u32 r[4];
        if (!transposed)
          ldmatrix_x4(r, right + (column + (lane >> 4) * 8 + (lane & 7)) * (kDepth + 8) + depth + (lane >> 3 & 1) * 8);
        if (transposed) ldmatrix_x4_trans(r, right + (depth + (lane & 15)) * 72 + column + (lane >> 4) * 8);
        const u32 first_half[2] = {r[0], r[1]}, second_half[2] = {r[2], r[3]};
        mma_m16n8k16_bf16(sum[column / 8], fragment, first_half);
        mma_m16n8k16_bf16(sum[column / 8 + 1], fragment, second_half);
      }
    }
    __syncthreads();  // the stage may be overwritten
  }
  for (int j = 0; j < 8; ++j)
    for (int i = 0; i < 4; ++i) {
      const int row = warp * 16 + (lane >> 2) + (i >> 1) * 8, col = j * 8 + (lane & 3) * 2 + (i & 1);
      c[row * 64 + col] = sum[j][i];
    }
}
EXPORT_KERNEL(simt_matmul)
