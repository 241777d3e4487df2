// What all kernels over logits share, whichever way these are computed.
#pragma once
#include "prelude.cuh"

// Tokens whose statistics are joined before they leave a block. Part of the numerical definition.
#define STRIP 256

// The row of a batch that row i of a selection is; all rows without an index.
__device__ __forceinline__ size_t mapped(const u32* index, int i) { return index ? (size_t)index[i] : (size_t)i; }

// 2^x for x <= 0 in one instruction, to about 2^-22 of itself; below 2^-126 it is 0.
__device__ __forceinline__ float exp2_approximate(float x) {
#if defined(__CUDA_ARCH__)
  float e;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(x));
  return e;
#else
  return __expf(x * 0.6931471805599453f);
#endif
}
// e^x likewise, in two instructions.
__device__ __forceinline__ float exp_approximate(float x) {
#if defined(__CUDA_ARCH__)
  return exp2_approximate(x * 1.4426950408889634f);
#else
  return __expf(x);
#endif
}
