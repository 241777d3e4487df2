// Rotary position embedding, in place, on the first heads of every row; its gradient is the rotation by the opposite
// angle.
//
// Formula   y[d] = x[d] cos - x[d + D/2] sin,  y[d + D/2] = x[d + D/2] cos + x[d] sin,  for d in 0..D/2 of each head
// Shapes    qkv (N, W) T row-major, heads of D one after the other | positions (N) u32 | cos, sin (P, D/2) f32;  T =
//           f32 or bf16
// Bytes     s = size of T. 2 s N R D for R rotated heads + 4 N; the tables stay in the second-level cache.
// Flops     3 N R D: memory-bound, judged in GB/s.
// Launch    grid (N, ceil(R D / 2 / (256 V))), block (256); V = 8 pairs a thread if D/2 and W are multiples of 8, else
//           1.
// Numerics  f32; angles come from the table, so they are rounded as its maker chose.
// Guards    a position that is not below P makes the row's heads NaN: the host does not read positions back.
// Source    Su et al. 2021, arXiv:2104.09864; the pairing of d with d + D/2 is Hugging Face's.
#include "prelude.cuh"
#include "row.cuh"

template <int V, class T>
__device__ __forceinline__ void rotate_pairs(T* qkv, const u32* positions, const float* cos, const float* sin,
                                             int width, int n_heads, int half, u32 max_positions, float direction) {
  const int i = (blockIdx.y * blockDim.x + threadIdx.x) * V;
  if (i >= n_heads * half) return;
  const int head = i / half, d = i % half;
  const u32 position = positions[blockIdx.x];
  // 64-bit: N W passes 2^31 at 524,288 rows of 4,096.
  T* x = qkv + (size_t)blockIdx.x * width + (size_t)head * 2 * half + d;
  float low[V], high[V], c[V], s[V];
#pragma unroll
  for (int k = 0; k < V; ++k) c[k] = s[k] = __int_as_float(0x7fffffff);
  if (position < max_positions) {
    load(c, cos + (size_t)position * half + d);
    load(s, sin + (size_t)position * half + d);
  }
  load(low, x);
  load(high, x + half);
#pragma unroll
  for (int k = 0; k < V; ++k) {
    const float a = low[k], b = high[k], turn = direction * s[k];
    low[k] = a * c[k] - b * turn;
    high[k] = b * c[k] + a * turn;
  }
  store(x, low);
  store(x + half, high);
}

template <class T>
__device__ __forceinline__ void rotate(T* qkv, const u32* positions, const float* cos, const float* sin, int width,
                                       int n_heads, int half, u32 max_positions, float direction) {
  if (half % 8 == 0 && width % 8 == 0) {
    rotate_pairs<8>(qkv, positions, cos, sin, width, n_heads, half, max_positions, direction);
  } else {
    rotate_pairs<1>(qkv, positions, cos, sin, width, n_heads, half, max_positions, direction);
  }
}

extern "C" __global__ void __launch_bounds__(256)
    rope_f32(float* __restrict__ qkv /* (N, W) */, const u32* __restrict__ positions /* (N) */,
             const float* __restrict__ cos /* (P, D/2) */, const float* __restrict__ sin /* (P, D/2) */, int width,
             int n_heads, int half, u32 max_positions, float direction) {
  rotate(qkv, positions, cos, sin, width, n_heads, half, max_positions, direction);
}
EXPORT_KERNEL(rope_f32)

extern "C" __global__ void __launch_bounds__(256)
    rope_bf16(bf16* __restrict__ qkv /* (N, W) */, const u32* __restrict__ positions /* (N) */,
              const float* __restrict__ cos /* (P, D/2) */, const float* __restrict__ sin /* (P, D/2) */, int width,
              int n_heads, int half, u32 max_positions, float direction) {
  rotate(qkv, positions, cos, sin, width, n_heads, half, max_positions, direction);
}
EXPORT_KERNEL(rope_bf16)
