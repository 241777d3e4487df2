// RMSNorm of every query head and every key head by itself, and the rotation by its position if there is one, forward and
// backward, in place in the packed projection.
//
// Formula   qkv[n, h, d] = raw[n, h, d] * rstd[n, h] * weight_h[d],   rstd = 1 / sqrt(mean_d(raw^2) + eps);  with
//           positions, rotated as in rope.cu after it (backward: the gradient rotated back before it)
//           d_raw[d] = rstd * (g[d] - raw[d] * rstd^2 * mean_d(g * raw)),  g = d_out * weight_h
//           d_weight[d] += sum over rows and heads of d_out[d] * raw[d] * rstd
//           weight_h is q_weight for the H query heads, k_weight for the K key heads; values are left alone
// Shapes    qkv, d_qkv (N, (H + 2K) D) T | raw (N, (H + K) D) T | rstd (N, H + K) f32 | weights (D) T | parts (P, 2D)
//           f32, those of the queries before those of the keys | positions (N) u32 or null | cos, sin (M, D/2) f32;
//           T = f32 or bf16
// Bytes     s = size of T, R = H + K. forward: s (3 N R D + 2 D) + 4 N R.  backward: s (3 N R D + 2 D) + 4 N R + 16 P
//           D.  With positions 4 N more; the tables stay in the second-level cache.
// Flops     forward ~4 N R D, backward ~11 N R D: memory-bound, judged in GB/s.
// Launch    block (256); D / 8 lanes a head where that divides a warp, with eight elements each in registers, else a
//           warp a head (cuda/head.cuh). forward: grid (ceil(N R lanes / 256)).  backward: grid (P <= 512,
//           384 with positions), 2D + 64 numbers a warp of dynamic shared memory (2D where a head has a warp); then `elementwise_add_column_sums_f32` adds the P parts.
// Guards    a position that is not below M makes the row's heads NaN. Heads of a warp each are not rotated: the host
//           takes rope.cu for them.
// Numerics  sums of a head across its lanes in f32; d_weight per lane, then per warp, then the eight warps, then the
//           parts, in their order.
// Source    Henry et al. 2020, arXiv:2010.04245, as in Hugging Face's Qwen3Attention.
#include "head.cuh"
#include "prelude.cuh"
#include "reduce.cuh"

// Where the rows are and how far their heads are turned; no positions, no turn.
struct Turns {
  const u32* positions;
  const float *cos, *sin;
  u32 max_positions;
};

// v, eight columns a lane of a head of two lanes or more, turned by the row's angle; direction -1 turns back. All lanes of
// the warp come here; `row` counts only where `mine`.
__device__ __forceinline__ void turn(float (&v)[8], const Turns& turns, i64 row, bool mine, int lanes, float direction) {
  const int half = lanes / 2, lane = threadIdx.x % lanes, at = lane % half * 8;
  float c[8], s[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) c[k] = s[k] = __int_as_float(0x7fffffff);
  const u32 position = mine ? turns.positions[row] : turns.max_positions;
  if (position < turns.max_positions) {
    load8(c, turns.cos + (size_t)position * half * 8 + at);
    load8(s, turns.sin + (size_t)position * half * 8 + at);
  }
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const float other = __shfl_xor_sync(0xffffffffu, v[k], half), t = direction * s[k];
    v[k] = lane < half ? v[k] * c[k] - other * t : v[k] * c[k] + other * t;
  }
}

// A head in eight registers a lane; lanes of a warp behind the last head only take part in the sum.
template <class T>
__device__ __forceinline__ void forward_wide(T* qkv, T* raw, float* rstd, const T* q_weight, const T* k_weight, int n,
                                             int n_heads, int n_kv_heads, int d, float eps, const Turns& turns) {
  const int lanes = d / 8, lane = threadIdx.x % lanes, heads = n_heads + n_kv_heads;
  const i64 item = (i64)blockIdx.x * (blockDim.x / lanes) + threadIdx.x / lanes;
  const bool mine = item < (i64)n * heads;
  const i64 row = item / heads;
  const int head = (int)(item - row * heads);
  T* x = qkv + row * (heads + n_kv_heads) * d + (i64)head * d + lane * 8;
  float v[8], w[8], sum = 0.0f;
  if (mine) {
    load8(v, x);
    load8(w, (head < n_heads ? q_weight : k_weight) + lane * 8);
#pragma unroll
    for (int k = 0; k < 8; ++k) sum += v[k] * v[k];
  }
  const float r = 1.0f / sqrtf(head_sum(sum, lanes) / (float)d + eps);
  if (mine) {
    if (lane == 0) rstd[item] = r;
    store8(raw + item * d + lane * 8, v);
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = v[k] * r * w[k];
  }
  if (turns.positions) turn(v, turns, row, mine, lanes, 1.0f);
  if (mine) store8(x, v);
}

