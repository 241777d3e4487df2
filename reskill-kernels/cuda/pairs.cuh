// Two neighbours in a row at an address aligned to both, in one access.
#pragma once
#include "prelude.cuh"

__device__ __forceinline__ float2 read_two(const float* from) { return *reinterpret_cast<const float2*>(from); }
__device__ __forceinline__ float2 read_two(const bf16* from) {
  const u32 both = *reinterpret_cast<const u32*>(from);
  return make_float2(low_bf16(both), high_bf16(both));
}
__device__ __forceinline__ void write_two(float* to, float v, float w) {
  *reinterpret_cast<float2*>(to) = make_float2(v, w);
}
__device__ __forceinline__ void write_two(bf16* to, float v, float w) {
  *reinterpret_cast<u32*>(to) = pack_bf16x2(v, w);
}
