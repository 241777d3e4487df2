// RMSNorm, forward (of a row, or of the sum of a residual and a row) and backward.
//
// Formula   out[n, c] = x[n, c] * rstd[n] * weight[c],   rstd[n] = 1 / sqrt(mean_c(x[n, c]^2) + eps)
//           residual: sum = residual + x rounded to T, then the same of `sum` in place of x
//           d_x[n, c] += rstd[n] * (g[n, c] - x[n, c] * rstd[n]^2 * mean_c(g[n, c] * x[n, c])),  g = d_out * weight
//           d_weight[c] += sum_n d_out[n, c] * x[n, c] * rstd[n]
// Shapes    x, residual, sum, out, d_x, d_out (N, C) T row-major | weight (C) T | rstd (N) f32 | parts (P, C) f32;  T =
//           f32 or bf16
// Bytes     s = size of T. forward: s (2 N C + C) + 4 N, with a residual s (4 N C + C) + 4 N; columns that do not stay
//           in registers are read again, from the first-level cache.  backward: s (4 N C + C) + 4 N + 8 P C; d_x is
//           read and written; long rows are read twice, the second time from the first-level cache. Rows of a multiple
//           of 8 elements are read 16 bytes at a time.
// Flops     forward ~4 N C (5 N C with a residual), backward ~11 N C: memory-bound, judged in GB/s.
// Launch    block (32..256), a thread for 8 columns (1 if C is not a multiple of 8), and for several runs of them in
//           long rows, where C is above 2,048 (256).  forward: grid (N).  backward: grid (P <= 512), C f32 of dynamic
//           shared memory for long rows; then `elementwise_add_column_sums_f32` adds the P parts of d_weight.
// Numerics  all sums in f32, in an order that depends on the block's size alone; 1 / sqrtf, not rsqrtf, for its last
//           digits. The norm of a sum is that of the rounded sum: what the backward pass reads.
// Source    Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4; eps as in Hugging Face's LlamaRMSNorm.
#include "prelude.cuh"
#include "reduce.cuh"
#include "row.cuh"

// The norm of a row, or of the sum of two rows, which is written as well. W: elements a thread takes at once, 8 if C is
// a multiple of 8, else 1. A thread's first W columns stay in registers between the sum of squares and the output.
template <int W, bool RESIDUAL, class T>
__device__ __forceinline__ void forward_row(T* out, T* sum, float* rstd, const T* x, const T* residual, const T* weight,
                                            int c, float eps) {
  // 64-bit: N * C passes 2^31 at 524,288 rows of 4,096.
  const size_t row = (size_t)blockIdx.x * c;
  const int first = threadIdx.x * W, step = blockDim.x * W;
  float squares = 0.0f, held[W], v[W], w[W];
  auto read = [&](float(&to)[W], int i) {
    load(to, x + row + i);
    if (RESIDUAL) {
      load(v, residual + row + i);
#pragma unroll
      for (int k = 0; k < W; ++k) to[k] = to_f32(from_f32<T>(v[k] + to[k]));
      store(sum + row + i, to);
    }
#pragma unroll
    for (int k = 0; k < W; ++k) squares += to[k] * to[k];
  };
  if (first < c) {
    load(w, weight + first);
    read(held, first);
  }
  for (int i = first + step; i < c; i += step) {
    float other[W];
    read(other, i);
  }
  const float r = 1.0f / sqrtf(block_sum(squares) / (float)c + eps);
  if (threadIdx.x == 0) rstd[blockIdx.x] = r;
  auto write = [&](float(&from)[W], int i) {
#pragma unroll
    for (int k = 0; k < W; ++k) from[k] = from[k] * r * w[k];
    store(out + row + i, from);
  };
  if (first < c) write(held, first);
  for (int i = first + step; i < c; i += step) {
    load(held, (RESIDUAL ? sum : x) + row + i);
    load(w, weight + i);
    write(held, i);
  }
}

