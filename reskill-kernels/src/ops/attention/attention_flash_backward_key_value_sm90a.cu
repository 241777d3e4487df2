// Gradients of the keys and values of attention over a packed batch, bf16 by warpgroup products (compute capability 9.0
// only), head sizes 64 and 128.
//
// Formula   as in attention_backward.cu, which also has delta and the sum of slots
// Shapes    qkv, d_qkv (N, (H + 2K) D) bf16 | d_out (N, H D) bf16 | lse, delta (N, H) f32 | sums: slots of 2 x 128 rows a
//           key-value head, f32
// Bytes     keys and values read and their gradients written once; queries, d_out and their statistics again for each tile
//           of 128 keys, from L2.
// Flops     8 D for each visible pair (4 products).
// Launch    grid (key tiles * K), tile = block / K, kv head = block % K; tiles sorted, longest first; block (384): the
//           first warpgroup copies runs of BQ flat query rows, which need not be boxes of a matrix; two compute 64 keys
//           each. Scores are computed transposed, so that weights go from registers into the next product. Dynamic shared
//           memory KeyShared.
// Numerics  f32 sums; weights by ex2.approx, they and d_s rounded to bf16 for the products; bound against f64:
//           simt/tests/attention_backward.rs. No sum depends on the order of blocks.
// Source    Dao 2023, arXiv:2307.08691, algorithm 2; Shah et al. 2024, arXiv:2407.08608.
#include "attention_warpgroup.cuh"

