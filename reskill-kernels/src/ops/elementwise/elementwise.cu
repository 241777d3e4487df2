// Filling, casting and column sums: what every tensor and several operations need.
//
// Formula   fill: out[i] = value      cast: out[i] = round(x[i])      column sums: out[c] += sum_p parts[p, c]
// Shapes    out, x: any, as one run of n elements | parts (P, C) f32 row-major | out (C) f32
// Bytes     fill: n * size.  cast: 6 n (one side f32, one bf16).  column sums: 4 P C + 8 C.
// Flops     column sums: P C additions; all are judged in GB/s.
// Launch    fill: 16 bytes a thread, cast: 4 elements a thread, block (256).  column sums: grid (ceil(C / 32)), block
//           (32, 32).
// Numerics  casts round to nearest, ties to even. A column is summed in one fixed order: every 32nd part by one thread,
//           then the 32 sums across a warp. So the result does not depend on timing.
#include "prelude.cuh"
#include "reduce.cuh"

// 16 bytes a thread; what a store of that size would pass is written one by one.
template <class T>
__device__ __forceinline__ void fill(T* out /* (n), 16-byte aligned */, T value, i64 n) {
  constexpr int E = 16 / sizeof(T);
  // 64-bit: a table of 151,936 x 16,384 numbers passes 2^31.
  const i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * E;
  if (i + E <= n) {
    constexpr u64 COPIES = sizeof(T) == 2 ? 0x0001000100010001ull : sizeof(T) == 4 ? 0x0000000100000001ull : 1;
    const u64 bits = value * COPIES;
    const u32 low = (u32)bits, high = (u32)(bits >> 32);
    *reinterpret_cast<uint4*>(out + i) = make_uint4(low, high, low, high);
  } else {
    for (i64 at = i; at < n; ++at) out[at] = value;
  }
}

extern "C" __global__ void __launch_bounds__(256)
    elementwise_fill_u16(u16* __restrict__ out, u32 low, u32, long long n) {
  fill(out, (u16)low, n);
}
EXPORT_KERNEL(elementwise_fill_u16)

extern "C" __global__ void __launch_bounds__(256)
    elementwise_fill_u32(u32* __restrict__ out, u32 low, u32, long long n) {
  fill(out, low, n);
}
EXPORT_KERNEL(elementwise_fill_u32)

extern "C" __global__ void __launch_bounds__(256)
    elementwise_fill_u64(u64* __restrict__ out, u32 low, u32 high, long long n) {
  fill(out, (u64)high << 32 | low, n);
}
EXPORT_KERNEL(elementwise_fill_u64)

// Four elements a thread, in one access of either type where both runs begin at a multiple of 16 bytes.
__device__ __forceinline__ void cast4(bf16* out, const float* x) {
  const float4 v = *reinterpret_cast<const float4*>(x);
  *reinterpret_cast<uint2*>(out) = make_uint2(pack_bf16x2(v.x, v.y), pack_bf16x2(v.z, v.w));
}
__device__ __forceinline__ void cast4(float* out, const bf16* x) {
  const uint2 v = *reinterpret_cast<const uint2*>(x);
  *reinterpret_cast<float4*>(out) = make_float4(low_bf16(v.x), high_bf16(v.x), low_bf16(v.y), high_bf16(v.y));
}
template <class To, class From>
__device__ __forceinline__ void cast(To* out, const From* x, i64 n) {
  const i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (i + 4 <= n && is_aligned16(out) && is_aligned16(x)) {
    cast4(out + i, x + i);
  } else {
    for (i64 at = i; at < min(i + 4, n); ++at) out[at] = from_f32<To>(to_f32(x[at]));
  }
}

extern "C" __global__ void __launch_bounds__(256)
    elementwise_cast_f32_bf16(bf16* __restrict__ out /* (n) */, const float* __restrict__ x /* (n) */, long long n) {
  cast(out, x, n);
}
EXPORT_KERNEL(elementwise_cast_f32_bf16)

extern "C" __global__ void __launch_bounds__(256)
    elementwise_cast_bf16_f32(float* __restrict__ out /* (n) */, const bf16* __restrict__ x /* (n) */, long long n) {
  cast(out, x, n);
}
EXPORT_KERNEL(elementwise_cast_bf16_f32)

extern "C" __global__ void __launch_bounds__(1024)
    elementwise_add_column_sums_f32(float* __restrict__ out /* (C) */,
                                    const float* __restrict__ parts /* (P, width), C of it */, int p, int width,
                                    int c) {
  SHARED(float, sums, [32][33]);  // a row for each y; a column is read without conflicts
  const int column = blockIdx.x * 32 + threadIdx.x;
  float sum = 0.0f;
  if (column < c) {
#pragma unroll 4
    for (int part = threadIdx.y; part < p; part += 32) sum += parts[(size_t)part * width + column];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();  // all sums of a column are written before a warp adds them
  const float total = warp_sum(sums[threadIdx.x][threadIdx.y]);
  const int own = blockIdx.x * 32 + threadIdx.y;
  if (threadIdx.x == 0 && own < c) out[own] += total;
}
EXPORT_KERNEL(elementwise_add_column_sums_f32)