template <bool RESIDUAL, class T>
__device__ __forceinline__ void forward(T* out, T* sum, float* rstd, const T* x, const T* residual, const T* weight,
                                        int c, float eps) {
  if (c % 8 == 0) forward_row<8, RESIDUAL>(out, sum, rstd, x, residual, weight, c, eps);
  else forward_row<1, RESIDUAL>(out, sum, rstd, x, residual, weight, c, eps);
}

#define RMS_NORM_FORWARD(TYPE, T)                                                                                     \
  extern "C" __global__ void __launch_bounds__(256) rms_norm_forward_##TYPE(                                          \
      T* __restrict__ out /* (N, C) */, float* __restrict__ rstd /* (N) */, const T* __restrict__ x /* (N, C) */,     \
      const T* __restrict__ weight /* (C) */, int c, float eps) {                                                     \
    forward<false, T>(out, nullptr, rstd, x, nullptr, weight, c, eps);                                                \
  }                                                                                                                   \
  EXPORT_KERNEL(rms_norm_forward_##TYPE)                                                                              \
  extern "C" __global__ void __launch_bounds__(256) residual_rms_norm_forward_##TYPE(                                 \
      T* __restrict__ out /* (N, C) */, T* __restrict__ sum /* (N, C) */, float* __restrict__ rstd /* (N) */,         \
      const T* __restrict__ x /* (N, C) */, const T* __restrict__ residual /* (N, C) */,                              \
      const T* __restrict__ weight /* (C) */, int c, float eps) {                                                     \
    forward<true, T>(out, sum, rstd, x, residual, weight, c, eps);                                                    \
  }                                                                                                                   \
  EXPORT_KERNEL(residual_rms_norm_forward_##TYPE)

RMS_NORM_FORWARD(f32, float)
RMS_NORM_FORWARD(bf16, bf16)

// Each block takes every gridDim.x-th row and adds up its share of d_weight. A thread has the same columns in every
// row, so nobody else reads or writes its part of the share, and no barrier stands between rows but those of block_sum.

// What a thread needs of a row, W columns.
template <int W> struct BackwardRow {
  float d[W], v[W], to[W], rstd;
};

// Rows that one run of the block covers (c <= W * blockDim.x): weight and share stay in registers, and a row is asked for
// while the one before is worked on.
template <int W, class T>
__device__ __forceinline__ void backward_short_rows(T* d_x, float* parts, const T* d_out, const T* x, const T* weight,
                                                    const float* rstd, int n, int c) {
  const int i = threadIdx.x * W;
  const bool mine = i < c;
  float w[W], d_weight[W];
#pragma unroll
  for (int k = 0; k < W; ++k) w[k] = d_weight[k] = 0.0f;
  if (mine) load(w, weight + i);
  auto read = [&](BackwardRow<W>& to, int r) {
#pragma unroll
    for (int k = 0; k < W; ++k) to.d[k] = to.v[k] = to.to[k] = 0.0f;
    to.rstd = 0.0f;
    if (r >= n) return;
    const size_t row = (size_t)r * c;
    to.rstd = rstd[r];
    if (!mine) return;
    load(to.d, d_out + row + i);
    load(to.v, x + row + i);
    load(to.to, d_x + row + i);
  };
  BackwardRow<W> at, next;
  read(at, blockIdx.x);
  for (int r = blockIdx.x; r < n; r += gridDim.x) {
    read(next, r + gridDim.x);
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < W; ++k) sum += at.d[k] * w[k] * at.v[k];
    const float scale = at.rstd, pull = scale * scale * (block_sum(sum) / (float)c);
#pragma unroll
    for (int k = 0; k < W; ++k) {
      at.to[k] += scale * (at.d[k] * w[k] - at.v[k] * pull);
      d_weight[k] += at.d[k] * at.v[k] * scale;
    }
    if (mine) store(d_x + (size_t)r * c + i, at.to);
    at = next;
  }
  if (mine) store(parts + (size_t)blockIdx.x * c + i, d_weight);
}

