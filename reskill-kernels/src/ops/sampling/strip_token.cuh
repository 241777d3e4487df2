// The token that a row's uniform number means within one strip of logits.
#pragma once
#include "logits.cuh"

// Where logit v of a strip stands in shared memory: the eight neighbours of a lane are turned, so that the same one of all
// lanes is in 32 banks.
__device__ __forceinline__ int place_of_logit(int v) { return (v & ~7) | ((v + (v >> 5)) & 7); }

// By a whole warp, which all gets it: n_tokens logits at their places, what is left of the uniform number at the strip's beginning, the
// row's lse. A lane has eight neighbours.
__device__ __forceinline__ int token_in_strip(const float* logits, int n_tokens, double rest, float lse, int greedy) {
  constexpr int kOfLane = STRIP / 32;
  const int lane = threadIdx.x & 31, first = lane * kOfLane;
  if (greedy) {
    float best = -3.402823466e38f;
    int found = 0;
    for (int v = first; v < first + kOfLane && v < n_tokens; ++v) {
      const float z = logits[place_of_logit(v)];
      if (z > best) { best = z; found = v; }
    }
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
      const float other = __shfl_xor_sync(0xffffffffu, best, o);
      const int there = __shfl_xor_sync(0xffffffffu, found, o);
      if (other > best || (other == best && there < found)) { best = other; found = there; }
    }
    return found;
  }
  float p[kOfLane];
  double sum = 0.0;
#pragma unroll
  for (int k = 0; k < kOfLane; ++k) {
    p[k] = first + k < n_tokens ? expf(logits[place_of_logit(first + k)] - lse) : 0.f;
    sum += (double)p[k];
  }
  double up_to = sum;                                    // over the lanes up to this one
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const double other = __shfl_up_sync(0xffffffffu, up_to, o);
    if (lane >= o) up_to += other;
  }
  double cumulative = up_to - sum;
  int hit = -1, last = -1;                               // last: with a probability, should rounding miss all
#pragma unroll
  for (int k = 0; k < kOfLane; ++k) {
    if (!(p[k] > 0.f)) continue;
    cumulative += (double)p[k];
    if (hit < 0 && rest < cumulative) hit = first + k;
    last = first + k;
  }
  const u32 hits = __ballot_sync(0xffffffffu, hit >= 0), some = __ballot_sync(0xffffffffu, last >= 0);
  if (hits) return __shfl_sync(0xffffffffu, hit, __ffs((int)hits) - 1);
  return some ? __shfl_sync(0xffffffffu, last, 31 - __clz((int)some)) : 0;
}
