// Attention over a packed batch, forward, bf16 by warpgroup products and tensor copies (compute capability 9.0 only), head
// sizes 64 and 128.
//
// Formula   as in attention_forward.cu; scores and sums in f32, weights rounded to bf16 for the product with the
//           values.
// Shapes    qkv (N, (H + 2K) D) bf16 | out (N, H D) bf16 | lse (N, H) f32
// Bytes     qkv and out once, lse once; keys and values again for each tile of 128 query rows, from L2: 128 FLOP a byte.
// Flops     4 D for each visible pair of a row and head and a key: at 4,096 causal rows compute-bound.
// Launch    grid (tiles * K), tile = block / K, kv head = block % K; tiles sorted, longest first; block (384): a thread
//           of the first warpgroup copies tiles of BN keys and values, two warpgroups compute 64 query rows each;
//           dynamic shared memory ForwardShared.
// Numerics  f32 sums, weights by ex2.approx and rounded, relative 2^-9; bound against f64: simt/tests/attention.rs.
//           Copies take whole tiles: keys behind the end of a run have weight 0, but their values must be numbers.
// Source    as attention_warpgroup_forward.cuh.
#include "attention_warpgroup_forward.cuh"

namespace attention {

template <int D, int BN> struct PackedForward {
  using View = RowView;
  bf16* out;
  float* lse;
  const bf16* qkv;
  const TensorMap* map;
  const RowView* views;
  PackedPlaces at;
  KeyTiles<BN> tiles;

  __device__ __forceinline__ float scale() const { return at.heads.scale; }
  __device__ __forceinline__ int len() const { return (int)tiles.tile.len; }
  __device__ __forceinline__ int n_tiles() const { return tiles.n; }
  __device__ __forceinline__ const bf16* query(int m) const { return qkv + at.query(tiles.tile.first + m); }
  __device__ __forceinline__ bool is_full(int t) const { return tiles.is_full(t); }
  __device__ __forceinline__ RowView view(int m) const { return views[at.row(tiles.tile.first + m)]; }
  __device__ __forceinline__ ColumnRange range(const RowView& view, int t) const { return tiles.range(view, t); }
  __device__ __forceinline__ void begin_scores(float (&s)[BN / 2], u64 q, const SwizzledTile<D, BN>& keys) const {
    begin_trans<D, QUERIES, BN>(s, q, keys.by_rows(0));
  }
  template <class Shared> __device__ __forceinline__ void copy_tiles(Shared& shared) const {
    constexpr int STAGES = sizeof shared.keys / sizeof shared.keys[0];
    if (lane_id() != 0) return;
    const int column = (int)at.key(0), value_column = (int)at.value(0);
    for (int t = 0; t < tiles.n; ++t) {
      const int slot = t % STAGES, parity = t / STAGES % 2 ^ 1;   // parity 1 of a fresh barrier: slots begin empty
      const u32 first = tiles.begin(t);
      mbarrier_wait(&shared.keys_empty[slot], parity);
      mbarrier_arrive_expect(&shared.keys_full[slot], sizeof shared.keys[slot]);
      shared.keys[slot].load(map, first, column, &shared.keys_full[slot]);
      mbarrier_wait(&shared.values_empty[slot], parity);
      mbarrier_arrive_expect(&shared.values_full[slot], sizeof shared.values[slot]);
      shared.values[slot].load(map, first, value_column, &shared.values_full[slot]);
    }
  }
  __device__ __forceinline__ void write(const float (&acc)[D / 2], const RowSoftmax& softmax,
                                        SwizzledTile<D, QUERIES>& stage, int first, float scale_log2) const {
    const u32 row = first + (lane_id() >> 2);
#pragma unroll
    for (int h = 0; h < 2; ++h)
      if ((lane_id() & 3) == 0 && row + 8 * h < tiles.tile.len)
        lse[at.statistic(tiles.tile.first + row + 8 * h)] = softmax.lse(h, scale_log2);
    write16(acc, stage, first, len(), [&](int m) { return out + at.out(tiles.tile.first + m); });
  }
};

}  // namespace attention

// Parameters: out (N, H D) | lse (N, H) | qkv (N, (H + 2K) D) and its map, boxes of BN rows | views (N) | tiles
#define ATTENTION_FLASH_FORWARD(D, BN, STAGES)                                                                         \
  extern "C" __global__ void __launch_bounds__(384, 1) attention_flash_forward_sm90a_bf16_##D(                         \
      bf16* __restrict__ out, float* __restrict__ lse, const bf16* __restrict__ qkv,                                   \
      const __grid_constant__ TensorMap map, const attention::RowView* views, const attention::QueryTile* tiles,       \
      ATTENTION_HEADS_PARAMETERS) {                                                                                    \
    using Keys = attention::SwizzledTile<D, BN>;                                                                       \
    using Shared = attention::ForwardShared<Keys, D, BN, STAGES>;                                                      \
    DYN_SHARED(Shared, shared);                                                                                        \
    const attention::PackedForward<D, BN> problem{                                                                     \
        out,   lse,                                                                                                    \
        qkv,   &map,                                                                                                   \
        views, {ATTENTION_HEADS_OF(D), (int)(blockIdx.x % n_kv_heads)},                                                \
        attention::KeyTiles<BN>(tiles[blockIdx.x / n_kv_heads])};                                                      \
    attention::forward_tile(problem, *shared);                                                                         \
  }                                                                                                                    \
  EXPORT_KERNEL(attention_flash_forward_sm90a_bf16_##D)

ATTENTION_FLASH_FORWARD(64, 128, 4)
ATTENTION_FLASH_FORWARD(128, 128, 2)