namespace attention {

constexpr int KEYS = 128;   // of a block: 64 of each of two warpgroups

template <int D, int BQ, int STAGES> struct __align__(1024) KeyShared {
  SwizzledTile<D, KEYS> keys, values;
  SwizzledTile<D, BQ> q[STAGES], d_out[STAGES];
  RowView views[STAGES][BQ];
  float lse[STAGES][BQ], delta[STAGES][BQ];   // lse is infinity behind the end of a run: weights there are 0
  u64 full[STAGES], empty[STAGES], loaded;
  u32 all[STAGES];   // whether all rows of the run see all keys
  KeyTile tile;
};

// Query rows STEP (flat) apart: the elements between them in `qkv` and `d_out`, and what to add once more where a row of
// the batch ends before a step does. 32 bits: STEP rows of the batch at most.
template <int D, int STEP> struct RowSteps {
  int group, heads, q, d_out, q_end, d_out_end;
  __device__ __forceinline__ explicit RowSteps(const Heads& of)
      : group(of.group),
        heads(STEP % of.group),
        q(STEP / of.group * (int)of.width() + heads * D),
        d_out(STEP / of.group * (int)of.out_width() + heads * D),
        q_end((int)of.width() - group * D),
        d_out_end((int)of.out_width() - group * D) {}
};

// Copies a run of query rows by the 128 threads of a warpgroup, asynchronously; zeros behind its end.
template <int D, int BQ, int STAGES>
__device__ __forceinline__ void copy_run(KeyShared<D, BQ, STAGES>& shared, int slot, const Saved<bf16>& saved,
                                         const QueryRun& run, const RowSteps<D, WARPGROUP * 8 / D>& steps) {
  constexpr int STEP = WARPGROUP * 8 / D;   // 16 bytes a thread
  // Rows a step apart lie at the same place within their atoms of eight rows.
  static_assert(STEP % 8 == 0, "places are constants apart");
  const int thread = threadIdx.x % WARPGROUP, first = thread / (D / 8), column = thread % (D / 8) * 8;
  const int len = (int)run.len, place = SwizzledTile<D, BQ>::offset(first, column);
  const bf16* q = saved.qkv + saved.at.query(run.first + first) + column;
  const bf16* d_out = saved.d_out + saved.at.out(run.first + first) + column;
  int head = (int)((run.first + first) % saved.at.heads.group);
#pragma unroll
  for (int s = 0; s < BQ / STEP; ++s) {
    const u32 valid = first + s * STEP < len ? 16 : 0;
    cp_async16_zfill(shared.q[slot].bytes + place + s * STEP * 128, q, valid);
    cp_async16_zfill(shared.d_out[slot].bytes + place + s * STEP * 128, d_out, valid);
    head += steps.heads;
    const bool ends = head >= steps.group;
    head -= ends ? steps.group : 0;
    q += steps.q + (ends ? steps.q_end : 0);
    d_out += steps.d_out + (ends ? steps.d_out_end : 0);
  }
  if (thread < BQ) {
    const u32 flat = run.first + min(thread, len - 1);
    const u64 at = saved.at.statistic(flat);
    cp_async16(&shared.views[slot][thread], saved.views + saved.at.row(flat));
    cp_async4_zfill(&shared.delta[slot][thread], saved.delta + at, thread < len ? 4 : 0);
    if (thread < len) cp_async4_zfill(&shared.lse[slot][thread], saved.lse + at, 4);
    else shared.lse[slot][thread] = infinity();
  }
  if (thread == 0) shared.all[slot] = run.full;
  cp_async_commit();
}

// The copying warpgroup. What is copied is told of one run later, so that two are on their way.
template <int D, int BQ, int STAGES>
__device__ __forceinline__ void copy_runs(KeyShared<D, BQ, STAGES>& shared, const Saved<bf16>& saved,
                                          const QueryRun* runs, const TensorMap* map) {
  if (threadIdx.x == 0) {
    mbarrier_arrive_expect(&shared.loaded, 2 * sizeof shared.keys);
    shared.keys.load(map, shared.tile.first, (int)saved.at.key(0), &shared.loaded);
    shared.values.load(map, shared.tile.first, (int)saved.at.value(0), &shared.loaded);
  }
  const QueryRun* run = runs + shared.tile.begin;
  const int n = (int)(shared.tile.end - shared.tile.begin);
  const RowSteps<D, WARPGROUP * 8 / D> steps(saved.at.heads);
  QueryRun next = run[0];   // asked for before it is needed
  for (int i = 0; i < n; ++i) {
    const QueryRun now = next;
    if (i + 1 < n) next = run[i + 1];
    mbarrier_wait(&shared.empty[i % STAGES], i / STAGES % 2 ^ 1);   // parity 1 of a fresh barrier: slots begin empty
    copy_run(shared, i % STAGES, saved, now, steps);
    if (i == 0) continue;
    cp_async_wait<1>();
    async_proxy_fence();
    mbarrier_arrive(&shared.full[(i - 1) % STAGES]);
  }
  cp_async_wait<0>();
  async_proxy_fence();
  mbarrier_arrive(&shared.full[(n - 1) % STAGES]);
}

// Weights exp(scale s - lse) of the keys j and j + 8 and of BQ query rows, 0 where a row does not see the key.
template <int BQ>
__device__ __forceinline__ void weigh(float (&s)[BQ / 2], const float* lse, const RowView* views, bool all, u32 j,
                                      float scale_log2) {
  const int t2 = (lane_id() & 3) * 2;
#pragma unroll
  for (int n = 0; n < BQ / 8; ++n) {
    const float2 two = *reinterpret_cast<const float2*>(lse + n * 8 + t2);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      s[4 * n + e] = fast_exp2(fmaf(s[4 * n + e], scale_log2, (e & 1 ? two.y : two.x) * -LOG2_E));
  }
  if (all) return;
#pragma unroll
  for (int n = 0; n < BQ / 8; ++n)
#pragma unroll
    for (int column = 0; column < 2; ++column) {
      const RowView view = views[n * 8 + t2 + column];
#pragma unroll
      for (int h = 0; h < 2; ++h)
        if (!view.in_prefix(j + 8 * h) && !view.in_own(j + 8 * h)) s[4 * n + 2 * h + column] = 0.f;
    }
}

// d_p becomes d_s = p (d_p - delta).
template <int BQ>
__device__ __forceinline__ void weigh_gradient(float (&d_p)[BQ / 2], const float (&p)[BQ / 2], const float* delta) {
  const int t2 = (lane_id() & 3) * 2;
#pragma unroll
  for (int n = 0; n < BQ / 8; ++n) {
    const float2 two = *reinterpret_cast<const float2*>(delta + n * 8 + t2);
#pragma unroll
    for (int e = 0; e < 4; ++e)
      d_p[4 * n + e] = p[4 * n + e] * (d_p[4 * n + e] - (e & 1 ? two.y : two.x));
  }
}

// Writes the sums of a thread's two keys to a slot, rows of D.
template <int D>
__device__ __forceinline__ void write_sums(float* slot, const float (&acc)[D / 2], int row, int n_keys) {
  const int t2 = (lane_id() & 3) * 2;
#pragma unroll
  for (int h = 0; h < 2; ++h)
    if (row + 8 * h < n_keys)
#pragma unroll
      for (int n = 0; n < D / 8; ++n)
        *reinterpret_cast<float2*>(slot + (u64)(row + 8 * h) * D + n * 8 + t2) =
            make_float2(acc[4 * n + 2 * h], acc[4 * n + 2 * h + 1]);
}

// A computing warpgroup: the keys 64 `part` .. of the tile. Its record is read again where it is needed: the loop leaves
// no registers for it.
template <int D, int BQ, int STAGES>
__device__ __forceinline__ void compute_keys(bf16* d_qkv, float* sums, KeyShared<D, BQ, STAGES>& shared,
                                             const PackedPlaces& at, int part) {
  const float scale_log2 = at.heads.scale * LOG2_E;
  const int n = (int)(shared.tile.end - shared.tile.begin);
  const u32 j = shared.tile.first + part * 64 + (warp_id() & 3) * 16 + (lane_id() >> 2);
  float d_key[D / 2], d_value[D / 2], p[BQ / 2], d_s[BQ / 2];
  clear(d_key);
  clear(d_value);
  const u64 keys = shared.keys.by_rows(part * 64), values = shared.values.by_rows(part * 64);
  mbarrier_wait(&shared.loaded, 0);
  // d_s of the run before, whose product with its queries runs beside the scores of this one. Before the first run zeros.
  u32 left[BQ / 16][4] = {};
  for (int i = 0; i < n; ++i) {
    const int slot = i % STAGES, before = (i == 0 ? 0 : i - 1) % STAGES;
    mbarrier_wait(&shared.full[slot], i / STAGES % 2);
    wgmma_fence();
    begin_trans<D, KEYS, BQ>(p, keys, shared.q[slot].by_rows(0));
    begin_accumulate<D, BQ>(d_key, left, shared.q[before].by_columns());
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_results(p);
    wgmma_results(d_key);
    __syncwarp();   // this warp has read the statistics of the run before
    if (i > 0) release(&shared.empty[before]);   // early: the copies of a run to come wait for it
    weigh<BQ>(p, shared.lse[slot], shared.views[slot], shared.all[slot] != 0, j, scale_log2);
    round_left(left, p);
    wgmma_fence();
    begin_trans<D, KEYS, BQ>(d_s, values, shared.d_out[slot].by_rows(0));   // here, lest d_s takes registers before
    wgmma_commit();
    begin_accumulate<D, BQ>(d_value, left, shared.d_out[slot].by_columns());
    wgmma_commit();
    wgmma_wait<1>();
    wgmma_results(d_s);
    weigh_gradient<BQ>(d_s, p, shared.delta[slot]);
    wgmma_wait<0>();
    wgmma_results(d_value);
    round_left(left, d_s);   // registers are short: where the weights were
  }
  wgmma_fence();
  begin_accumulate<D, BQ>(d_key, left, shared.q[(n - 1) % STAGES].by_columns());
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(d_key);
#pragma unroll
  for (int i = 0; i < D / 2; ++i) d_key[i] *= at.heads.scale;
  const KeyTile tile = shared.tile;
  const int n_keys = (int)tile.len, first = part * 64 + (warp_id() & 3) * 16;
  if (tile.slot != NONE) {
    float* slot = sums + ((u64)tile.slot * at.heads.n_kv_heads + at.kv_head) * 2 * KEYS * D;
    write_sums<D>(slot, d_key, first + (lane_id() >> 2), n_keys);
    write_sums<D>(slot + KEYS * D, d_value, first + (lane_id() >> 2), n_keys);
    return;
  }
  warpgroup_barrier(part);   // the keys and values of this warpgroup have been read
  write16(d_key, shared.keys, first, n_keys, [&](int m) { return d_qkv + at.key(tile.first + m); });
  write16(d_value, shared.values, first, n_keys, [&](int m) { return d_qkv + at.value(tile.first + m); });
}

template <int D, int BQ, int STAGES>
__device__ __forceinline__ void backward_key_tile(bf16* d_qkv, float* sums, KeyShared<D, BQ, STAGES>& shared,
                                                  const Saved<bf16>& saved, const KeyTile& tile, const QueryRun* runs,
                                                  const TensorMap* map) {
  const int part = (int)(threadIdx.x / WARPGROUP) - 1, n_parts = tile.len > 64 ? 2 : 1;
  if (threadIdx.x == 0) {
    shared.tile = tile;
    mbarrier_init(&shared.loaded, 1);
    for (int i = 0; i < STAGES; ++i) {
      mbarrier_init(&shared.full[i], WARPGROUP);      // the copying threads
      mbarrier_init(&shared.empty[i], 4 * n_parts);   // a lane of each computing warp
    }
    mbarrier_init_fence();
  }
  __syncthreads();   // the barriers and the tile's record are there
  if (part < 0) {
    registers_decrease<24>();
    copy_runs<D, BQ, STAGES>(shared, saved, runs, map);
  } else if (part < n_parts) {
    registers_increase<240>();
    compute_keys<D, BQ, STAGES>(d_qkv, sums, shared, saved.at, part);
  }
}

}  // namespace attention

