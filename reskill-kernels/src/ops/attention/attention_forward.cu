// Attention over a packed batch, forward, f32 arithmetic, any head size up to 256.
//
// Formula   out[i, h] = sum_j p_ij v_j,  p_ij = exp(scale q_i . k_j - lse[i, h]),  lse = log sum_j exp(scale q_i .
//           k_j), over the keys j that row i sees (RowView); softmax online, a tile of keys at a time.
// Shapes    qkv (N, (H + 2K) D) | out (N, H D) of the same type | lse (N, H) f32
// Bytes     qkv and out once, lse once; keys and values are read again by each tile of 16 R query rows (from L2).
// Flops     4 D for each pair of a row and head and a key that it sees.
// Launch    grid (tiles * K), tile = block / K, kv head = block % K; block (256); 4 (2 * 16R (D + 1) + 16R (16R + 1))
//           bytes.
// Numerics  f32; bound against f64 in tests: simt/tests/attention.rs.
// Source    online softmax: Milakov & Gimelshein 2018, arXiv:1805.02867; tiles: Dao 2023, arXiv:2307.08691.
#include "attention_plain.cuh"

namespace attention {

template <class T> struct PackedForward {
  using View = RowView;
  static constexpr int RUNS = 2;
  const T* qkv;
  const RowView* views;
  QueryTile tile;
  PackedPlaces at;
  T* out;
  float* lse;

  __device__ __forceinline__ float query(int m, int c) const { return to_f32(qkv[at.query(tile.first + m) + c]); }
  __device__ __forceinline__ float key(u32 j, int c) const { return to_f32(qkv[at.key(j) + c]); }
  __device__ __forceinline__ float value(u32 j, int c) const { return to_f32(qkv[at.value(j) + c]); }
  __device__ __forceinline__ View view(int m) const { return views[at.row(tile.first + m)]; }
  __device__ __forceinline__ bool visible(const View& view, int run, u32 j) const {
    return run == 0 ? view.in_prefix(j) : view.in_own(j);
  }
  __device__ __forceinline__ u32 begin(int run) const { return run == 0 ? tile.a0 : tile.b0; }
  __device__ __forceinline__ u32 end(int run) const { return run == 0 ? tile.a1 : tile.b1; }
  __device__ __forceinline__ void store(int m, int c, float x) const {
    out[at.out(tile.first + m) + c] = from_f32<T>(x);
  }
  __device__ __forceinline__ void store_lse(int m, float x) const { lse[at.statistic(tile.first + m)] = x; }
};

template <class T, int R, int CHUNKS>
__device__ __forceinline__ void packed_forward(T* out, float* lse, const T* qkv, const RowView* views,
                                               const QueryTile* tiles, Heads heads) {
  DYN_SHARED(float, shared);
  const int kv_head = blockIdx.x % heads.n_kv_heads;
  const QueryTile tile = tiles[blockIdx.x / heads.n_kv_heads];
  const PackedForward<T> problem{qkv, views, tile, {heads, kv_head}, out, lse};
  plain_forward<R, CHUNKS>(problem, (int)tile.len, heads.head_dim, heads.scale, shared);
}

}  // namespace attention

// R rows of 16, CHUNKS of 16 elements of a head: head sizes up to 16 CHUNKS.
#define ATTENTION_FORWARD(NAME, T, R, CHUNKS)                                                                        \
  extern "C" __global__ void __launch_bounds__(256, 2)                                                                 \
      NAME(T* __restrict__ out, float* __restrict__ lse, const T* __restrict__ qkv, const attention::RowView* views, \
           const attention::QueryTile* tiles, ATTENTION_HEADS_PARAMETERS) {                                            \
    attention::packed_forward<T, R, CHUNKS>(out, lse, qkv, views, tiles, ATTENTION_HEADS);                             \
  }                                                                                                                  \
  EXPORT_KERNEL(NAME)

ATTENTION_FORWARD(attention_forward_f32_64, float, 2, 4)
ATTENTION_FORWARD(attention_forward_f32_128, float, 2, 8)
ATTENTION_FORWARD(attention_forward_f32_256, float, 1, 16)
ATTENTION_FORWARD(attention_forward_bf16_64, bf16, 2, 4)
ATTENTION_FORWARD(attention_forward_bf16_128, bf16, 2, 8)
ATTENTION_FORWARD(attention_forward_bf16_256, bf16, 1, 16)
