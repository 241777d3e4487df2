// RMSNorm of every query head and every key head by itself, forward and backward, in place in the packed projection.
//
// Formula   qkv[n, h, d] = raw[n, h, d] * rstd[n, h] * weight_h[d],   rstd = 1 / sqrt(mean_d(raw^2) + eps)
//           d_raw[d] = rstd * (g[d] - raw[d] * rstd^2 * mean_d(g * raw)),  g = d_out * weight_h
//           d_weight[d] += sum over rows and heads of d_out[d] * raw[d] * rstd
//           weight_h is q_weight for the H query heads, k_weight for the K key heads; values are left alone
// Shapes    qkv, d_qkv (N, (H + 2K) D) T | raw (N, (H + K) D) T | rstd (N, H + K) f32 | weights (D) T | parts (P, 2D)
//           f32, those of the queries before those of the keys;  T = f32 or bf16
// Bytes     s = size of T, R = H + K. forward: s (3 N R D + 2 D) + 4 N R.  backward: s (3 N R D + 2 D) + 4 N R + 16 P
//           D.
// Flops     forward ~4 N R D, backward ~11 N R D: memory-bound, judged in GB/s.
// Launch    a warp a head, block (256). forward: grid (ceil(N R / 8)).  backward: grid (P <= 512), 64 D bytes of
//           dynamic shared memory; then `elementwise_add_column_sums_f32` adds the P parts.
// Numerics  sums of a head across one warp in f32; d_weight per warp, then the eight warps, then the parts, in their
//           order.
// Source    Henry et al. 2020, arXiv:2010.04245, as in Hugging Face's Qwen3Attention.
#include "prelude.cuh"
#include "reduce.cuh"

template <class T>
__device__ __forceinline__ void forward(T* qkv, T* raw, float* rstd, const T* q_weight, const T* k_weight, int n,
                                        int n_heads, int n_kv_heads, int d, float eps) {
  const int lane = threadIdx.x & 31, heads = n_heads + n_kv_heads;
  const i64 item = (i64)blockIdx.x * 8 + (threadIdx.x >> 5);
  if (item >= (i64)n * heads) return;  // a whole warp
  const i64 row = item / heads;
  const int head = (int)(item % heads);
  T* x = qkv + row * (heads + n_kv_heads) * d + (i64)head * d;
  T* kept = raw + item * d;
  const T* weight = head < n_heads ? q_weight : k_weight;
  float sum = 0.0f;
  for (int i = lane; i < d; i += 32) {
    const float value = to_f32(x[i]);
    sum += value * value;
  }
  const float r = 1.0f / sqrtf(warp_sum(sum) / (float)d + eps);
  if (lane == 0) rstd[item] = r;
  for (int i = lane; i < d; i += 32) {
    const T value = x[i];
    kept[i] = value;
    x[i] = from_f32<T>(to_f32(value) * r * to_f32(weight[i]));
  }
}

extern "C" __global__ void __launch_bounds__(256)
    qk_norm_forward_f32(float* __restrict__ qkv /* (N, (H + 2K) D) */, float* __restrict__ raw /* (N, (H + K) D) */,
                        float* __restrict__ rstd /* (N, H + K) */, const float* __restrict__ q_weight /* (D) */,
                        const float* __restrict__ k_weight /* (D) */, int n, int n_heads, int n_kv_heads, int d,
                        float eps) {
  forward(qkv, raw, rstd, q_weight, k_weight, n, n_heads, n_kv_heads, d, eps);
}
EXPORT_KERNEL(qk_norm_forward_f32)

extern "C" __global__ void __launch_bounds__(256)
    qk_norm_forward_bf16(bf16* __restrict__ qkv /* (N, (H + 2K) D) */, bf16* __restrict__ raw /* (N, (H + K) D) */,
                         float* __restrict__ rstd /* (N, H + K) */, const bf16* __restrict__ q_weight /* (D) */,
                         const bf16* __restrict__ k_weight /* (D) */, int n, int n_heads, int n_kv_heads, int d,
                         float eps) {
  forward(qkv, raw, rstd, q_weight, k_weight, n, n_heads, n_kv_heads, d, eps);
}
EXPORT_KERNEL(qk_norm_forward_bf16)

// A block takes every gridDim.x-th row, a warp every eighth head of it. Each warp has a row of 2D sums of its own in
// shared memory, each lane its own columns there.
template <class T>
__device__ __forceinline__ void backward(T* d_qkv, float* parts, const T* raw, const float* rstd, const T* q_weight,
                                         const T* k_weight, int n, int n_heads, int n_kv_heads, int d) {
  DYN_SHARED(float, sums);
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, heads = n_heads + n_kv_heads;
  float* own = sums + warp * 2 * d;
  for (int i = lane; i < d; i += 32) own[i] = own[d + i] = 0.0f;
  for (int r = blockIdx.x; r < n; r += gridDim.x) {
    for (int head = warp; head < heads; head += 8) {
      T* d_x = d_qkv + (i64)r * (heads + n_kv_heads) * d + (i64)head * d;
      const T* x = raw + ((i64)r * heads + head) * d;
      const T* weight = head < n_heads ? q_weight : k_weight;
      float* to = head < n_heads ? own : own + d;
      const float scale = rstd[(i64)r * heads + head];
      float sum = 0.0f;
      for (int i = lane; i < d; i += 32) sum += to_f32(d_x[i]) * to_f32(weight[i]) * to_f32(x[i]);
      const float pull = scale * scale * (warp_sum(sum) / (float)d);
      for (int i = lane; i < d; i += 32) {
        const float d_out = to_f32(d_x[i]), value = to_f32(x[i]);
        to[i] += d_out * value * scale;
        d_x[i] = from_f32<T>(scale * (d_out * to_f32(weight[i]) - value * pull));
      }
    }
  }
  __syncthreads();  // the sums of all warps are complete
  for (int i = threadIdx.x; i < 2 * d; i += blockDim.x) {
    float total = 0.0f;
    for (int w = 0; w < 8; ++w) total += sums[w * 2 * d + i];
    parts[(size_t)blockIdx.x * 2 * d + i] = total;
  }
}

extern "C" __global__ void __launch_bounds__(256)
    qk_norm_backward_f32(float* __restrict__ d_qkv /* (N, (H + 2K) D) */, float* __restrict__ parts /* (P, 2D) */,
                         const float* __restrict__ raw /* (N, (H + K) D) */,
                         const float* __restrict__ rstd /* (N, H + K) */, const float* __restrict__ q_weight /* (D) */,
                         const float* __restrict__ k_weight /* (D) */, int n, int n_heads, int n_kv_heads, int d) {
  backward(d_qkv, parts, raw, rstd, q_weight, k_weight, n, n_heads, n_kv_heads, d);
}
EXPORT_KERNEL(qk_norm_backward_f32)

extern "C" __global__ void __launch_bounds__(256)
    qk_norm_backward_bf16(bf16* __restrict__ d_qkv /* (N, (H + 2K) D) */, float* __restrict__ parts /* (P, 2D) */,
                          const bf16* __restrict__ raw /* (N, (H + K) D) */,
                          const float* __restrict__ rstd /* (N, H + K) */, const bf16* __restrict__ q_weight /* (D) */,
                          const bf16* __restrict__ k_weight /* (D) */, int n, int n_heads, int n_kv_heads, int d) {
  backward(d_qkv, parts, raw, rstd, q_weight, k_weight, n, n_heads, n_kv_heads, d);
}
EXPORT_KERNEL(qk_norm_backward_bf16)
