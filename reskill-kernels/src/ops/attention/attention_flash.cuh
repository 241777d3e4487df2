// Attention in bf16 on tensor cores, head sizes 64 and 128: the pieces that forward, backward and cached kernels share.
//
// Tiles lie in shared memory in rows of D + 8 elements: the 8 rows that one ldmatrix reads begin 16 bytes apart modulo
// the 128 bytes of all banks, so no two meet. In a result of mma.m16n8k16 lane 4 g + t holds columns 2 t, 2 t + 1 of
// rows g and g + 8; two results side by side are, rounded to bf16, the left operand of the next product.
#pragma once
#include "attention.cuh"

namespace attention {

constexpr int FLASH_THREADS = 128;   // four warps

// 2^x to 2 units in the last place; 0 for -infinity, and for what would be below the smallest normal number.
__device__ __forceinline__ float fast_exp2(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}

__device__ __forceinline__ int lane_id() { return threadIdx.x & 31; }
__device__ __forceinline__ int warp_id() { return threadIdx.x >> 5; }

// Copies rows of D elements into a tile, asynchronously; row i comes from from(i).
template <int D, int ROWS, int THREADS, class F>
__device__ __forceinline__ void copy_rows(bf16* to, int thread, F from) {
  constexpr int CHUNKS = D / 8;   // of 16 bytes
#pragma unroll 1
  for (int index = thread; index < ROWS * CHUNKS; index += THREADS) {
    const int i = index / CHUNKS, chunk = index % CHUNKS;
    cp_async16(to + i * (D + 8) + chunk * 8, from(i) + chunk * 8);
  }
}

// The same for what streams through a loop, in fewer instructions: a thread has the same chunk of every row, and its
// places in the tile are constants apart.
template <int D, int ROWS, int THREADS, class F>
__device__ __forceinline__ void stream_rows(bf16* to, int thread, F from) {
  constexpr int CHUNKS = D / 8, STEP = THREADS / CHUNKS;
  static_assert(THREADS % CHUNKS == 0 && ROWS % STEP == 0, "each thread copies as many rows");
  const int chunk = thread % CHUNKS, i = thread / CHUNKS;
  bf16* at = to + i * (D + 8) + chunk * 8;
#pragma unroll
  for (int s = 0; s < ROWS / STEP; ++s) cp_async16(at + s * STEP * (D + 8), from(i + s * STEP) + chunk * 8);
}

// Left operand, 16 rows by 16 columns, of a tile with rows of `stride` elements.
__device__ __forceinline__ void left_fragment(u32 (&a)[4], const bf16* tile, int stride, int row, int column) {
  const int lane = lane_id();
  ldmatrix_x4(a, tile + (row + (lane & 15)) * stride + column + (lane >> 4) * 8);
}

// Right operands of two neighbouring products, 16 (k) by 2 x 8 (n), from a tile whose rows are n and columns k.
__device__ __forceinline__ void right_fragment(u32 (&b)[2][2], const bf16* tile, int stride, int n, int k) {
  const int lane = lane_id();
  u32 r[4];
  ldmatrix_x4(r, tile + (n + (lane & 7) + (lane >> 4) * 8) * stride + k + ((lane >> 3) & 1) * 8);
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// The same from a tile whose rows are k and columns n.
__device__ __forceinline__ void right_fragment_trans(u32 (&b)[2][2], const bf16* tile, int stride, int k, int n) {
  const int lane = lane_id();
  u32 r[4];
  ldmatrix_x4_trans(r, tile + (k + (lane & 15)) * stride + n + (lane >> 4) * 8);
  b[0][0] = r[0], b[0][1] = r[1], b[1][0] = r[2], b[1][1] = r[3];
}

// Two results side by side as a left operand.
__device__ __forceinline__ void as_left(u32 (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = pack_bf16x2(left[0], left[1]), a[1] = pack_bf16x2(left[2], left[3]);
  a[2] = pack_bf16x2(right[0], right[1]), a[3] = pack_bf16x2(right[2], right[3]);
}

template <int M, int N> __device__ __forceinline__ void clear(float (&x)[M][N][4]) {
#pragma unroll
  for (int i = 0; i < M; ++i)
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) x[i][n][e] = 0.f;
}

// sums (M x 16 rows, N x 8 columns) = a b^T over D, rows of `a` from `row` on; both tiles have D columns.
template <int D, int M, int N>
__device__ __forceinline__ void multiply_trans(float (&sums)[M][N][4], const bf16* a, int row, const bf16* b) {
  constexpr int LD = D + 8;
  clear(sums);
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    u32 left[M][4];
#pragma unroll
    for (int i = 0; i < M; ++i) left_fragment(left[i], a, LD, row + i * 16, k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      u32 right[2][2];
      right_fragment(right, b, LD, n * 8, k);
#pragma unroll
      for (int i = 0; i < M; ++i) {
        mma_m16n8k16_bf16(sums[i][n], left[i], right[0]);
        mma_m16n8k16_bf16(sums[i][n + 1], left[i], right[1]);
      }
    }
  }
}

// acc (M x 16 rows, D columns) += weights (M x 16 rows, N x 8 columns) b, `b` with rows of D elements.
template <int D, int M, int N>
__device__ __forceinline__ void accumulate(float (&acc)[M][D / 8][4], const float (&weights)[M][N][4], const bf16* b) {
#pragma unroll
  for (int j = 0; j < N; j += 2) {
    u32 left[M][4];
#pragma unroll
    for (int i = 0; i < M; ++i) as_left(left[i], weights[i][j], weights[i][j + 1]);
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      u32 right[2][2];
      right_fragment_trans(right, b, D + 8, j * 8, n * 8);
#pragma unroll
      for (int i = 0; i < M; ++i) {
        mma_m16n8k16_bf16(acc[i][n], left[i], right[0]);
        mma_m16n8k16_bf16(acc[i][n + 1], left[i], right[1]);
      }
    }
  }
}

