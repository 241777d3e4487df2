// What the products share: the order of tiles, and writing results.
#pragma once
#include "pairs.cuh"
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

// Tile number `index`: kRows rows of tiles are walked together, column by column, so that tiles that are computed at one
// time share both factors in the L2 cache.
template <int kRows>
__device__ __forceinline__ void tile_at(int index, int tiles_m, int tiles_n, int& tile_m, int& tile_n) {
  const int in_group = kRows * tiles_n, group = index / in_group, within = index % in_group;
  const int rows = min(tiles_m - group * kRows, kRows);
  tile_m = group * kRows + within % rows;
  tile_n = within / rows;
}
// The tile of this block.
__device__ __forceinline__ void tile_of_block(int tiles_m, int tiles_n, int& tile_m, int& tile_n) {
  tile_at<8>(blockIdx.x, tiles_m, tiles_n, tile_m, tile_n);
}

__device__ __forceinline__ void write_one(float* out, float v, bool accumulate) { *out = accumulate ? *out + v : v; }
__device__ __forceinline__ void write_one(bf16* out, float v, bool accumulate) {
  *out = to_bf16(accumulate ? to_f32(*out) + v : v);
}

template <class Out> __device__ __forceinline__ void write_two(Out* out, float v, float w, bool accumulate) {
  if (accumulate) {
    const float2 old = read_two(out);
    v += old.x;
    w += old.y;
  }
  write_two(out, v, w);
}
