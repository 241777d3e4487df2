// Attention in f32 arithmetic for any head size: tiles of 16 R query rows by 16 R keys, one block of 256 threads.
//
// Thread (tx, ty) of 16 x 16 holds the scores of rows ty + 16 r and keys tx + 16 c, and the elements tx + 16 c of the
// results of rows ty + 16 r: the 16 threads of a row are half a warp, so the statistics of the softmax are shuffles.
// Rows of shared memory are D + 1 long: neighbours in a column lie in different banks.
//
// A problem P gives the numbers: query(m, c), view(m), visible(view, run, j), RUNS, begin(run), end(run), key(j, c),
// value(j, c), for query m of the tile, key j and element c.
#pragma once
#include "attention.cuh"

namespace attention {

constexpr int PLAIN_THREADS = 256;


// to[i][c] = from(i, c) for the rows i < len, zero in the other rows of a tile.
template <int R, class F>
__device__ __forceinline__ void plain_fill(float* to, int len, int head_dim, F from) {
  for (int index = threadIdx.x; index < 16 * R * head_dim; index += PLAIN_THREADS) {
    const int i = index / head_dim, c = index - i * head_dim;
    to[i * (head_dim + 1) + c] = i < len ? from(i, c) : 0.f;
  }
}

// sums[r][c] = a[ty + 16 r] . b[tx + 16 c]
template <int R>
__device__ __forceinline__ void plain_dots(float (&sums)[R][R], const float* a, const float* b, int head_dim) {
  const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4, stride = head_dim + 1;
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < R; ++c) sums[r][c] = 0.f;
  for (int k = 0; k < head_dim; ++k) {
    float left[R], right[R];
#pragma unroll
    for (int r = 0; r < R; ++r) left[r] = a[(ty + 16 * r) * stride + k], right[r] = b[(tx + 16 * r) * stride + k];
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
      for (int c = 0; c < R; ++c) sums[r][c] = fmaf(left[r], right[c], sums[r][c]);
  }
}

// acc[r][c] += sum_j weights[ty + 16 r][j] rows[j][tx + 16 c]
template <int R, int CHUNKS>
__device__ __forceinline__ void plain_accumulate(float (&acc)[R][CHUNKS], const float* weights, const float* rows,
                                                 int head_dim) {
  const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4, stride = head_dim + 1;
  for (int j = 0; j < 16 * R; ++j) {
    float weight[R];
#pragma unroll
    for (int r = 0; r < R; ++r) weight[r] = weights[(ty + 16 * r) * (16 * R + 1) + j];
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      if (tx + 16 * c < head_dim) {
        const float x = rows[j * stride + tx + 16 * c];
#pragma unroll
        for (int r = 0; r < R; ++r) acc[r][c] = fmaf(weight[r], x, acc[r][c]);
      }
    }
  }
}

// The rows of a tile: calls store(m, c, out) for each element and store_lse(m, lse) for each row; a row that sees no
// key has out 0 and lse -infinity.
template <int R, int CHUNKS, class P>
__device__ __forceinline__ void plain_forward(const P& problem, int len, int head_dim, float scale, float* shared) {
  constexpr int TILE = 16 * R, WEIGHTS = (16 * R + 1);
  const int tx = threadIdx.x & 15, ty = threadIdx.x >> 4;
  float* q = shared;                             // [TILE][D + 1]
  float* kv = q + TILE * (head_dim + 1);         // [TILE][D + 1], keys and then values of the same positions
  float* weights = kv + TILE * (head_dim + 1);   // [TILE][TILE + 1]
  plain_fill<R>(q, len, head_dim, [&](int m, int c) { return problem.query(m, c); });
  typename P::View view[R];
  float top[R], total[R], acc[R][CHUNKS];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    view[r] = problem.view(min(ty + 16 * r, len - 1));
    top[r] = minus_infinity(), total[r] = 0.f;
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) acc[r][c] = 0.f;
  }
  for (int run = 0; run < P::RUNS; ++run) {
    const u32 end = problem.end(run);
    for (u32 first = problem.begin(run); first < end; first += TILE) {
      const int n_keys = (int)min((u32)TILE, end - first);
      __syncthreads();   // values and weights of the tile before have been read
      plain_fill<R>(kv, n_keys, head_dim, [&](int j, int c) { return problem.key(first + j, c); });
      __syncthreads();   // keys (and queries) are there
      float scores[R][R];
      plain_dots<R>(scores, q, kv, head_dim);
#pragma unroll
      for (int r = 0; r < R; ++r) {
        float best = top[r];
#pragma unroll
        for (int c = 0; c < R; ++c) {
          const int j = tx + 16 * c;
          const bool seen = j < n_keys && problem.visible(view[r], run, first + j);
          scores[r][c] = seen ? scores[r][c] * scale : minus_infinity();
          best = fmaxf(best, scores[r][c]);
        }
        best = lanes_max<16>(best);
        const float base = best == minus_infinity() ? 0.f : best;   // no key seen yet: all weights are 0
        const float shrink = expf(top[r] - base);
        float sum = 0.f;
#pragma unroll
        for (int c = 0; c < R; ++c) {
          const float weight = expf(scores[r][c] - base);
          weights[(ty + 16 * r) * WEIGHTS + tx + 16 * c] = weight;
          sum += weight;
        }
        total[r] = total[r] * shrink + lanes_sum<16>(sum);
        top[r] = best;
#pragma unroll
        for (int c = 0; c < CHUNKS; ++c) acc[r][c] *= shrink;
      }
      __syncthreads();   // weights are written, keys have been read
      plain_fill<R>(kv, n_keys, head_dim, [&](int j, int c) { return problem.value(first + j, c); });
      __syncthreads();   // values are there
      plain_accumulate<R, CHUNKS>(acc, weights, kv, head_dim);
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const int m = ty + 16 * r;
    if (m >= len) continue;
    const float inverse = total[r] > 0.f ? 1.f / total[r] : (total[r] == 0.f ? 0.f : total[r]);   // a NaN stays one
    if (tx == 0) problem.store_lse(m, top[r] + logf(total[r]));
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c)
      if (tx + 16 * c < head_dim) problem.store(m, tx + 16 * c, acc[r][c] * inverse);
  }
}

}  // namespace attention
