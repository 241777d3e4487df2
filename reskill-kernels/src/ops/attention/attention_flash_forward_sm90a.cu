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
// Source    Shah et al. 2024, arXiv:2407.08608, algorithms 1 and 2: the sum over a tile runs while the weights of the
//           next are computed. The turns that warpgroups take there (section 3.1) gained nothing and are left out.
#include "attention_warpgroup.cuh"

namespace attention {

template <int D, int BN, int STAGES> struct __align__(1024) ForwardShared {
  SwizzledTile<D, QUERIES> q;
  SwizzledTile<D, BN> keys[STAGES], values[STAGES];
  u64 keys_full[STAGES], keys_empty[STAGES], values_full[STAGES], values_empty[STAGES];
};

// Online softmax of a thread's two rows; totals are of this thread's columns until `finish`.
struct RowSoftmax {
  float top[2], total[2], shrink[2];
  __device__ __forceinline__ void start() {
#pragma unroll
    for (int h = 0; h < 2; ++h) top[h] = minus_infinity(), total[h] = 0.f;
  }
  // Turns scores into weights exp(scale (score - top)); what was summed before is to be multiplied by `shrink`.
  template <int N> __device__ __forceinline__ void update(float (&s)[N], float scale_log2) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float best = top[h];
#pragma unroll
      for (int j = 0; j < N / 4; ++j) best = fmaxf(best, fmaxf(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]));
      best = lanes_max<4>(best);
      const float base = best == minus_infinity() ? 0.f : best * scale_log2;   // no key seen yet: weights 0
      shrink[h] = fast_exp2(fmaf(top[h], scale_log2, -base));
      float sum = 0.f;
#pragma unroll
      for (int j = 0; j < N / 4; ++j)
#pragma unroll
        for (int e = 4 * j + 2 * h; e < 4 * j + 2 * h + 2; ++e) {
          s[e] = fast_exp2(fmaf(s[e], scale_log2, -base));
          sum += s[e];
        }
      total[h] = fmaf(total[h], shrink[h], sum);
      top[h] = best;
    }
  }
  template <int N> __device__ __forceinline__ void rescale(float (&acc)[N], const float (&factor)[2]) const {
#pragma unroll
    for (int j = 0; j < N / 4; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[4 * j + e] *= factor[e / 2];
  }
  // Divides the sums by the totals; a row without keys gets 0. Totals are those of whole rows afterwards.
  template <int N> __device__ __forceinline__ void finish(float (&acc)[N]) {
    float inverse[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      total[h] = lanes_sum<4>(total[h]);
      inverse[h] = total[h] == 0.f ? 0.f : 1.f / total[h];
    }
    rescale(acc, inverse);
  }
  __device__ __forceinline__ float lse(int h, float scale_log2) const {
    return total[h] == 0.f ? minus_infinity() : (top[h] * scale_log2 + log2f(total[h])) * LN_2;
  }
};

// Scores of keys that a row does not see become -infinity.
template <int N>
__device__ __forceinline__ void hide(float (&s)[N], const ColumnRange (&seen)[2]) {
  const int t2 = (lane_id() & 3) * 2;
#pragma unroll
  for (int j = 0; j < N / 4; ++j)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (!seen[e / 2].contains(8 * j + t2 + (e & 1))) s[4 * j + e] = minus_infinity();
}

