// What every kernel starts from: integer and bf16 types, shared memory declarations, conversions, 16-byte loads.
//
// No CUDA header is included: nvcc and NVRTC know the qualifiers and vector types themselves, and the simulator
// (-DRESKILL_SIMT) brings its own. bf16 is a plain 16-bit struct, so nothing rounds by accident.
#pragma once
#if defined(RESKILL_SIMT)
#include "simt.h"
#else
// `SHARED(float, tile, [16][17])` is `__shared__ float tile[16][17]`; `DYN_SHARED(T, name)` is the launch's dynamic
// shared memory; `EXPORT_KERNEL(name)` after a kernel tells the simulator of it.
#define SHARED(T, name, dims) __shared__ T name dims
#define DYN_SHARED(T, name)                                               \
  extern __shared__ __align__(1024) unsigned char reskill_dyn_shared_[];  \
  T* name = reinterpret_cast<T*>(reskill_dyn_shared_)
#define EXPORT_KERNEL(name)
// For a kernel of which `n` neighbouring blocks run together (__cluster_dims__).
#define EXPORT_CLUSTER_KERNEL(name, n)
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

struct __align__(2) bf16 {
  u16 bits;
};

__device__ __forceinline__ float to_f32(float v) { return v; }
__device__ __forceinline__ float to_f32(bf16 v) { return __uint_as_float((u32)v.bits << 16); }

// Rounds to nearest, ties to even; every NaN becomes 0x7fff, as the hardware's conversion does.
__device__ __forceinline__ bf16 to_bf16(float v) {
#if defined(__CUDA_ARCH__)
  u16 bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
  return bf16{bits};
#else
  const u32 u = __float_as_uint(v);
  if ((u & 0x7fffffffu) > 0x7f800000u) return bf16{0x7fff};
  return bf16{(u16)((u + 0x7fffu + (u >> 16 & 1u)) >> 16)};
#endif
}

// The same conversions for code that is generic over the element.
template <class T> __device__ __forceinline__ T from_f32(float v);
template <> __device__ __forceinline__ float from_f32<float>(float v) { return v; }
template <> __device__ __forceinline__ bf16 from_f32<bf16>(float v) { return to_bf16(v); }

// Two bf16 in one register, the first in the low half (the order in memory).
__device__ __forceinline__ u32 pack_bf16x2(float low, float high) {
#if defined(__CUDA_ARCH__)
  u32 both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
#else
  return (u32)to_bf16(low).bits | (u32)to_bf16(high).bits << 16;
#endif
}
__device__ __forceinline__ float low_bf16(u32 both) { return __uint_as_float(both << 16); }
__device__ __forceinline__ float high_bf16(u32 both) { return __uint_as_float(both & 0xffff0000u); }

__device__ __forceinline__ bool is_aligned16(const void* p) { return (reinterpret_cast<u64>(p) & 15) == 0; }

// Eight consecutive elements at a 16-byte aligned address: one 16-byte access of bf16, two of f32.
__device__ __forceinline__ void load8(float (&v)[8], const float* p) {
  const float4 a = reinterpret_cast<const float4*>(p)[0], b = reinterpret_cast<const float4*>(p)[1];
  v[0] = a.x; v[1] = a.y; v[2] = a.z; v[3] = a.w;
  v[4] = b.x; v[5] = b.y; v[6] = b.z; v[7] = b.w;
}
__device__ __forceinline__ void load8(float (&v)[8], const bf16* p) {
  const uint4 a = *reinterpret_cast<const uint4*>(p);
  v[0] = low_bf16(a.x); v[1] = high_bf16(a.x); v[2] = low_bf16(a.y); v[3] = high_bf16(a.y);
  v[4] = low_bf16(a.z); v[5] = high_bf16(a.z); v[6] = low_bf16(a.w); v[7] = high_bf16(a.w);
}
__device__ __forceinline__ void store8(float* p, const float (&v)[8]) {
  reinterpret_cast<float4*>(p)[0] = make_float4(v[0], v[1], v[2], v[3]);
  reinterpret_cast<float4*>(p)[1] = make_float4(v[4], v[5], v[6], v[7]);
}
__device__ __forceinline__ void store8(bf16* p, const float (&v)[8]) {
  *reinterpret_cast<uint4*>(p) = make_uint4(pack_bf16x2(v[0], v[1]), pack_bf16x2(v[2], v[3]),
                                            pack_bf16x2(v[4], v[5]), pack_bf16x2(v[6], v[7]));
}
