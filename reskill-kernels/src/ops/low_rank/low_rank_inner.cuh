// The inner values of a low-rank product, (N, K) times a factor of rank 64 at most, for the rows of a block: on tensor cores, from
// memory to registers without shared memory between.
//
// Formula   inner[n, r] = scale * sum_k x[n, k] factor(k, r)
// Launch    block (256): eight warps share the sum in turns of 32.
// Numerics  f32 sums, those of the warps added in order, then one rounding to bf16.
// Source    PTX ISA, mma.m16n8k16.
#pragma once
#include "mma.cuh"
#include "prelude.cuh"

constexpr int kWarps = 8;
constexpr int kTurn = 32;  // columns that a warp takes at once

// Fragments go from memory to registers without shared memory between, 16 bytes a lane. With g = lane / 4, t = lane % 4:
//   - a sum over k may take k in any order that both factors agree on. Of 32 k, lane t takes the 8 at 8 t: pairs 0 and 1 are one
//     instruction's slots 2 t and 2 t + 8, pairs 2 and 3 another's. Of 16 k it takes the 4 at 4 t.
//   - tiles of 8 columns may take their columns from anywhere. Column n of tile j is r = T n + j of the T tiles of inner values,
//     and column 8 (n / 2) + 2 j + n % 2 of 32 outputs: the 8 results of a lane are neighbours.
__device__ __forceinline__ int group() { return (int)(threadIdx.x >> 2 & 7); }
__device__ __forceinline__ int quarter() { return (int)(threadIdx.x & 3); }
__device__ __forceinline__ int warp() { return (int)(threadIdx.x >> 5); }

template <class Vector>
__device__ __forceinline__ Vector read_or_zero(const bf16* p, bool there) {
  return there ? *reinterpret_cast<const Vector*>(p) : Vector{};
}
__device__ __forceinline__ u32 word(uint4 v, int i) { return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w; }
__device__ __forceinline__ u32 word(uint2 v, int i) { return i == 0 ? v.x : v.y; }
__device__ __forceinline__ u32 word(u32 v, int) { return v; }
// The low or the high halves of two words.
__device__ __forceinline__ u32 join(u32 first, u32 second, bool high) {
  return __byte_perm(first, second, high ? 0x7632 : 0x5410);
}

// The factors of the sum over k, as the right sides of two instructions for k .. k + 8 of this lane.
template <int T> struct AlongRows {  // (R, K)
  const bf16* factor;
  int rank, depth;
  __device__ __forceinline__ void operator()(u32 (&b)[2][T][2], int k, bool there) const {
#pragma unroll
    for (int j = 0; j < T; ++j) {
      const int r = T * group() + j;
      const uint4 w = read_or_zero<uint4>(factor + (size_t)r * depth + k, there && r < rank);
      b[0][j][0] = w.x; b[0][j][1] = w.y; b[1][j][0] = w.z; b[1][j][1] = w.w;
    }
  }
};
template <int T> struct WordsOf;
template <> struct WordsOf<2> { typedef u32 type; };
template <> struct WordsOf<4> { typedef uint2 type; };
template <> struct WordsOf<8> { typedef uint4 type; };
template <int T> struct AlongColumns {  // (K, R)
  const bf16* factor;
  int rank, depth;
  __device__ __forceinline__ void operator()(u32 (&b)[2][T][2], int k, bool there) const {
    typedef typename WordsOf<T>::type Words;
    Words w[8];
#pragma unroll
    for (int e = 0; e < 8; ++e)
      w[e] = read_or_zero<Words>(factor + (size_t)(k + e) * rank + T * group(), there && T * group() < rank);
#pragma unroll
    for (int e = 0; e < 8; e += 2)
#pragma unroll
      for (int j = 0; j < T; ++j) b[e >> 2][j][e >> 1 & 1] = join(word(w[e], j >> 1), word(w[e + 1], j >> 1), j & 1);
  }
};

// Adds the products of this warp's share of k: sum[i][j] of rows 16 i .. 16 i + 16 and tile j.
template <int M, int T, class Factor>
__device__ __forceinline__ void multiply(float (&sum)[M][T][4], const bf16* x, int stride, int n_rows, Factor factor) {
  constexpr int kTurns = T == 2 ? 2 : 1;  // on their way at once
  const bf16* row[M][2];
#pragma unroll
  for (int i = 0; i < M; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half)  // rows outside are the last one again: what they give is not used
      row[i][half] = x + (size_t)min(i * 16 + half * 8 + group(), n_rows - 1) * stride;
#pragma unroll (kTurns)
  for (int k0 = warp() * kTurn; k0 < factor.depth; k0 += kWarps * kTurn) {
    const int k = k0 + quarter() * 8;
    const bool there = k < factor.depth;
    uint4 v[M][2];
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) v[i][half] = read_or_zero<uint4>(row[i][half] + k, there);
    u32 b[2][T][2];
    factor(b, k, there);
#pragma unroll
    for (int i = 0; i < M; ++i) {
      const uint4 low = v[i][0], high = v[i][1];
      const u32 first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
      for (int j = 0; j < T; ++j) {
        mma_m16n8k16_bf16(sum[i][j], first, b[0][j]);
        mma_m16n8k16_bf16(sum[i][j], second, b[1][j]);
      }
    }
  }
}

// Inner values of a block in shared memory, K in a row. Of rows of 64 the eights stand in an order that turns with the row, so that
// the eight lanes that read 16 bytes at once meet different banks.
template <int M, int T> struct Inner {
  static constexpr int K = 8 * T, PIECES = M * 16 * T;
  static __device__ __forceinline__ int at(int row, int r) {
    const int turn = K == 64 ? (row & 1) * 4 + (row >> 1 & 3) : 0;
    return row * K + (r ^ turn * 8);
  }
};

// inner = scale * the sums of all warps, added in order.
template <int M, int T>
__device__ __forceinline__ void add_warps(bf16* inner, const float (&sum)[M][T][4], float scale) {
  constexpr int kPairs = T / 2 < 2 ? T / 2 : 2;  // of tiles, at once
  constexpr int kItems = M * kPairs * 4 * 32;
  SHARED(float2, parts, [kWarps][kItems]);
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int first = 0; first < T / 2; first += kPairs) {
    __syncthreads();  // the parts before these have been read
#pragma unroll
    for (int i = 0; i < M; ++i)
#pragma unroll
      for (int p = 0; p < kPairs; ++p)
#pragma unroll
        for (int e = 0; e < 4; ++e)
          parts[warp()][((i * kPairs + p) * 4 + e) * 32 + lane] =
              make_float2(sum[i][2 * (first + p)][e], sum[i][2 * (first + p) + 1][e]);
    __syncthreads();  // the parts of all warps are there
    for (int item = threadIdx.x; item < kItems; item += kWarps * 32) {
      float low = 0.0f, high = 0.0f;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        const float2 part = parts[w][item];
        low += part.x;
        high += part.y;
      }
      const int e = item >> 5 & 3, p = (item >> 7) % kPairs, i = (item >> 7) / kPairs;
      const int row = i * 16 + (e >> 1) * 8 + group(), n = quarter() * 2 + (e & 1);
      *reinterpret_cast<u32*>(inner + Inner<M, T>::at(row, T * n + 2 * (first + p))) =
          pack_bf16x2(scale * low, scale * high);
    }
  }
  __syncthreads();  // the inner values are there
}
