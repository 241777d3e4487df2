// What all attention kernels share: the records of their work lists and reductions over a few lanes.
//
// Query rows are counted flat: index `row * group + head`, `group = H / K`, so that a tile holds the query heads of one
// key-value head side by side; they read the same keys, and short branches still fill a tile.
#pragma once
#include "mma.cuh"
#include "prelude.cuh"

namespace attention {

constexpr u32 NONE = 0xffffffffu;
constexpr float LOG2_E = 1.4426950408889634f;
constexpr float LN_2 = 0.6931471805599453f;

// What one row sees: the keys prefix_start <= j < prefix_end and own_start <= j <= row.
struct __align__(16) RowView {
  u32 prefix_start, prefix_end, own_start, row;
  __device__ __forceinline__ bool in_prefix(u32 j) const { return j >= prefix_start && j < prefix_end; }
  __device__ __forceinline__ bool in_own(u32 j) const { return j >= own_start && j <= row; }
};

// The columns begin <= column < end of a tile of keys.
struct ColumnRange {
  int begin, end;
  __device__ __forceinline__ bool contains(int column) const { return column >= begin && column < end; }
};

// The part of the keys begin .. end that lies in the tile from `first` on, of keys below `limit` only.
__device__ __forceinline__ ColumnRange columns(u32 begin, u32 end, u32 limit, u32 first) {
  return ColumnRange{(int)begin - (int)first, (int)min(end, limit) - (int)first};
}

// Query rows first .. first + len (flat) and the two runs of keys that some of them see. All of them see the keys
// a0 .. a_full and b0 .. b_full.
struct __align__(16) QueryTile { u32 first, len, a0, a1, a_full, b0, b1, b_full; };

// Key rows first .. first + len and the entries begin .. end of the list of query rows that see some of them. Sums go
// to the gradient itself (slot NONE) or to a slot of partial sums.
struct __align__(16) KeyTile { u32 first, len, begin, end, slot, unused0, unused1, unused2; };

// Query rows first .. first + len (flat); if `full` is not 0 all of them see all keys of the tile.
struct __align__(16) QueryRun { u32 first, len, full, unused; };

// Key rows first .. first + len, whose gradient is the sum of `n_slots` slots from `slot` on.
struct __align__(16) KeySum { u32 first, len, slot, n_slots; };

// Rows of the new tokens: rows[rows_first + flat / group], flat = m_first .. m_first + len, by the positions p0 .. p1
// of the sequence whose page i is pages[pages_first + i] (in 32 bits, which may wrap around). Results go to `out` (slot
// NONE) or to the partial results of the rows: number slot + flat / group. All of the rows see the positions below
// p_full.
struct __align__(16) SpanTile { u32 rows_first, m_first, len, pages_first, p0, p1, slot, p_full; };

// Sizes of a launch. A kernel takes them as ATTENTION_HEADS_PARAMETERS and makes them ATTENTION_HEADS.
#define ATTENTION_HEADS_PARAMETERS int n_heads, int n_kv_heads, int head_dim, float scale
#define ATTENTION_HEADS attention::Heads{n_heads, n_kv_heads, head_dim, n_heads / n_kv_heads, scale}
// The same where the size of a head is known: it stays a constant.
#define ATTENTION_HEADS_OF(D) attention::Heads{n_heads, n_kv_heads, D, n_heads / n_kv_heads, scale}
struct Heads {
  int n_heads, n_kv_heads, head_dim, group;
  float scale;
  __device__ __forceinline__ u64 width() const { return (u64)(n_heads + 2 * n_kv_heads) * head_dim; }
  __device__ __forceinline__ u64 out_width() const { return (u64)n_heads * head_dim; }
  __device__ __forceinline__ u64 kv_width() const { return (u64)n_kv_heads * head_dim; }
};

// Tables of a cached batch, all in device memory, so that a captured launch reads those of the moment.
struct CachedTables {
  const u32* count;        // number of tiles
  const SpanTile* tiles;
  const u32* rows;         // rows of the tiles
  const u32* pages;        // blocks of the sequences
  const u32* n_seen;       // (N) positions that a row sees
};

struct Partials {
  float* out;   // (slots, H, D)
  float* lse;   // (slots, H)
};

// Query m of a tile: its row, head and slot (if the tile has slots).
struct SpanRow {
  u64 row;
  u32 head, slot;
};

// Where the numbers of a packed batch lie, for the block's key-value head.
struct PackedPlaces {
  Heads heads;
  int kv_head;
  __device__ __forceinline__ u32 row(u32 flat) const { return flat / heads.group; }
  __device__ __forceinline__ int head(u32 flat) const { return kv_head * heads.group + (int)(flat % heads.group); }
  __device__ __forceinline__ u64 query(u32 flat) const {
    return row(flat) * heads.width() + head(flat) * heads.head_dim;
  }
  __device__ __forceinline__ u64 key(u32 j) const {
    return j * heads.width() + heads.out_width() + kv_head * heads.head_dim;
  }
  __device__ __forceinline__ u64 value(u32 j) const { return key(j) + heads.kv_width(); }
  __device__ __forceinline__ u64 out(u32 flat) const {
    return row(flat) * heads.out_width() + head(flat) * heads.head_dim;
  }
  __device__ __forceinline__ u64 statistic(u32 flat) const { return (u64)row(flat) * heads.n_heads + head(flat); }
};

// What the backward pass of a packed batch reads.
template <class T> struct Saved {
  const T* d_out;       // (N, H D)
  const float* lse;     // (N, H)
  const float* delta;   // (N, H)
  const T* qkv;         // (N, (H + 2K) D)
  const RowView* views; // (N)
  PackedPlaces at;
};

__device__ __forceinline__ SpanRow span_row(const CachedTables& tables, const SpanTile& tile, const Heads& heads,
                                            int kv_head, int m) {
  const u32 flat = tile.m_first + m, index = flat / heads.group;
  return SpanRow{tables.rows[tile.rows_first + index], kv_head * heads.group + flat % heads.group, tile.slot + index};
}

__device__ __forceinline__ float minus_infinity() { return __uint_as_float(0xff800000u); }
__device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }

// The largest of WIDTH neighbouring lanes, and their sum.
template <int WIDTH> __device__ __forceinline__ float lanes_max(float x) {
#pragma unroll
  for (int offset = WIDTH / 2; offset > 0; offset >>= 1) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
  return x;
}
template <int WIDTH> __device__ __forceinline__ float lanes_sum(float x) {
#pragma unroll
  for (int offset = WIDTH / 2; offset > 0; offset >>= 1) x += __shfl_xor_sync(0xffffffffu, x, offset);
  return x;
}

}  // namespace attention
