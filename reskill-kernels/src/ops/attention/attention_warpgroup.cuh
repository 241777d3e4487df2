// Attention on warpgroup products (sm_90a), bf16, head sizes 64 and 128: the pieces that forward and backward share.
//
// A tile of ROWS rows lies in shared memory as D / 64 chunks of 64 columns, one behind the other: rows of 128 bytes, whose
// unit u of 16 bytes is at place u ^ (row % 8). So tensor copies write it and descriptors read it.
// Results of a product: thread 32 w + 4 g + t of a warpgroup holds of rows 16 w + g + 8 h, h = 0, 1, the columns
// 8 j + 2 t + i, at [4 j + 2 h + i]; rounded, 16 columns of them are the left factor of the next product.
#pragma once
#include "attention_flash.cuh"
#include "warpgroup.cuh"

namespace attention {

constexpr int WARPGROUP = 128;   // threads
constexpr int QUERIES = 128;     // flat query rows of a block: 64 of each of two warpgroups

// Among the threads of a computing warpgroup, 0 or 1.
__device__ __forceinline__ void warpgroup_barrier(int part) { named_barrier(1 + part, WARPGROUP); }

// The tiles of keys that a tile of query rows meets: those of its prefix, then its own.
template <int BN> struct KeyTiles {
  QueryTile tile;
  int n_prefix, n;
  __device__ __forceinline__ explicit KeyTiles(const QueryTile& tile) : tile(tile) {
    n_prefix = (int)((tile.a1 - tile.a0 + BN - 1) / BN);
    n = n_prefix + (int)((tile.b1 - tile.b0 + BN - 1) / BN);
  }
  __device__ __forceinline__ bool is_prefix(int t) const { return t < n_prefix; }
  __device__ __forceinline__ u32 begin(int t) const {
    return is_prefix(t) ? tile.a0 + t * BN : tile.b0 + (t - n_prefix) * BN;
  }
  __device__ __forceinline__ bool is_full(int t) const {
    return begin(t) + BN <= (is_prefix(t) ? tile.a_full : tile.b_full);
  }
  __device__ __forceinline__ ColumnRange range(const RowView& view, int t) const {
    return is_prefix(t) ? columns(view.prefix_start, view.prefix_end, tile.a1, begin(t))
                        : columns(view.own_start, view.row + 1, tile.b1, begin(t));
  }
};

template <int D, int ROWS> struct SwizzledTile {
  static constexpr int CHUNK = ROWS * 128;
  u8 bytes[D / 64 * CHUNK];

  // Bytes of element (row, column), column a multiple of 2.
  static __device__ __forceinline__ int offset(int row, int column) {
    return column / 64 * CHUNK + row * 128 + (((column % 64 / 8) ^ (row & 7)) * 16 + column % 8 * 2);
  }
  // The tile from `row` (a multiple of 8) on as a factor with D along K, and with its rows along K.
  __device__ __forceinline__ u64 by_rows(int row) const { return wgmma_descriptor(bytes + row * 128, 16); }
  __device__ __forceinline__ u64 by_columns() const { return wgmma_descriptor(bytes, CHUNK); }
  // What to add to them for the element `k` of K.
  static __device__ __forceinline__ constexpr u64 step_by_rows(int k) { return (k / 64 * CHUNK + k % 64 * 2) >> 4; }
  static __device__ __forceinline__ constexpr u64 step_by_columns(int k) { return k * 128 >> 4; }

  // Copies the 16 rows from `first` on, asynchronously, by one warp; row i of the tile comes from from(i).
  template <class F> __device__ __forceinline__ void copy16(int first, F from) {
    constexpr int UNITS = D / 8, STEP = 32 / UNITS;
    const int unit = lane_id() % UNITS, row = first + lane_id() / UNITS;
#pragma unroll 4
    for (int i = 0; i < 16; i += STEP)
      cp_async16(bytes + offset(row + i, unit * 8), from(row + i) + unit * 8);
  }
  // The rows from `first` and the columns from `column` on of a matrix, by one thread that has announced the bytes.
  __device__ __forceinline__ void load(const TensorMap* map, u32 first, int column, u64* barrier) {
#pragma unroll
    for (int c = 0; c < D / 64; ++c) tma_load(bytes + c * CHUNK, map, column + c * 64, (int)first, barrier);
  }
};

template <int N> __device__ __forceinline__ void clear(float (&x)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) x[i] = 0.f;
}

// sums (64 rows, N columns) = a b^T over D: begins the products, which end at a wait.
template <int D, int A, int B>
__device__ __forceinline__ void begin_trans(float (&sums)[B / 2], u64 a, u64 b) {
#pragma unroll
  for (int k = 0; k < D; k += 16)
    wgmma_trans(sums, a + SwizzledTile<D, A>::step_by_rows(k), b + SwizzledTile<D, B>::step_by_rows(k), k > 0);
}

// acc (64 rows, D columns) += weights (64 rows, B columns) b.
template <int D, int B>
__device__ __forceinline__ void begin_accumulate(float (&acc)[D / 2], const u32 (&weights)[B / 16][4], u64 b) {
#pragma unroll
  for (int k = 0; k < B; k += 16)
    wgmma_registers(acc, weights[k / 16], b + SwizzledTile<D, B>::step_by_columns(k));
}

// Results as a left factor.
template <int N> __device__ __forceinline__ void round_left(u32 (&a)[N / 8][4], const float (&x)[N]) {
#pragma unroll
  for (int k = 0; k < N / 8; ++k)
#pragma unroll
    for (int e = 0; e < 4; ++e) a[k][e] = pack_bf16x2(x[8 * k + 2 * e], x[8 * k + 2 * e + 1]);
}

// A warp has read what a barrier guards.
__device__ __forceinline__ void release(u64* empty) {
  if (lane_id() == 0) mbarrier_arrive(empty);
}

// Rounds the results of a warp's 16 rows to bf16 and writes them in units of 16 bytes: row m of the tile to to(m), for
// m < len. `stage` is a tile whose rows first .. first + 16 belong to this warp.
template <int D, int ROWS, class F>
__device__ __forceinline__ void write16(const float (&acc)[D / 2], SwizzledTile<D, ROWS>& stage, int first, int len,
                                        F to) {
  constexpr int UNITS = D / 8;
  const int lane = lane_id(), g = lane >> 2, t2 = (lane & 3) * 2;
#pragma unroll
  for (int j = 0; j < D / 8; ++j)
#pragma unroll
    for (int h = 0; h < 2; ++h)
      *reinterpret_cast<u32*>(stage.bytes + stage.offset(first + g + 8 * h, 8 * j + t2)) =
          pack_bf16x2(acc[4 * j + 2 * h], acc[4 * j + 2 * h + 1]);
  __syncwarp();   // the rows of this warp are staged
#pragma unroll 4
  for (int index = lane; index < 16 * UNITS; index += 32) {
    const int m = first + index / UNITS, unit = index % UNITS;
    if (m < len)
      *reinterpret_cast<uint4*>(to(m) + unit * 8) =
          *reinterpret_cast<const uint4*>(stage.bytes + stage.offset(m, unit * 8));
  }
}

}  // namespace attention