// The copying thread.
template <int D, int BN, int STAGES>
__device__ __forceinline__ void copy_tiles(ForwardShared<D, BN, STAGES>& shared, const KeyTiles<BN>& tiles,
                                           const TensorMap* map, const PackedPlaces& at) {
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

// What a computing warpgroup writes.
struct ForwardOut {
  bf16* out;
  float* lse;
};

// A computing warpgroup: the query rows 64 `part` .. of the tile.
template <int D, int BN, int STAGES>
__device__ __forceinline__ void compute_rows(const ForwardOut& to, ForwardShared<D, BN, STAGES>& shared,
                                             const KeyTiles<BN>& tiles, const RowView* views, const PackedPlaces& at,
                                             int part) {
  const int len = (int)tiles.tile.len, first = part * 64 + (warp_id() & 3) * 16, row = first + (lane_id() >> 2);
  const float scale_log2 = at.heads.scale * LOG2_E;
  RowView view[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) view[h] = views[at.row(tiles.tile.first + min(row + 8 * h, len - 1))];
  auto hide_unseen = [&](float (&s)[BN / 2], int t) {
    if (tiles.is_full(t)) return;
    const ColumnRange seen[2] = {tiles.range(view[0], t), tiles.range(view[1], t)};
    hide(s, seen);
  };
  float acc[D / 2], s[BN / 2];
  u32 weights[BN / 16][4];
  RowSoftmax softmax;
  clear(acc);
  softmax.start();

  cp_async_wait<0>();
  async_proxy_fence();
  warpgroup_barrier(part);   // the queries of this warpgroup are there
  const u64 q = shared.q.by_rows(part * 64);
  mbarrier_wait(&shared.keys_full[0], 0);
  wgmma_fence();
  begin_trans<D, QUERIES, BN>(s, q, shared.keys[0].by_rows(0));
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(s);
  release(&shared.keys_empty[0]);
  hide_unseen(s, 0);
  softmax.update(s, scale_log2);
  round_left(weights, s);
  for (int t = 1; t < tiles.n; ++t) {
    const int slot = t % STAGES, before = (t - 1) % STAGES;
    mbarrier_wait(&shared.keys_full[slot], t / STAGES % 2);
    mbarrier_wait(&shared.values_full[before], (t - 1) / STAGES % 2);
    wgmma_fence();
    begin_trans<D, QUERIES, BN>(s, q, shared.keys[slot].by_rows(0));
    wgmma_commit();
    begin_accumulate<D, BN>(acc, weights, shared.values[before].by_columns());
    wgmma_commit();
    wgmma_wait<1>();
    wgmma_results(s);
    release(&shared.keys_empty[slot]);
    hide_unseen(s, t);
    softmax.update(s, scale_log2);
    wgmma_wait<0>();
    wgmma_results(acc);
    release(&shared.values_empty[before]);
    softmax.rescale(acc, softmax.shrink);
    round_left(weights, s);
  }
  const int last = tiles.n - 1;
  mbarrier_wait(&shared.values_full[last % STAGES], last / STAGES % 2);
  wgmma_fence();
  begin_accumulate<D, BN>(acc, weights, shared.values[last % STAGES].by_columns());
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(acc);
  softmax.finish(acc);
#pragma unroll
  for (int h = 0; h < 2; ++h)
    if ((lane_id() & 3) == 0 && row + 8 * h < len)
      to.lse[at.statistic(tiles.tile.first + row + 8 * h)] = softmax.lse(h, scale_log2);
  warpgroup_barrier(part);   // the queries of this warpgroup have been read
  write16(acc, shared.q, first, len, [&](int m) { return to.out + at.out(tiles.tile.first + m); });
}

template <int D, int BN, int STAGES>
__device__ __forceinline__ void forward_tile(const ForwardOut& to, ForwardShared<D, BN, STAGES>& shared,
                                             const QueryTile& tile, const bf16* qkv, const TensorMap* map,
                                             const RowView* views, const PackedPlaces& at) {
  const KeyTiles<BN> tiles(tile);
  const int len = (int)tile.len, part = (int)(threadIdx.x / WARPGROUP) - 1;
  const int n_parts = len > 64 ? 2 : 1;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) {
      mbarrier_init(&shared.keys_full[i], 1);               // the copying thread
      mbarrier_init(&shared.values_full[i], 1);
      mbarrier_init(&shared.keys_empty[i], 4 * n_parts);    // a lane of each computing warp
      mbarrier_init(&shared.values_empty[i], 4 * n_parts);
    }
    mbarrier_init_fence();
  }
  if (part >= 0 && part < n_parts)
    shared.q.copy16(part * 64 + (warp_id() & 3) * 16,
                    [&](int m) { return qkv + at.query(tile.first + min(m, len - 1)); });
  cp_async_commit();
  __syncthreads();   // the barriers are there
  if (part < 0) {
    registers_decrease<24>();
    cp_async_wait<0>();
    if (threadIdx.x == 0) copy_tiles<D, BN, STAGES>(shared, tiles, map, at);
  } else if (part < n_parts) {
    registers_increase<240>();
    compute_rows<D, BN, STAGES>(to, shared, tiles, views, at, part);
  }
}

}  // namespace attention

// Parameters: out (N, H D) | lse (N, H) | qkv (N, (H + 2K) D) and its map, boxes of BN rows | views (N) | tiles
#define ATTENTION_FLASH_FORWARD(D, BN, STAGES)                                                                         \
  extern "C" __global__ void __launch_bounds__(384, 1) attention_flash_forward_sm90a_bf16_##D(                         \
      bf16* __restrict__ out, float* __restrict__ lse, const bf16* __restrict__ qkv,                                   \
      const __grid_constant__ TensorMap map, const attention::RowView* views, const attention::QueryTile* tiles,       \
      ATTENTION_HEADS_PARAMETERS) {                                                                                    \
    using Shared = attention::ForwardShared<D, BN, STAGES>;                                                            \
    DYN_SHARED(Shared, shared);                                                                                        \
    const attention::PackedPlaces at{ATTENTION_HEADS_OF(D), (int)(blockIdx.x % n_kv_heads)};                           \
    attention::forward_tile<D, BN, STAGES>({out, lse}, *shared, tiles[blockIdx.x / n_kv_heads], qkv, &map, views, at); \
  }                                                                                                                    \
  EXPORT_KERNEL(attention_flash_forward_sm90a_bf16_##D)

ATTENTION_FLASH_FORWARD(64, 128, 4)
ATTENTION_FLASH_FORWARD(128, 128, 2)
