// How lanes share a head of D elements: D / 8 lanes have eight of them each where D / 8 divides a warp (D = 8, 16, 32,
// 64, 128, 256), so that a warp works on several heads; any other head has a warp to itself. The host counts the same:
// Grid::heads.
#pragma once
#include "prelude.cuh"

__device__ __forceinline__ bool is_wide_head(int d) { return d % 8 == 0 && 32 % (d / 8) == 0; }

// Sum over groups of `lanes` neighbouring lanes, a power of two; all lanes of the warp come here.
__device__ __forceinline__ float head_sum(float v, int lanes) {
  for (int offset = lanes / 2; offset > 0; offset >>= 1) v += __shfl_xor_sync(0xffffffffu, v, offset);
  return v;
}
