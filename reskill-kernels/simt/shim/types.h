// CUDA's qualifiers and vector types, as a C++17 compiler understands them.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __cluster_dims__(...)
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define SIMT_VECTOR2(T, name, bytes)                       \
  struct alignas(bytes) name { T x, y; };                  \
  static inline name make_##name(T x, T y) { return {x, y}; }
#define SIMT_VECTOR4(T, name, bytes)                       \
  struct alignas(bytes) name { T x, y, z, w; };            \
  static inline name make_##name(T x, T y, T z, T w) { return {x, y, z, w}; }
SIMT_VECTOR2(float, float2, 8)
SIMT_VECTOR4(float, float4, 16)
SIMT_VECTOR2(int, int2, 8)
SIMT_VECTOR4(int, int4, 16)
SIMT_VECTOR2(unsigned, uint2, 8)
SIMT_VECTOR4(unsigned, uint4, 16)
SIMT_VECTOR2(double, double2, 16)
SIMT_VECTOR2(unsigned long long, ulonglong2, 16)
SIMT_VECTOR4(unsigned short, ushort4, 8)
SIMT_VECTOR4(unsigned char, uchar4, 4)
#undef SIMT_VECTOR2
#undef SIMT_VECTOR4
