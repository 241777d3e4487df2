// A bias added to every row, and its gradient.
//
// Formula   out[n, o] += bias[o]        d_bias[o] += sum_n d_out[n, o]
// Shapes    out, d_out (N, O) T row-major | bias (O) T | d_bias (O) f32 | parts (P, O) f32;  T = f32 or bf16
// Bytes     s = size of T. forward: s (2 N O + O).  backward: s N O + 8 P O + 8 O.
// Flops     N O additions each: judged in GB/s.
// Launch    forward: grid (N, ceil(O / (256 W))), block (256), W = 8 elements a thread if O is a multiple of 8, else 1.
//           backward: grid (ceil(O / 256), P <= 256), block (256); then `elementwise_add_column_sums_f32` adds the P
//           parts.
// Numerics  f32. Part p sums every P-th row, in order; the parts are added in one fixed order.
#include "prelude.cuh"
#include "row.cuh"

template <int W, class T>
__device__ __forceinline__ void add_run(T* out, const T* bias, int o) {
  const int i = (blockIdx.y * blockDim.x + threadIdx.x) * W;
  if (i >= o) return;
  // 64-bit: N O passes 2^31 at 65,536 rows of 32,768.
  T* to = out + (size_t)blockIdx.x * o + i;
  float v[W], b[W];
  load(v, to);
  load(b, bias + i);
#pragma unroll
  for (int k = 0; k < W; ++k) v[k] += b[k];
  store(to, v);
}

template <class T>
__device__ __forceinline__ void forward(T* out, const T* bias, int o) {
  if (o % 8 == 0) add_run<8>(out, bias, o);
  else add_run<1>(out, bias, o);
}

extern "C" __global__ void __launch_bounds__(256)
bias_forward_f32(float* __restrict__ out /* (N, O) */, const float* __restrict__ bias /* (O) */, int o) {
  forward(out, bias, o);
}
EXPORT_KERNEL(bias_forward_f32)

extern "C" __global__ void __launch_bounds__(256)
bias_forward_bf16(bf16* __restrict__ out /* (N, O) */, const bf16* __restrict__ bias /* (O) */, int o) {
  forward(out, bias, o);
}
EXPORT_KERNEL(bias_forward_bf16)

template <class T>
__device__ __forceinline__ void backward(float* parts, const T* d_out, int n, int o) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= o) return;
  float sum = 0.0f;
  for (int row = blockIdx.y; row < n; row += gridDim.y) sum += to_f32(d_out[(size_t)row * o + column]);
  parts[(size_t)blockIdx.y * o + column] = sum;
}

extern "C" __global__ void __launch_bounds__(256)
bias_backward_f32(float* __restrict__ parts /* (P, O) */, const float* __restrict__ d_out /* (N, O) */, int n, int o) {
  backward(parts, d_out, n, o);
}
EXPORT_KERNEL(bias_backward_f32)

extern "C" __global__ void __launch_bounds__(256)
bias_backward_bf16(float* __restrict__ parts /* (P, O) */, const bf16* __restrict__ d_out /* (N, O) */, int n, int o) {
  backward(parts, d_out, n, o);
}
EXPORT_KERNEL(bias_backward_bf16)