// Parameters: d_qkv (N, (H + 2K) D) | sums | d_out (N, H D) | lse, delta (N, H) | qkv (N, (H + 2K) D) and its map, boxes of
// 128 rows | views (N) | tiles | runs
#define ATTENTION_BACKWARD_KEY_VALUE(D, BQ, STAGES)                                                                     \
  extern "C" __global__ void __launch_bounds__(384, 1) attention_flash_backward_key_value_sm90a_bf16_##D(              \
      bf16* __restrict__ d_qkv, float* __restrict__ sums, const bf16* __restrict__ d_out,                              \
      const float* __restrict__ lse, const float* __restrict__ delta, const bf16* __restrict__ qkv,                    \
      const __grid_constant__ TensorMap map, const attention::RowView* views, const attention::KeyTile* tiles,         \
      const attention::QueryRun* runs, ATTENTION_HEADS_PARAMETERS) {                                                   \
    using Shared = attention::KeyShared<D, BQ, STAGES>;                                                                \
    DYN_SHARED(Shared, shared);                                                                                        \
    const int kv_head = blockIdx.x % n_kv_heads;                                                                       \
    const attention::Saved<bf16> saved{d_out, lse, delta, qkv, views, {ATTENTION_HEADS_OF(D), kv_head}};               \
    attention::backward_key_tile<D, BQ, STAGES>(d_qkv, sums, *shared, saved, tiles[blockIdx.x / n_kv_heads], runs,     \
                                                &map);                                                                 \
  }                                                                                                                    \
  EXPORT_KERNEL(attention_flash_backward_key_value_sm90a_bf16_##D)

ATTENTION_BACKWARD_KEY_VALUE(64, 64, 4)
ATTENTION_BACKWARD_KEY_VALUE(128, 64, 4)