// A head of any size, a warp for each.
template <class T>
__device__ __forceinline__ void forward_any(T* qkv, T* raw, float* rstd, const T* q_weight, const T* k_weight, int n,
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

// The share of a warp in d_weight goes to `sums`, 2D numbers for each warp. Where lanes have eight columns each, the k-th
// of all lanes lie side by side, in rows that are 4 floats longer than needed: neither lanes that write meet in a bank
// nor those that read columns in their order.
__device__ __forceinline__ int sums_stride(int d) { return d / 8 + 4; }
__device__ __forceinline__ int sums_of_warp(int d) { return is_wide_head(d) ? 16 * sums_stride(d) : 2 * d; }
__device__ __forceinline__ int place(int i, int d) {
  return is_wide_head(d) ? (i / d * 8 + i % 8) * sums_stride(d) + i % d / 8 : i;
}

// Heads in eight registers a lane; a block takes every gridDim.x-th run of as many heads as it has groups of lanes.
template <bool kTurned, class T>
__device__ __forceinline__ void backward_wide(T* d_qkv, float* sums, const T* raw, const float* rstd, const T* q_weight,
                                              const T* k_weight, int n, int n_heads, int n_kv_heads, int d,
                                              const Turns& turns) {
  const int lanes = d / 8, lane = threadIdx.x % lanes, heads = n_heads + n_kv_heads, run = blockDim.x / lanes;
  // The head of this group of lanes, and how far it is to its next one; no division inside the loop.
  const i64 first = (i64)blockIdx.x * run + threadIdx.x / lanes, step = (i64)gridDim.x * run;
  const i64 step_rows = step / heads;
  const int step_heads = (int)(step - step_rows * heads);
  i64 row = first / heads;
  int head = (int)(first - row * heads);
  float d_q[8], d_k[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) d_q[k] = d_k[k] = 0.0f;
  for (i64 item = (i64)blockIdx.x * run; item < (i64)n * heads; item += step) {  // the block's first
    const bool mine = row < n, is_query = head < n_heads;
    T* d_x = d_qkv + row * (heads + n_kv_heads) * d + (i64)head * d + lane * 8;
    float g[8], x[8], w[8], scale = 0.0f, sum = 0.0f;
    if (mine) load8(g, d_x);
    if (kTurned) turn(g, turns, row, mine, lanes, -1.0f);
    if (mine) {
      load8(x, raw + (row * heads + head) * d + lane * 8);
      load8(w, (is_query ? q_weight : k_weight) + lane * 8);
      scale = rstd[row * heads + head];
#pragma unroll
      for (int k = 0; k < 8; ++k) sum += g[k] * w[k] * x[k];
    }
    const float pull = scale * scale * (head_sum(sum, lanes) / (float)d);
    if (mine) {
#pragma unroll
      for (int k = 0; k < 8; ++k) {
        const float d_weight = g[k] * x[k] * scale;
        d_q[k] += is_query ? d_weight : 0.0f;
        d_k[k] += is_query ? 0.0f : d_weight;
        g[k] = scale * (g[k] * w[k] - x[k] * pull);
      }
      store8(d_x, g);
    }
    row += step_rows, head += step_heads;
    if (head >= heads) row += 1, head -= heads;
  }
  const int stride = sums_stride(d);
  float* own = sums + (threadIdx.x >> 5) * sums_of_warp(d) + lane;
  // Offsets are constants: of a loop from `lanes` on, ptxas 13.0 kept the last offset where `lanes` was wanted after it, and
  // stored outside of the shared memory (seen in the machine code and on a device of capability 9.0).
#pragma unroll
  for (int k = 0; k < 8; ++k) {
#pragma unroll
    for (int offset = 1; offset < 32; offset <<= 1) {
      if (offset < lanes) continue;
      d_q[k] += __shfl_xor_sync(0xffffffffu, d_q[k], offset);
      d_k[k] += __shfl_xor_sync(0xffffffffu, d_k[k], offset);
    }
    if ((int)(threadIdx.x & 31) < lanes) own[k * stride] = d_q[k], own[(8 + k) * stride] = d_k[k];
  }
}

// Heads of any size: a block takes every gridDim.x-th row, a warp every eighth head of it; each lane has its own
// columns of the warp's sums.
template <class T>
__device__ __forceinline__ void backward_any(T* d_qkv, float* sums, const T* raw, const float* rstd, const T* q_weight,
                                             const T* k_weight, int n, int n_heads, int n_kv_heads, int d) {
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
}

template <bool kTurned, class T>
__device__ __forceinline__ void backward(T* d_qkv, float* parts, const T* raw, const float* rstd, const T* q_weight,
                                         const T* k_weight, int n, int n_heads, int n_kv_heads, int d,
                                         const Turns& turns) {
  DYN_SHARED(float, sums);
  if (is_wide_head(d)) backward_wide<kTurned>(d_qkv, sums, raw, rstd, q_weight, k_weight, n, n_heads, n_kv_heads, d, turns);
  else backward_any(d_qkv, sums, raw, rstd, q_weight, k_weight, n, n_heads, n_kv_heads, d);
  __syncthreads();  // the sums of all warps are complete
  for (int i = threadIdx.x; i < 2 * d; i += blockDim.x) {
    float total = 0.0f;
    for (int w = 0; w < 8; ++w) total += sums[w * sums_of_warp(d) + place(i, d)];
    parts[(size_t)blockIdx.x * 2 * d + i] = total;
  }
}

#define QK_NORM(TYPE, T)                                                                                               \
  extern "C" __global__ void __launch_bounds__(256) qk_norm_forward_##TYPE(                                            \
      T* __restrict__ qkv /* (N, (H + 2K) D) */, T* __restrict__ raw /* (N, (H + K) D) */,                             \
      float* __restrict__ rstd /* (N, H + K) */, const T* __restrict__ q_weight /* (D) */,                             \
      const T* __restrict__ k_weight /* (D) */, int n, int n_heads, int n_kv_heads, int d, float eps,                  \
      const u32* __restrict__ positions /* (N) */, const float* __restrict__ cos /* (M, D/2) */,                       \
      const float* __restrict__ sin /* (M, D/2) */, u32 max_positions) {                                               \
    const Turns turns{positions, cos, sin, max_positions};                                                             \
    if (is_wide_head(d)) forward_wide(qkv, raw, rstd, q_weight, k_weight, n, n_heads, n_kv_heads, d, eps, turns);      \
    else forward_any(qkv, raw, rstd, q_weight, k_weight, n, n_heads, n_kv_heads, d, eps);                              \
  }                                                                                                                    \
  EXPORT_KERNEL(qk_norm_forward_##TYPE)                                                                                \
  extern "C" __global__ void __launch_bounds__(256) qk_norm_backward_##TYPE(                                           \
      T* __restrict__ d_qkv /* (N, (H + 2K) D) */, float* __restrict__ parts /* (P, 2D) */,                            \
      const T* __restrict__ raw /* (N, (H + K) D) */, const float* __restrict__ rstd /* (N, H + K) */,                 \
      const T* __restrict__ q_weight /* (D) */, const T* __restrict__ k_weight /* (D) */, int n, int n_heads,          \
      int n_kv_heads, int d) {                                                                                         \
    backward<false>(d_qkv, parts, raw, rstd, q_weight, k_weight, n, n_heads, n_kv_heads, d, Turns{});                  \
  }                                                                                                                    \
  EXPORT_KERNEL(qk_norm_backward_##TYPE)                                                                               \
  extern "C" __global__ void __launch_bounds__(256, 3) qk_norm_rope_backward_##TYPE(                                   \
      T* __restrict__ d_qkv /* (N, (H + 2K) D) */, float* __restrict__ parts /* (P, 2D) */,                            \
      const T* __restrict__ raw /* (N, (H + K) D) */, const float* __restrict__ rstd /* (N, H + K) */,                 \
      const T* __restrict__ q_weight /* (D) */, const T* __restrict__ k_weight /* (D) */, int n, int n_heads,          \
      int n_kv_heads, int d, const u32* __restrict__ positions /* (N) */, const float* __restrict__ cos /* (M, D/2) */,\
      const float* __restrict__ sin /* (M, D/2) */, u32 max_positions) {                                               \
    const Turns turns{positions, cos, sin, max_positions};                                                             \
    backward<true>(d_qkv, parts, raw, rstd, q_weight, k_weight, n, n_heads, n_kv_heads, d, turns);                     \
  }                                                                                                                    \
  EXPORT_KERNEL(qk_norm_rope_backward_##TYPE)

QK_NORM(f32, float)
QK_NORM(bf16, bf16)