// Longer rows: the share lies in shared memory.
template <int W, class T>
__device__ __forceinline__ void backward_long_rows(T* d_x, float* parts, const T* d_out, const T* x, const T* weight,
                                                   const float* rstd, int n, int c, float* d_weight) {
  const int first = threadIdx.x * W, step = blockDim.x * W;
  for (int i = first; i < c; i += step) {
#pragma unroll
    for (int k = 0; k < W; ++k) d_weight[i + k] = 0.0f;
  }
  float d[W], v[W], w[W], to[W];
  for (int r = blockIdx.x; r < n; r += gridDim.x) {
    const size_t row = (size_t)r * c;
    const float scale = rstd[r];
    float sum = 0.0f;
    for (int i = first; i < c; i += step) {
      load(d, d_out + row + i);
      load(v, x + row + i);
      load(w, weight + i);
#pragma unroll
      for (int k = 0; k < W; ++k) sum += d[k] * w[k] * v[k];
    }
    const float pull = scale * scale * (block_sum(sum) / (float)c);
    for (int i = first; i < c; i += step) {
      load(d, d_out + row + i);
      load(v, x + row + i);
      load(w, weight + i);
      load(to, d_x + row + i);
#pragma unroll
      for (int k = 0; k < W; ++k) {
        to[k] += scale * (d[k] * w[k] - v[k] * pull);
        d_weight[i + k] += d[k] * v[k] * scale;
      }
      store(d_x + row + i, to);
    }
  }
  for (int i = first; i < c; i += step) {
#pragma unroll
    for (int k = 0; k < W; ++k) parts[(size_t)blockIdx.x * c + i + k] = d_weight[i + k];
  }
}

template <int W, class T>
__device__ __forceinline__ void backward_rows(T* d_x, float* parts, const T* d_out, const T* x, const T* weight,
                                              const float* rstd, int n, int c, float* d_weight) {
  if (c <= W * (int)blockDim.x) backward_short_rows<W>(d_x, parts, d_out, x, weight, rstd, n, c);
  else backward_long_rows<W>(d_x, parts, d_out, x, weight, rstd, n, c, d_weight);
}

template <class T>
__device__ __forceinline__ void backward(T* d_x, float* parts, const T* d_out, const T* x, const T* weight,
                                         const float* rstd, int n, int c) {
  DYN_SHARED(float, d_weight);
  if (c % 8 == 0) backward_rows<8>(d_x, parts, d_out, x, weight, rstd, n, c, d_weight);
  else backward_rows<1>(d_x, parts, d_out, x, weight, rstd, n, c, d_weight);
}

extern "C" __global__ void __launch_bounds__(256)
    rms_norm_backward_f32(float* __restrict__ d_x /* (N, C) */, float* __restrict__ parts /* (P, C) */,
                          const float* __restrict__ d_out /* (N, C) */, const float* __restrict__ x /* (N, C) */,
                          const float* __restrict__ weight /* (C) */, const float* __restrict__ rstd /* (N) */, int n,
                          int c) {
  backward(d_x, parts, d_out, x, weight, rstd, n, c);
}
EXPORT_KERNEL(rms_norm_backward_f32)

extern "C" __global__ void __launch_bounds__(256)
    rms_norm_backward_bf16(bf16* __restrict__ d_x /* (N, C) */, float* __restrict__ parts /* (P, C) */,
                           const bf16* __restrict__ d_out /* (N, C) */, const bf16* __restrict__ x /* (N, C) */,
                           const bf16* __restrict__ weight /* (C) */, const float* __restrict__ rstd /* (N) */, int n,
                           int c) {
  backward(d_x, parts, d_out, x, weight, rstd, n, c);
}
EXPORT_KERNEL(rms_norm_backward_bf16)
