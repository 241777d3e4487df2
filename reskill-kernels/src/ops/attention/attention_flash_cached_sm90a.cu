// Attention of many new rows to sequences in a paged cache, bf16 by warpgroup products and tensor copies (compute
// capability 9.0 only), head sizes 64 and 128, pages of 32: what _large of attention_flash_cached.cu does elsewhere.
//
// Formula   as in attention_cached.cu, which also writes the cache and merges partial results.
// Shapes    as in attention_flash_cached.cu
// Bytes     4 D a position and key-value head for each tile of 128 flat query rows that reads it, from L2: 128 FLOP a
//           byte.
// Flops     4 D for each visible pair of a row and head and a position: compute-bound.
// Launch    grid (tiles at most * K), tile = block / K, kv head = block % K, blocks behind the last tile end at once;
//           tiles sorted, longest first; block (384): a thread of the first warpgroup looks up pages and copies them,
//           two warpgroups compute 64 query rows each; dynamic shared memory ForwardShared.
// Numerics  as attention_flash_forward_sm90a.cu; bound against f64: simt/tests/attention_cached_sm90a.rs. What pages
//           hold behind the last position may be no number: keys there have weight 0, values become 0 in shared memory.
// Source    as attention_cached.cu and attention_warpgroup_forward.cuh.
#include "attention_flash_cached.cuh"
#include "attention_warpgroup_forward.cuh"

namespace attention {

// Keys of BN positions: page by page as the cache has them, D rows of 32 positions, swizzled by 64 bytes.
template <int D, int BN> struct PagedKeys {
  static constexpr int BYTES = D * PAGE * 2;   // of a page
  u8 bytes[BN / PAGE * BYTES];
  __device__ __forceinline__ u64 by_columns() const { return wgmma_descriptor_64(bytes, BYTES); }
  static __device__ __forceinline__ constexpr u64 step_by_columns(int k) { return k * PAGE * 2 >> 4; }
};

template <int D, int BN> struct PagedForward : PagedPlaces<D> {
  using View = u32;
  using Values = SwizzledTile<D, BN>;
  using PagedPlaces<D>::tile, PagedPlaces<D>::heads, PagedPlaces<D>::kv_head, PagedPlaces<D>::partials;
  const TensorMap* keys;
  const TensorMap* values;

  __device__ __forceinline__ float scale() const { return heads.scale; }
  __device__ __forceinline__ int len() const { return (int)tile.len; }
  __device__ __forceinline__ int n_tiles() const { return (int)((tile.p1 - tile.p0 + BN - 1) / BN); }
  __device__ __forceinline__ u32 begin(int t) const { return tile.p0 + t * BN; }
  __device__ __forceinline__ bool is_full(int t) const { return begin(t) + BN <= min(tile.p_full, tile.p1); }
  __device__ __forceinline__ u32 view(int m) const { return this->n_seen(m); }
  __device__ __forceinline__ ColumnRange range(u32 n_seen, int t) const {
    return columns(begin(t), n_seen, tile.p1, begin(t));
  }
  __device__ __forceinline__ void begin_scores(float (&s)[BN / 2], u64 q, const PagedKeys<D, BN>& keys) const {
    const u64 b = keys.by_columns();
#pragma unroll
    for (int k = 0; k < D; k += 16)
      wgmma_m64k16<0, 1>(s, q + SwizzledTile<D, QUERIES>::step_by_rows(k), b + PagedKeys<D, BN>::step_by_columns(k),
                         k > 0);
  }

  // The block of page n of tile t, or what lies in front of the cache, where copies read zeros. Rows of the maps are
  // signed 32 bits: a cache of 2^31 rows of 64 bytes would fill a device.
  __device__ __forceinline__ int page_or_none(int t, int n) const {
    const u32 page = begin(t) / PAGE + n;
    return page <= this->last_page() ? (int)this->block(page) : -1;
  }
  // The copying thread. If the last page is ragged, the values of its tile are yet to be finished when they have come.
  template <class Shared> __device__ __forceinline__ void begin_copies(Shared& shared) const {
    constexpr int STAGES = sizeof shared.keys / sizeof shared.keys[0], PAGES = BN / PAGE;
    const int n = n_tiles();
    for (int t = 0; t < n; ++t) {
      const int slot = t % STAGES, parity = t / STAGES % 2 ^ 1;   // parity 1 of a fresh barrier: slots begin empty
      int blocks[PAGES];
#pragma unroll
      for (int i = 0; i < PAGES; ++i) blocks[i] = page_or_none(t, i);
      mbarrier_wait(&shared.keys_empty[slot], parity);
      mbarrier_arrive_expect(&shared.keys_full[slot], sizeof shared.keys[slot]);
#pragma unroll
      for (int i = 0; i < PAGES; ++i)
        tma_load(shared.keys[slot].bytes + i * PagedKeys<D, BN>::BYTES, keys, 0,
                 (blocks[i] * heads.n_kv_heads + kv_head) * D, &shared.keys_full[slot]);
      u64* full = t == n - 1 && tile.p1 % PAGE != 0 ? &shared.values_landed : &shared.values_full[slot];
      mbarrier_wait(&shared.values_empty[slot], parity);
      mbarrier_arrive_expect(full, sizeof shared.values[slot]);
#pragma unroll
      for (int i = 0; i < PAGES; ++i)
#pragma unroll
        for (int c = 0; c < D; c += 64)
          tma_load(shared.values[slot].bytes + Values::offset(i * PAGE, c), values, kv_head * D + c, blocks[i] * PAGE,
                   full);
    }
  }
  template <class Shared> __device__ __forceinline__ void copy_tiles(Shared& shared) const {
    constexpr int STAGES = sizeof shared.keys / sizeof shared.keys[0], UNITS = D / 8;
    if (lane_id() == 0) begin_copies(shared);
    if (tile.p1 % PAGE == 0) return;
    const int last = n_tiles() - 1, slot = last % STAGES;
    const int end = (int)(tile.p1 - begin(last)), page_end = (end + PAGE - 1) / PAGE * PAGE;
    __syncwarp();   // the barrier's phase has been given its copies
    mbarrier_wait(&shared.values_landed, 0);
    for (int index = lane_id(); index < (page_end - end) * UNITS; index += 32)
      *reinterpret_cast<uint4*>(shared.values[slot].bytes + Values::offset(end + index / UNITS, index % UNITS * 8)) =
          make_uint4(0, 0, 0, 0);
    async_proxy_fence();
    __syncwarp();   // the rows behind the last position are zero
    if (lane_id() == 0) mbarrier_arrive(&shared.values_full[slot]);
  }

  __device__ __forceinline__ void write(const float (&acc)[D / 2], const RowSoftmax& softmax,
                                        SwizzledTile<D, QUERIES>& stage, int first, float scale_log2) const {
    if (tile.slot == NONE) {
      write16(acc, stage, first, len(), [&](int m) { return this->result(m); });
      return;
    }
    const int lane = lane_id(), t2 = (lane & 3) * 2;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int m = first + 8 * h + (lane >> 2);
      if (m >= len()) continue;
      const u64 part = this->part(m);
      if (t2 == 0) partials.lse[part] = softmax.lse(h, scale_log2);
#pragma unroll
      for (int j = 0; j < D / 8; ++j)
        *reinterpret_cast<float2*>(partials.out + part * D + 8 * j + t2) =
            make_float2(acc[4 * j + 2 * h], acc[4 * j + 2 * h + 1]);
    }
  }
};

}  // namespace attention

