// Gradients of the queries of attention over a packed batch, bf16 by warpgroup products and tensor copies (compute
// capability 9.0 only), head sizes 64 and 128.
//
// Formula   as in attention_backward.cu, which also has delta
// Shapes    qkv, d_qkv (N, (H + 2K) D) bf16 | d_out (N, H D) bf16 | lse, delta (N, H) f32
// Bytes     queries, d_out, lse and delta read and d_q written once; keys and values again for each tile of 128 query rows,
//           from L2.
// Flops     6 D for each visible pair (3 products).
// Launch    grid (tiles * K), tile = block / K, kv head = block % K; tiles sorted, longest first; block (384): a thread
//           of the first warpgroup copies tiles of BN keys and values, two warpgroups compute 64 query rows each;
//           dynamic shared memory QueryShared.
// Numerics  f32 sums; weights by ex2.approx, d_s rounded to bf16 for its product; bound against f64:
//           simt/tests/attention_backward.rs. Copies take whole tiles: keys behind the end of a run have weight 0, but
//           they and their values must be numbers.
// Source    Dao 2023, arXiv:2307.08691, algorithm 2; Shah et al. 2024, arXiv:2407.08608, section 3.2: the products of a
//           tile run while the weights of the next are computed.
#include "attention_warpgroup.cuh"

namespace attention {

template <int D, int BN, int STAGES> struct __align__(1024) QueryShared {
  SwizzledTile<D, QUERIES> q, d_out;
  SwizzledTile<D, BN> keys[STAGES], values[STAGES];
  u64 full[STAGES], empty[STAGES];
};

// The copying thread.
template <int D, int BN, int STAGES>
__device__ __forceinline__ void copy_tiles(QueryShared<D, BN, STAGES>& shared, const KeyTiles<BN>& tiles,
                                           const TensorMap* map, const PackedPlaces& at) {
  const int column = (int)at.key(0), value_column = (int)at.value(0);
  for (int t = 0; t < tiles.n; ++t) {
    const int slot = t % STAGES;
    mbarrier_wait(&shared.empty[slot], t / STAGES % 2 ^ 1);   // parity 1 of a fresh barrier: slots begin empty
    mbarrier_arrive_expect(&shared.full[slot], 2 * sizeof shared.keys[slot]);
    shared.keys[slot].load(map, tiles.begin(t), column, &shared.full[slot]);
    shared.values[slot].load(map, tiles.begin(t), value_column, &shared.full[slot]);
  }
}

// Two rows of a thread: what they see, and their statistics.
struct QueryRows {
  RowView view[2];
  float lse[2], delta[2];   // lse in units of log2
  __device__ __forceinline__ QueryRows(const Saved<bf16>& saved, u32 first, int row, int len) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const u32 flat = first + min(row + 8 * h, len - 1);
      const u64 at = saved.at.statistic(flat);
      view[h] = saved.views[saved.at.row(flat)];
      lse[h] = saved.lse[at] * LOG2_E, delta[h] = saved.delta[at];
    }
  }
  // Scores become weights exp(scale s - lse), or 0 for keys that a row does not see.
  template <int N>
  __device__ __forceinline__ void weigh(float (&s)[N], float scale_log2, const KeyTiles<2 * N>& tiles, int t) const {
#pragma unroll
    for (int i = 0; i < N; ++i) s[i] = fast_exp2(fmaf(s[i], scale_log2, -lse[i / 2 % 2]));
    if (tiles.is_full(t)) return;
    const int t2 = (lane_id() & 3) * 2;
    const ColumnRange seen[2] = {tiles.range(view[0], t), tiles.range(view[1], t)};
#pragma unroll
    for (int i = 0; i < N; ++i)
      if (!seen[i / 2 % 2].contains(i / 4 * 8 + t2 + i % 2)) s[i] = 0.f;
  }
  // d_p becomes d_s = p (d_p - delta).
  template <int N> __device__ __forceinline__ void weigh_gradient(float (&d_p)[N], const float (&p)[N]) const {
#pragma unroll
    for (int i = 0; i < N; ++i) d_p[i] = p[i] * (d_p[i] - delta[i / 2 % 2]);
  }
};

