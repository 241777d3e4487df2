// Statistics of a row's softmax that are joined tile by tile.
#pragma once
#include "prelude.cuh"

// Largest logit, sum of exp(z - top), sum of exp(z - top) (z - top). An empty part has total 0.
struct RowStats {
  float top, total, weighted;
};

__device__ __forceinline__ RowStats no_stats() { return RowStats{-3.402823466e38f, 0.f, 0.f}; }

// Every rounding is spelt out, lest two kernels be compiled to different multiply-adds and a row's bits depend on which
// of them ran. Adds `part`; a part with nothing in it changes nothing (minus infinity less itself would be NaN).
template <class Exp> __device__ __forceinline__ void join(RowStats& s, const RowStats& part, Exp exp_of) {
  if (part.total == 0.f) return;
  if (s.total == 0.f) { s = part; return; }
  const float top = fmaxf(s.top, part.top), mine = s.top - top, other = part.top - top;
  const float a = exp_of(mine), b = exp_of(other);
  const float before = fmaf(s.total, mine, s.weighted), added = fmaf(part.total, other, part.weighted);
  s.weighted = fmaf(a, before, __fmul_rn(b, added));
  s.total = fmaf(a, s.total, __fmul_rn(b, part.total));
  s.top = top;
}
