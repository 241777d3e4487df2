// The token that a row's uniform number means within one strip of logits.
#pragma once
#include "logits.cuh"

// By one thread: n_tokens logits, what is left of the uniform number at the strip's beginning, the row's lse.
__device__ __forceinline__ int token_in_strip(const float* logits, int n_tokens, double rest, float lse, int greedy) {
  int found = 0;
  if (greedy) {
    for (int v = 1; v < n_tokens; ++v)
      if (logits[v] > logits[found]) found = v;
  } else {
    double cumulative = 0.0;
    for (int v = 0; v < n_tokens; ++v) {
      const float p = expf(logits[v] - lse);
      if (p > 0.f) found = v;                            // the last with a probability, should rounding miss all
      cumulative += (double)p;
      if (rest < cumulative) break;
    }
  }
  return found;
}
