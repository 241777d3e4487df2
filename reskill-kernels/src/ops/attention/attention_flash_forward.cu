// Attention over a packed batch, forward, bf16 on tensor cores, head sizes 64 and 128.
//
// Formula   as in attention_forward.cu; scores and sums in f32, weights rounded to bf16 for the product with the
//           values.
// Shapes    qkv (N, (H + 2K) D) bf16 | out (N, H D) bf16 | lse (N, H) f32
// Bytes     qkv and out once, lse once; keys and values again for each tile of 128 query rows, from L2.
// Flops     4 D for each visible pair of a row and head and a key: at 4,096 causal rows compute-bound.
// Launch    grid (tiles * K), tile = block / K, kv head = block % K; tiles sorted, longest first; block (128);
//           2 (128 (D + 8) + 2 BN (D + 8)) bytes of dynamic shared memory; BN keys a tile: 64, or 48 at D = 128
//           (registers).
// Numerics  f32 sums, weights by ex2.approx and rounded, relative 2^-9; bound against f64: simt/tests/attention.rs.
// Source    Dao 2023, arXiv:2307.08691, algorithm 1.
#include "attention_flash.cuh"

namespace attention {

template <int D, int BN> struct FlashPacked {
  static constexpr int KEY_ELEMENTS = BN * (D + 8);
  bf16* out;
  float* lse;
  const bf16* qkv;
  const RowView* views;
  QueryTile tile;
  PackedPlaces at;

  __device__ __forceinline__ const bf16* query(int m) const { return qkv + at.query(tile.first + m); }
  __device__ __forceinline__ int n_prefix_tiles() const { return (int)((tile.a1 - tile.a0 + BN - 1) / BN); }
  __device__ __forceinline__ int n_tiles() const { return n_prefix_tiles() + (int)((tile.b1 - tile.b0 + BN - 1) / BN); }
  __device__ __forceinline__ bool is_prefix(int t) const { return t < n_prefix_tiles(); }
  __device__ __forceinline__ u32 begin(int t) const {
    return is_prefix(t) ? tile.a0 + t * BN : tile.b0 + (t - n_prefix_tiles()) * BN;
  }
  __device__ __forceinline__ u32 last(int t) const { return (is_prefix(t) ? tile.a1 : tile.b1) - 1; }
  // Behind the end of a run its last key is loaded again; it is masked there.
  __device__ __forceinline__ void load_keys(bf16* to, int t) const {
    const u32 first = begin(t), end = last(t);
    stream_rows<D, BN, FLASH_THREADS>(to, threadIdx.x, [&](int i) { return qkv + at.key(min(first + i, end)); });
  }
  __device__ __forceinline__ void load_values(bf16* to, int t) const {
    const u32 first = begin(t), end = last(t);
    stream_rows<D, BN, FLASH_THREADS>(to, threadIdx.x, [&](int i) { return qkv + at.value(min(first + i, end)); });
  }
  __device__ __forceinline__ void scores(float (&sums)[2][BN / 8][4], const bf16* q, int first,
                                         const bf16* keys) const {
    multiply_trans<D, 2, BN / 8>(sums, q, first, keys);
  }
  __device__ __forceinline__ bool is_full(int t) const {
    return begin(t) + BN <= (is_prefix(t) ? tile.a_full : tile.b_full);
  }
  __device__ __forceinline__ ColumnRange range(int m, int t) const {
    const RowView& view = views[at.row(tile.first + m)];
    return is_prefix(t) ? columns(view.prefix_start, view.prefix_end, tile.a1, begin(t))
                        : columns(view.own_start, view.row + 1, tile.b1, begin(t));
  }
  __device__ __forceinline__ void write(const float (&acc)[2][D / 8][4], const Softmax<2>& softmax, bf16* stage,
                                        int first, float scale_log2) const {
    const int lane = lane_id(), g = lane >> 2;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int m = first + i * 16 + half * 8 + g;
        if ((lane & 3) == 0 && m < (int)tile.len)
          lse[at.statistic(tile.first + m)] = softmax.lse(i, half, scale_log2);
      }
    write_rows<D>(acc, stage, first, (int)tile.len, [&](int m) { return out + at.out(tile.first + m); });
  }
};

}  // namespace attention

#define ATTENTION_FLASH_FORWARD(D, BN)                                                                               \
  extern "C" __global__ void __launch_bounds__(128) attention_flash_forward_bf16_##D(                                \
      bf16* __restrict__ out, float* __restrict__ lse, const bf16* __restrict__ qkv,                                 \
      const attention::RowView* views, const attention::QueryTile* tiles, ATTENTION_HEADS_PARAMETERS) {                \
    DYN_SHARED(bf16, shared);                                                                                        \
    const int kv_head = blockIdx.x % n_kv_heads;                                                               \
    const attention::QueryTile tile = tiles[blockIdx.x / n_kv_heads];                                          \
    const attention::FlashPacked<D, BN> problem{out, lse, qkv, views, tile, {ATTENTION_HEADS_OF(D), kv_head}};         \
    attention::flash_forward<D, BN>(problem, (int)tile.len, scale, shared);                                    \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_flash_forward_bf16_##D)

ATTENTION_FLASH_FORWARD(64, 64)
ATTENTION_FLASH_FORWARD(128, 48)
