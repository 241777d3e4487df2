// Reductions over a warp and over a block, in a fixed order: the same input gives the same bits.
#pragma once
#include "prelude.cuh"

// Sum of the 32 lanes, in every lane.
template <class T>
__device__ __forceinline__ T warp_sum(T v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}

// Largest of the 32 lanes, in every lane. A NaN is passed over, as fmaxf does.
__device__ __forceinline__ float warp_max(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, offset));
  return v;
}

// Sum over all threads of the block, in every thread. Threads are a multiple of 32, at most 1024, in one dimension.
template <class T>
__device__ __forceinline__ T block_sum(T v) {
  SHARED(T, warp_sums, [32]);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
  v = warp_sum(v);
  __syncthreads();  // the sums of an earlier call have been read
  if (lane == 0) warp_sums[warp] = v;
  __syncthreads();  // all sums are there
  return warp_sum(lane < n_warps ? warp_sums[lane] : T(0));
}

// Largest over all threads of the block, in every thread; block as for block_sum.
__device__ __forceinline__ float block_max(float v) {
  SHARED(float, warp_maxima, [32]);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warps = blockDim.x >> 5;
  v = warp_max(v);
  __syncthreads();  // the maxima of an earlier call have been read
  if (lane == 0) warp_maxima[warp] = v;
  __syncthreads();  // all maxima are there
  return warp_max(lane < n_warps ? warp_maxima[lane] : -__int_as_float(0x7f800000));
}
