// Statistics of a row's softmax that are joined tile by tile.
#pragma once
#include "prelude.cuh"

// Largest logit, sum of exp(z - top), sum of exp(z - top) (z - top). An empty part has total 0.
struct RowStats {
  float top, total, weighted;
};

__device__ __forceinline__ RowStats no_stats() { return RowStats{-3.402823466e38f, 0.f, 0.f}; }

// Adds `part`; a part with nothing in it changes nothing (minus infinity less itself would be NaN).
template <class Exp> __device__ __forceinline__ void join(RowStats& s, const RowStats& part, Exp exp_of) {
  if (part.total == 0.f) return;
  if (s.total == 0.f) { s = part; return; }
  const float top = fmaxf(s.top, part.top), mine = s.top - top, other = part.top - top;
  const float a = exp_of(mine), b = exp_of(other);
  s.weighted = a * (s.weighted + s.total * mine) + b * (part.weighted + part.total * other);
  s.total = a * s.total + b * part.total;
  s.top = top;
}