// Online softmax of the rows of a warp. Rows i * 16 + half * 8 + g of lane group g; totals are of this lane's columns
// until `finish` adds up the four lanes of a row.
template <int M> struct Softmax {
  float top[M][2], total[M][2];
  __device__ __forceinline__ void start() {
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) top[i][half] = minus_infinity(), total[i][half] = 0.f;
  }
  // Turns scores into weights exp(scale (score - top)) and rescales what was summed so far; scale_log2 = scale log2(e).
  template <int N, int C>
  __device__ __forceinline__ void update(float (&scores)[M][N][4], float (&acc)[M][C][4], float scale_log2) {
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float best = top[i][half];
#pragma unroll
        for (int n = 0; n < N; ++n) best = fmaxf(best, fmaxf(scores[i][n][2 * half], scores[i][n][2 * half + 1]));
        best = lanes_max<4>(best);
        const float base = best == minus_infinity() ? 0.f : best * scale_log2;   // no key seen yet: weights 0
        const float shrink = fast_exp2(fmaf(top[i][half], scale_log2, -base));
        float sum = 0.f;
#pragma unroll
        for (int n = 0; n < N; ++n)
#pragma unroll
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            scores[i][n][e] = fast_exp2(fmaf(scores[i][n][e], scale_log2, -base));
            sum += scores[i][n][e];
          }
        total[i][half] = total[i][half] * shrink + sum;
        top[i][half] = best;
#pragma unroll
        for (int c = 0; c < C; ++c) acc[i][c][2 * half] *= shrink, acc[i][c][2 * half + 1] *= shrink;
      }
  }
  // Divides the sums by the totals; a row without keys gets 0. Totals are those of whole rows afterwards.
  template <int C> __device__ __forceinline__ void finish(float (&acc)[M][C][4]) {
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float sum = total[i][half] = lanes_sum<4>(total[i][half]);
        const float inverse = sum == 0.f ? 0.f : 1.f / sum;
#pragma unroll
        for (int c = 0; c < C; ++c) acc[i][c][2 * half] *= inverse, acc[i][c][2 * half + 1] *= inverse;
      }
  }
  // Natural logarithm of the sum of exp(scale score), after `finish`; -infinity for a row without keys.
  __device__ __forceinline__ float lse(int i, int half, float scale_log2) const {
    return total[i][half] == 0.f ? minus_infinity() : (top[i][half] * scale_log2 + log2f(total[i][half])) * LN_2;
  }
};