// A computing warpgroup: the query rows 64 `part` .. of the tile.
template <int D, int BN, int STAGES>
__device__ __forceinline__ void compute_rows(bf16* d_qkv, QueryShared<D, BN, STAGES>& shared, const Saved<bf16>& saved,
                                             const KeyTiles<BN>& tiles, int part) {
  const int len = (int)tiles.tile.len, first = part * 64 + (warp_id() & 3) * 16;
  const float scale_log2 = saved.at.heads.scale * LOG2_E;
  const QueryRows rows(saved, tiles.tile.first, first + (lane_id() >> 2), len);
  float acc[D / 2], p[BN / 2], d_s[BN / 2];
  u32 left[BN / 16][4];
  clear(acc);
  cp_async_wait<0>();
  async_proxy_fence();
  warpgroup_barrier(part);   // the queries and d_out of this warpgroup are there
  const u64 q = shared.q.by_rows(part * 64), d_out = shared.d_out.by_rows(part * 64);
  mbarrier_wait(&shared.full[0], 0);
  wgmma_fence();
  begin_trans<D, QUERIES, BN>(p, q, shared.keys[0].by_rows(0));
  wgmma_commit();
  begin_trans<D, QUERIES, BN>(d_s, d_out, shared.values[0].by_rows(0));
  wgmma_commit();
  wgmma_wait<1>();
  wgmma_results(p);
  rows.weigh(p, scale_log2, tiles, 0);
  wgmma_wait<0>();
  wgmma_results(d_s);
  rows.weigh_gradient(d_s, p);
  round_left(left, d_s);
  for (int t = 1; t < tiles.n; ++t) {
    const int slot = t % STAGES, before = (t - 1) % STAGES;
    mbarrier_wait(&shared.full[slot], t / STAGES % 2);
    wgmma_fence();
    begin_trans<D, QUERIES, BN>(p, q, shared.keys[slot].by_rows(0));
    wgmma_commit();
    begin_trans<D, QUERIES, BN>(d_s, d_out, shared.values[slot].by_rows(0));
    wgmma_commit();
    begin_accumulate<D, BN>(acc, left, shared.keys[before].by_columns());
    wgmma_commit();
    wgmma_wait<2>();
    wgmma_results(p);
    rows.weigh(p, scale_log2, tiles, t);
    wgmma_wait<1>();
    wgmma_results(d_s);
    rows.weigh_gradient(d_s, p);
    wgmma_wait<0>();
    wgmma_results(acc);
    release(&shared.empty[before]);
    round_left(left, d_s);
  }
  wgmma_fence();
  begin_accumulate<D, BN>(acc, left, shared.keys[(tiles.n - 1) % STAGES].by_columns());
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(acc);
#pragma unroll
  for (int i = 0; i < D / 2; ++i) acc[i] *= saved.at.heads.scale;
  warpgroup_barrier(part);   // the queries of this warpgroup have been read
  write16(acc, shared.q, first, len, [&](int m) { return d_qkv + saved.at.query(tiles.tile.first + m); });
}

template <int D, int BN, int STAGES>
__device__ __forceinline__ void backward_query_tile(bf16* d_qkv, QueryShared<D, BN, STAGES>& shared,
                                                    const Saved<bf16>& saved, const QueryTile& tile,
                                                    const TensorMap* map) {
  const KeyTiles<BN> tiles(tile);
  const int len = (int)tile.len, part = (int)(threadIdx.x / WARPGROUP) - 1;
  const int n_parts = len > 64 ? 2 : 1;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) {
      mbarrier_init(&shared.full[i], 1);              // the copying thread
      mbarrier_init(&shared.empty[i], 4 * n_parts);   // a lane of each computing warp
    }
    mbarrier_init_fence();
  }
  if (part >= 0 && part < n_parts) {
    const int first = part * 64 + (warp_id() & 3) * 16;
    shared.q.copy16(first, [&](int m) { return saved.qkv + saved.at.query(tile.first + min(m, len - 1)); });
    shared.d_out.copy16(first, [&](int m) { return saved.d_out + saved.at.out(tile.first + min(m, len - 1)); });
  }
  cp_async_commit();
  __syncthreads();   // the barriers are there
  if (part < 0) {
    registers_decrease<24>();
    cp_async_wait<0>();
    if (threadIdx.x == 0) copy_tiles<D, BN, STAGES>(shared, tiles, map, saved.at);
  } else if (part < n_parts) {
    registers_increase<240>();
    compute_rows<D, BN, STAGES>(d_qkv, shared, saved, tiles, part);
  }
}

}  // namespace attention

// Parameters: d_qkv (N, (H + 2K) D) | d_out (N, H D) | lse, delta (N, H) | qkv (N, (H + 2K) D) and its map, boxes of BN
// rows | views (N) | tiles
#define ATTENTION_BACKWARD_QUERY(D, BN, STAGES)                                                                         \
  extern "C" __global__ void __launch_bounds__(384, 1) attention_flash_backward_query_sm90a_bf16_##D(                  \
      bf16* __restrict__ d_qkv, const bf16* __restrict__ d_out, const float* __restrict__ lse,                         \
      const float* __restrict__ delta, const bf16* __restrict__ qkv, const __grid_constant__ TensorMap map,            \
      const attention::RowView* views, const attention::QueryTile* tiles, ATTENTION_HEADS_PARAMETERS) {                 \
    using Shared = attention::QueryShared<D, BN, STAGES>;                                                              \
    DYN_SHARED(Shared, shared);                                                                                        \
    const int kv_head = blockIdx.x % n_kv_heads;                                                                       \
    const attention::Saved<bf16> saved{d_out, lse, delta, qkv, views, {ATTENTION_HEADS_OF(D), kv_head}};               \
    attention::backward_query_tile<D, BN, STAGES>(d_qkv, *shared, saved, tiles[blockIdx.x / n_kv_heads], &map);        \
  }                                                                                                                    \
  EXPORT_KERNEL(attention_flash_backward_query_sm90a_bf16_##D)

ATTENTION_BACKWARD_QUERY(64, 128, 4)
ATTENTION_BACKWARD_QUERY(128, 64, 4)
