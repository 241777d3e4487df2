// Forward pass of a tile of up to 128 flat query rows on warpgroups (sm_90a): the body that attention over a packed
// batch and attention to a paged cache share.
//
// A thread or a warp of the first warpgroup copies tiles of BN keys and values, two warpgroups compute 64 query rows
// each.
//
// A problem P gives: scale(); len(), rows of the tile; n_tiles(), of keys, at least 1; query(m), a pointer; is_full(t);
// View view(m), what a row sees, and range(view, t), the columns of the tile of it; copy_tiles(shared), by one warp;
// begin_scores(s, q, keys), which begins the products; write(acc, softmax, stage, first, scale_log2), of the 16 rows of
// a warp.
//
// Source    Shah et al. 2024, arXiv:2407.08608, algorithms 1 and 2: the sum over a tile runs while the weights of the
//           next are computed. The turns that warpgroups take there (section 3.1) gained nothing and are left out.
#pragma once
#include "attention_warpgroup.cuh"

namespace attention {

// `Keys` is a tile of keys, as large as one of values.
template <class Keys, int D, int BN, int STAGES> struct __align__(1024) ForwardShared {
  SwizzledTile<D, QUERIES> q;
  Keys keys[STAGES];
  SwizzledTile<D, BN> values[STAGES];
  u64 keys_full[STAGES], keys_empty[STAGES], values_full[STAGES], values_empty[STAGES];
  u64 values_landed;   // of copies that the copying warp has yet to finish
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

// A computing warpgroup: the query rows 64 `part` .. of the tile.
template <class P, class Keys, int D, int BN, int STAGES>
__device__ __forceinline__ void compute_rows(const P& problem, ForwardShared<Keys, D, BN, STAGES>& shared, int part) {
  const int len = problem.len(), n_tiles = problem.n_tiles();
  const int first = part * 64 + (warp_id() & 3) * 16, row = first + (lane_id() >> 2);
  const float scale_log2 = problem.scale() * LOG2_E;
  typename P::View view[2];
#pragma unroll
  for (int h = 0; h < 2; ++h) view[h] = problem.view(min(row + 8 * h, len - 1));
  auto hide_unseen = [&](float (&s)[BN / 2], int t) {
    if (problem.is_full(t)) return;
    const ColumnRange seen[2] = {problem.range(view[0], t), problem.range(view[1], t)};
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
  problem.begin_scores(s, q, shared.keys[0]);
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(s);
  release(&shared.keys_empty[0]);
  hide_unseen(s, 0);
  softmax.update(s, scale_log2);
  round_left(weights, s);
  for (int t = 1; t < n_tiles; ++t) {
    const int slot = t % STAGES, before = (t - 1) % STAGES;
    mbarrier_wait(&shared.keys_full[slot], t / STAGES % 2);
    mbarrier_wait(&shared.values_full[before], (t - 1) / STAGES % 2);
    wgmma_fence();
    problem.begin_scores(s, q, shared.keys[slot]);
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
  const int last = n_tiles - 1;
  mbarrier_wait(&shared.values_full[last % STAGES], last / STAGES % 2);
  wgmma_fence();
  begin_accumulate<D, BN>(acc, weights, shared.values[last % STAGES].by_columns());
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_results(acc);
  softmax.finish(acc);
  warpgroup_barrier(part);   // the queries of this warpgroup have been read
  problem.write(acc, softmax, shared.q, first, scale_log2);
}

template <class P, class Keys, int D, int BN, int STAGES>
__device__ __forceinline__ void forward_tile(const P& problem, ForwardShared<Keys, D, BN, STAGES>& shared) {
  const int len = problem.len(), part = (int)(threadIdx.x / WARPGROUP) - 1, n_parts = len > 64 ? 2 : 1;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; ++i) {
      mbarrier_init(&shared.keys_full[i], 1);               // the copying warp
      mbarrier_init(&shared.values_full[i], 1);
      mbarrier_init(&shared.keys_empty[i], 4 * n_parts);    // a lane of each computing warp
      mbarrier_init(&shared.values_empty[i], 4 * n_parts);
    }
    mbarrier_init(&shared.values_landed, 1);
    mbarrier_init_fence();
  }
  if (part >= 0 && part < n_parts)
    shared.q.copy16(part * 64 + (warp_id() & 3) * 16, [&](int m) { return problem.query(min(m, len - 1)); });
  cp_async_commit();
  __syncthreads();   // the barriers are there
  if (part < 0) {
    registers_decrease<24>();
    cp_async_wait<0>();
    if (warp_id() == 0) problem.copy_tiles(shared);
  } else if (part < n_parts) {
    registers_increase<240>();
    compute_rows(problem, shared, part);
  }
}

}  // namespace attention
