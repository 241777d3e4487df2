// What the kernels of attention to a paged cache in bf16 share: pages of 32 positions, the rows of a tile, results.
#pragma once
#include "attention_flash.cuh"

namespace attention {

constexpr int PAGE = 32;

// A tile of rows and where its queries, pages and results are.
template <int D> struct PagedPlaces {
  bf16* out;
  Partials partials;
  const bf16* qkv;
  CachedTables tables;
  SpanTile tile;
  Heads heads;
  int kv_head;

  __device__ __forceinline__ SpanRow row(int m) const { return span_row(tables, tile, heads, kv_head, m); }
  __device__ __forceinline__ const bf16* query(int m) const {
    const SpanRow at = row(m);
    return qkv + at.row * heads.width() + at.head * D;
  }
  __device__ __forceinline__ bf16* result(int m) const {
    const SpanRow at = row(m);
    return out + at.row * heads.out_width() + at.head * D;
  }
  // Place of a partial result; of its sums D elements.
  __device__ __forceinline__ u64 part(int m) const {
    const SpanRow at = row(m);
    return (u64)at.slot * heads.n_heads + at.head;
  }
  __device__ __forceinline__ u32 last_page() const { return (tile.p1 - 1) / PAGE; }
  __device__ __forceinline__ u32 block(u32 index) const { return tables.pages[tile.pages_first + index]; }
  __device__ __forceinline__ u32 n_seen(int m) const { return tables.n_seen[row(m).row]; }
};

}  // namespace attention

#define ATTENTION_FLASH_CACHED_PLACES(D, TILE, KV_HEAD)                                                              \
  attention::PagedPlaces<D> {                                                                                        \
    out, {partial_out, partial_lse}, qkv, {count, tiles, rows, pages, n_seen}, tiles[TILE], ATTENTION_HEADS_OF(D),   \
        (int)(KV_HEAD)                                                                                               \
  }
