// Logits of rows and tokens in the registers of warpgroups, tile after tile, by blocks that stay.
#pragma once
#include "prelude.cuh"
#include "warpgroup_product.cuh"

// High, for many rows; low, which copies and multiplies less that is not there. An element is the same bits in both.
typedef WarpgroupTile<128, 4, 0, 0> HighTile;
typedef WarpgroupTile<64, 5, 0, 0> LowTile;

// Threads of a block: the warpgroups that multiply, then one that copies, of which the low tile needs but a warp.
template <class Tile> struct Threads { static constexpr int kCount = Tile::kWarpgroups > 1 ? 384 : 160; };

// Where a thread's sums lie: sum[4 j + 2 h + i] is row `row(m0) + 8 h` and column `col() + 8 j + i` of the tile.
struct SumsOfThread {
  static __device__ __forceinline__ int row(int m0) {
    return m0 + (int)(threadIdx.x >> 5 & 3) * 16 + (int)(threadIdx.x >> 2 & 7);
  }
  static __device__ __forceinline__ int col() { return (int)(threadIdx.x & 3) * 2; }
};

// The sum at column `at` of this thread's columns, of row h.
__device__ __forceinline__ float sum_at(const float (&sum)[128], int h, int at) {
  float found = 0.f;
#pragma unroll
  for (int j = 0; j < 32; ++j)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (at == 8 * j + i) found = sum[4 * j + 2 * h + i];
  return found;
}

// Writes eight neighbouring bf16 of each of four lanes that share a row: lane q of the four has pairs[j] of columns
// 8 j + 2 q and the next, of 32 columns from `out` (16-byte aligned) on, and gives away what is not in columns 8 q... All
// lanes of a warp; rows that are not `inside` are not written.
__device__ __forceinline__ void write_32_columns(bf16* out, u32 (&pairs)[4], bool inside) {
  const bool odd = threadIdx.x & 1, high = threadIdx.x & 2;
#pragma unroll
  for (int j = 0; j < 4; j += 2) {
    const u32 got = __shfl_xor_sync(0xffffffffu, odd ? pairs[j] : pairs[j + 1], 1);
    if (odd) pairs[j] = got;
    else pairs[j + 1] = got;
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const u32 got = __shfl_xor_sync(0xffffffffu, high ? pairs[j] : pairs[j + 2], 2);
    if (high) pairs[j] = got;
    else pairs[j + 2] = got;
  }
  uint4* to = reinterpret_cast<uint4*>(out) + (threadIdx.x & 3);
  if (inside) *to = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
}

// Walks the tiles of rows 0.. and tokens first.. < last of hidden (n_rows, c) * head^T. For each, `prepare(row)` gives
// what is to be read of a row, before the tile is multiplied, so that it is there afterwards; `use(sum, rows, row, n0)` has
// the sums, what `prepare` gave for the thread's two rows, the first of these rows, and the tile's first token.
//
// Blocks that run at once have neighbouring tiles: few of the head, which is read from memory once, and all rows, which
// stay in the L2 cache. Dynamic shared memory of the tile, Threads<Tile>::kCount threads.
template <class Tile, class Prepare, class Use>
__device__ __forceinline__ void for_each_tile(const TensorMap* hidden, const TensorMap* head, int n_rows, int first,
                                              int last, int c, Prepare prepare, Use use) {
  DYN_SHARED(u8, memory);
  Tile tile(memory);
  const int tiles_m = (n_rows + Tile::kTileM - 1) / Tile::kTileM;
  const int n_tiles = tiles_m * ((last - first + Tile::kTileN - 1) / Tile::kTileN);
  const int n_stages = (c + Tile::kDepth - 1) / Tile::kDepth;
  const int group = threadIdx.x >> 7;
  if (group == Tile::kWarpgroups) {
    if (Tile::kWarpgroups > 1) registers_decrease<40>();
    if ((threadIdx.x & 127) == 0)
      for (int t = blockIdx.x; t < n_tiles; t += gridDim.x)
        tile.copy(hidden, head, t % tiles_m * Tile::kTileM, first + t / tiles_m * Tile::kTileN, n_stages);
    return;
  }
  if (Tile::kWarpgroups > 1) registers_increase<232>();
  float sum[128];
  for (int t = blockIdx.x; t < n_tiles; t += gridDim.x) {
    const int row = SumsOfThread::row(t % tiles_m * Tile::kTileM + group * 64);
    const decltype(prepare(row)) rows[2] = {prepare(row), prepare(row + 8)};
    tile.multiply(sum, group, n_stages);
    use(sum, rows, row, first + t / tiles_m * Tile::kTileN);
  }
}