// Rounds the results of the 32 rows of a warp to bf16 and writes them in chunks of 16 bytes; row m goes to to(m), for
// the rows m < len of the block's tile. `stage` is memory of this warp: 32 rows of D + 8.
template <int D, class F>
__device__ __forceinline__ void write_rows(const float (&acc)[2][D / 8][4], bf16* stage, int first, int len, F to) {
  constexpr int LD = D + 8, CHUNKS = D / 8;
  const int lane = lane_id(), g = lane >> 2, t = lane & 3;
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int n = 0; n < CHUNKS; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        *reinterpret_cast<u32*>(stage + (i * 16 + half * 8 + g) * LD + n * 8 + t * 2) =
            pack_bf16x2(acc[i][n][2 * half], acc[i][n][2 * half + 1]);
  __syncwarp();   // the rows of this warp are staged
  for (int index = lane; index < 32 * CHUNKS; index += 32) {
    const int m = index / CHUNKS, chunk = index % CHUNKS;
    if (first + m < len)
      *reinterpret_cast<uint4*>(to(first + m) + chunk * 8) =
          *reinterpret_cast<const uint4*>(stage + m * LD + chunk * 8);
  }
}

// Forward pass of a tile of up to 128 query rows, 32 a warp, over tiles of BN keys; one buffer for keys and one for
// values: while the scores are computed the values arrive, and while the values are summed the next keys do.
//
// A problem P gives: query(m), a pointer; n_tiles(); load_keys(to, t), load_values(to, t), by all threads,
// asynchronous; scores(sums, q, row, keys); is_full(t); range(m, t), the columns of the tile that a row sees;
// KEY_ELEMENTS; write(acc, ..).
template <int D, int BN, class P>
__device__ __forceinline__ void flash_forward(const P& problem, int len, float scale, bf16* shared) {
  constexpr int BM = 128, LD = D + 8, N = BN / 8;
  bf16* q = shared;                       // [BM][D + 8]
  bf16* keys = q + BM * LD;               // KEY_ELEMENTS
  bf16* values = keys + P::KEY_ELEMENTS;  // [BN][D + 8]
  const int first = warp_id() * 32, lane = lane_id(), g = lane >> 2, t2 = (lane & 3) * 2;
  const bool active = first < len;        // a warp without rows only helps to load
  const float scale_log2 = scale * LOG2_E;
  copy_rows<D, BM, FLASH_THREADS>(q, threadIdx.x, [&](int m) { return problem.query(min(m, len - 1)); });
  problem.load_keys(keys, 0);
  cp_async_commit();
  float acc[2][D / 8][4];
  Softmax<2> softmax;
  clear(acc);
  softmax.start();
  const int n_tiles = problem.n_tiles();
  for (int tile = 0; tile < n_tiles; ++tile) {
    cp_async_wait<0>();
    __syncthreads();   // keys of this tile (and queries) are there, values of the tile before have been read
    problem.load_values(values, tile);
    cp_async_commit();
    float scores[2][N][4];
    if (active) problem.scores(scores, q, first, keys);
    cp_async_wait<0>();
    __syncthreads();   // values are there, keys have been read
    if (tile + 1 < n_tiles) problem.load_keys(keys, tile + 1);
    cp_async_commit();
    if (!active) continue;
    if (!problem.is_full(tile)) {
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const ColumnRange seen = problem.range(min(first + i * 16 + half * 8 + g, len - 1), tile);
#pragma unroll
          for (int n = 0; n < N; ++n)
#pragma unroll
            for (int e = 0; e < 2; ++e)
              if (!seen.contains(n * 8 + t2 + e)) scores[i][n][2 * half + e] = minus_infinity();
        }
    }
    softmax.update(scores, acc, scale_log2);
    accumulate<D, 2, N>(acc, scores, values);
  }
  if (!active) return;
  // Nothing is on its way: the last turn waited for its values and asked for no more keys.
  softmax.finish(acc);
  // The queries of this warp are not needed any more, and no other warp reads them.
  problem.write(acc, softmax, q + first * LD, first, scale_log2);
}

}  // namespace attention