// Parameters: out (N, H D) | partial_out (slots, H, D) | partial_lse (slots, H) | qkv (N, (H + 2K) D) | maps of keys
// (blocks K D, 32), boxes of D rows and 32 columns, and of values (blocks 32, K D), boxes of 32 rows and 64 columns |
// tables as CachedTables has them
#define ATTENTION_FLASH_CACHED_SM90A(D, BN, STAGES)                                                                   \
  extern "C" __global__ void __launch_bounds__(384, 1) attention_flash_cached_sm90a_bf16_##D(                         \
      bf16* __restrict__ out, float* partial_out, float* partial_lse, const bf16* __restrict__ qkv,                   \
      const __grid_constant__ TensorMap keys, const __grid_constant__ TensorMap values, const u32* count,             \
      const attention::SpanTile* tiles, const u32* rows, const u32* pages, const u32* n_seen,                         \
      ATTENTION_HEADS_PARAMETERS) {                                                                                   \
    using Shared = attention::ForwardShared<attention::PagedKeys<D, BN>, D, BN, STAGES>;                              \
    DYN_SHARED(Shared, shared);                                                                                       \
    const u32 index = blockIdx.x / n_kv_heads;                                                                        \
    if (index >= *count) return;                                                                                      \
    const attention::PagedForward<D, BN> problem{                                                                     \
        ATTENTION_FLASH_CACHED_PLACES(D, index, blockIdx.x % n_kv_heads), &keys, &values};                            \
    attention::forward_tile(problem, *shared);                                                                        \
  }                                                                                                                   \
  EXPORT_KERNEL(attention_flash_cached_sm90a_bf16_##D)

ATTENTION_FLASH_CACHED_SM90A(64, 128, 4)
ATTENTION_FLASH_CACHED_SM90A(128, 128, 2)
