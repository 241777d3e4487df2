// A row of logits as weights to draw from: what is kept of it, and passes over it by a block or a warp.
#pragma once
#include "prelude.cuh"
#include "reduce.cuh"

#define THREADS 512
#define WARPS (THREADS / 32)
#define BINS 256

// What is known of a row.
template <class T> struct Row {
  const T* logits;
  int vocab;
  float best;              // the largest logit
  double per_nat, scale;   // 1 / temperature; the largest weight as an integer
  float inverse;           // 1 / temperature in f32, or the largest number
  u64 cut;                 // tokens of smaller order are not kept
  double min_weight;       // nor are those of smaller weight
  float least;             // and none whose `nats` are below this has that weight

  __device__ __forceinline__ float z(int v) const { return to_f32(logits[v]); }
  __device__ __forceinline__ double weight(float z) const { return exp((double)(z - best) * per_nat); }
  // Logarithm of the weight in f32, off by less than a 2^-21 of itself, or too large if the temperature is below 2^-127:
  // for bounds with room to spare, which keep most tokens of a peaked row from arithmetic in f64.
  __device__ __forceinline__ float nats(float z) const { return (z - best) * inverse; }
  // Weight as an integer; what is below 2^-46 of the largest counts nothing.
  __device__ __forceinline__ u64 fixed(float z) const {
    if (nats(z) < -33.f) return 0;
    const double x = (double)(z - best) * per_nat;
    return x < -32.0 ? 0 : (u64)(exp(x) * scale + 0.5);
  }
  // Larger logits first, then smaller tokens: all orders differ.
  __device__ __forceinline__ u64 order(float z, int v) const {
    const u32 bits = __float_as_uint(z);
    return (u64)(bits & 0x80000000u ? ~bits : bits | 0x80000000u) << 32 | (u32)~v;
  }
  __device__ __forceinline__ bool kept(float z, u64 order) const {
    if (order < cut) return false;
    return min_weight == 0.0 || (nats(z) >= least && weight(z) >= min_weight);
  }
  // An eighth of a nat a bin, likeliest first, and all the rest.
  __device__ __forceinline__ int bin(float z) const {
    const float x = (best - z) * (float)(8.0 * per_nat);
    return x < (float)(BINS - 1) ? (int)x : BINS - 1;
  }
};
__device__ __forceinline__ float logit_of(u64 order) {
  const u32 key = (u32)(order >> 32);
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// f(v, z) for the tokens from .. to - 1 of a row, shared among `n` threads, of which this is number `own`: eight
// neighbours in one access where they are aligned, single ones at both ends. A thread's tokens ascend.
template <class T, class F>
__device__ __forceinline__ void for_tokens(const T* logits, int from, int to, int own, int n, F f) {
  const int apart = (int)(reinterpret_cast<u64>(logits + from) & 15) / (int)sizeof(T);
  const int first = min(to, from + (apart ? 16 / (int)sizeof(T) - apart : 0)), runs = (to - first) / 8;
  for (int v = from + own; v < first; v += n) f(v, to_f32(logits[v]));
  for (int i = own; i < runs; i += n) {
    float z[8];
    load8(z, logits + first + i * 8);
#pragma unroll
    for (int k = 0; k < 8; ++k) f(first + i * 8 + k, z[k]);
  }
  for (int v = first + runs * 8 + own; v < to; v += n) f(v, to_f32(logits[v]));
}

// The largest logit and the first token that has it, known to all; minus infinity and V if no logit is above that.
template <class T> __device__ __forceinline__ void find_best(const T* logits, int vocab, float& best, int& token) {
  SHARED(float, tops, [WARPS]);
  SHARED(int, tokens, [WARPS]);
  best = -__int_as_float(0x7f800000);
  token = vocab;
  for_tokens(logits, 0, vocab, (int)threadIdx.x, THREADS, [&](int v, float z) {
    if (z > best) { best = z; token = v; }
  });
  auto take = [&](float other, int other_token) {
    if (other > best || (other == best && other_token < token)) { best = other; token = other_token; }
  };
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) {
    const float other = __shfl_xor_sync(0xffffffffu, best, o);
    take(other, __shfl_xor_sync(0xffffffffu, token, o));
  }
  if ((threadIdx.x & 31) == 0) { tops[threadIdx.x >> 5] = best; tokens[threadIdx.x >> 5] = token; }
  __syncthreads();                                       // all warps' maxima are there
  for (int w = 0; w < WARPS; ++w) take(tops[w], tokens[w]);
}

// Sum over the lanes up to this one.
__device__ __forceinline__ u64 running_sum(u64 x) {
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const u64 lower = __shfl_up_sync(0xffffffffu, x, o);
    if ((int)(threadIdx.x & 31) >= o) x += lower;
  }
  return x;
}

// The token drawn where nothing is truncated, in order of the vocabulary: the first at which the weight up to it is
// above uniform * total. The range is cut in as many parts as there are warps until few tokens are left.
template <class T>
__device__ __forceinline__ int draw_in_order(const Row<T>& row, float uniform, u64& total) {
  SHARED(u64, parts, [WARPS]);
  const int warp = (int)threadIdx.x >> 5, lane = threadIdx.x & 31;
  int begin = 0, end = row.vocab;
  u64 before = 0, goal = 0;
  do {
    const int part = (end - begin + WARPS - 1) / WARPS, from = min(end, begin + warp * part), to = min(end, from + part);
    u64 sum = 0;
    for_tokens(row.logits, from, to, lane, 32, [&](int, float z) { sum += row.fixed(z); });
    sum = warp_sum(sum);
    __syncthreads();                                     // the last level's sums are read
    if (lane == 0) parts[warp] = sum;
    __syncthreads();                                     // all parts' sums are there
    if (goal == 0) {                                     // the first level has seen the whole vocabulary
      total = warp_sum(lane < WARPS ? parts[lane] : 0);
      goal = min((u64)((double)uniform * (double)total) + 1, total);
    }
    int w = 0;
    while (w < WARPS - 1 && before + parts[w] < goal) before += parts[w++];
    begin = begin + w * part;
    end = min(end, begin + part);
  } while (end - begin > 32);
  // A lane a token: the first whose own and all before reach the goal.
  const int v = begin + lane;
  const u64 up_to = running_sum(v < end ? row.fixed(row.z(v)) : 0);
  const u32 reached = __ballot_sync(0xffffffffu, v < end && before + up_to >= goal);
  return reached ? begin + __ffs(reached) - 1 : end - 1;
}
