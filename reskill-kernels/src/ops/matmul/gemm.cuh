// What the products share: the order of tiles, and writing results.
#pragma once
#include "prelude.cuh"

// Sizes and strides of out (M, N) (+)= alpha * left * right, sums over K. Strides are in elements, from row to row as
// stored. With several splits (gridDim.z), split z sums K from z * k_split on and writes its own matrix, `split_stride`
// elements after the last; matmul_reduce adds them up.
struct GemmShape {
  int m, n, k;
  int left_stride, right_stride, out_stride;
  int k_split;
  int accumulate;  // whether the old out is added
  float alpha;
};

// The tile of this block: eight rows of tiles are walked together, column by column, so that neighbouring blocks share
// both factors in the L2 cache.
__device__ __forceinline__ void tile_of_block(int tiles_m, int tiles_n, int& tile_m, int& tile_n) {
  const int in_group = 8 * tiles_n, group = blockIdx.x / in_group, within = blockIdx.x % in_group;
  const int rows = min(tiles_m - group * 8, 8);
  tile_m = group * 8 + within % rows;
  tile_n = within / rows;
}

__device__ __forceinline__ void write_one(float* out, float v, bool accumulate) { *out = accumulate ? *out + v : v; }
__device__ __forceinline__ void write_one(bf16* out, float v, bool accumulate) {
  *out = to_bf16(accumulate ? to_f32(*out) + v : v);
}

// Two neighbours in a row, at an address aligned to both.
__device__ __forceinline__ void write_two(float* out, float v, float w, bool accumulate) {
  float2* both = reinterpret_cast<float2*>(out);
  if (accumulate) {
    const float2 old = *both;
    v += old.x;
    w += old.y;
  }
  *both = make_float2(v, w);
}
__device__ __forceinline__ void write_two(bf16* out, float v, float w, bool accumulate) {
  u32* both = reinterpret_cast<u32*>(out);
  if (accumulate) {
    const u32 old = *both;
    v += low_bf16(old);
    w += high_bf16(old);
  }
  *both = pack_bf16x2(v, w);
}
