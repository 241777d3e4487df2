// SwiGLU, forward and backward.
//
// Formula   out = silu(gate) * up,  silu(z) = z s(z),  s(z) = 1 / (1 + e^-z)
//           d_gate = d_out * up * s (1 + gate (1 - s)),  d_up = d_out * gate * s
// Shapes    gate_up, d_gate_up (N, 2F) T row-major, the gates of a row before its ups | out, d_out (N, F) T;  T = f32
//           or bf16
// Bytes     s = size of T. forward: s 3 N F.  backward: s 5 N F.
// Flops     forward 5 N F with one exponential, backward 11 N F: memory-bound, judged in GB/s.
// Launch    grid (N, ceil(F / (256 W))), block (256); W = 8 elements a thread if F is a multiple of 8, else 1.
// Numerics  f32 throughout; expf, whose overflow to infinity gives s = 0, the limit. For bf16 the quick exponential and
//           quotient, without branches: s within some 1e-5 of itself for gates above -88, where a bf16 is rounded by
//           2e-3; below, where 1 + e^-z passes 2^126, the quotient is 0, also the limit.
// Source    Shazeer 2020, arXiv:2002.05202.
#include "prelude.cuh"
#include "row.cuh"

// s(z) as accurate as T can tell.
template <class T> __device__ __forceinline__ float sigmoid(float z);
template <> __device__ __forceinline__ float sigmoid<float>(float z) { return 1.0f / (1.0f + expf(-z)); }
template <> __device__ __forceinline__ float sigmoid<bf16>(float z) { return __fdividef(1.0f, 1.0f + __expf(-z)); }

template <int W, class T>
__device__ __forceinline__ void forward_run(T* out, const T* gate_up, int f) {
  const int i = (blockIdx.y * blockDim.x + threadIdx.x) * W;
  if (i >= f) return;
  // 64-bit: 2 N F passes 2^31 at 65,536 rows of 16,384.
  const size_t row = (size_t)blockIdx.x * f;
  float gate[W], up[W];
  load(gate, gate_up + 2 * row + i);
  load(up, gate_up + 2 * row + f + i);
#pragma unroll
  for (int k = 0; k < W; ++k) gate[k] = gate[k] * sigmoid<T>(gate[k]) * up[k];
  store(out + row + i, gate);
}

template <class T>
__device__ __forceinline__ void forward(T* out, const T* gate_up, int f) {
  if (f % 8 == 0) forward_run<8>(out, gate_up, f);
  else forward_run<1>(out, gate_up, f);
}

extern "C" __global__ void __launch_bounds__(256)
swiglu_forward_f32(float* __restrict__ out /* (N, F) */, const float* __restrict__ gate_up /* (N, 2F) */, int f) {
  forward(out, gate_up, f);
}
EXPORT_KERNEL(swiglu_forward_f32)

extern "C" __global__ void __launch_bounds__(256)
swiglu_forward_bf16(bf16* __restrict__ out /* (N, F) */, const bf16* __restrict__ gate_up /* (N, 2F) */, int f) {
  forward(out, gate_up, f);
}
EXPORT_KERNEL(swiglu_forward_bf16)

template <int W, class T>
__device__ __forceinline__ void backward_run(T* d_gate_up, const T* d_out, const T* gate_up, int f) {
  const int i = (blockIdx.y * blockDim.x + threadIdx.x) * W;
  if (i >= f) return;
  const size_t row = (size_t)blockIdx.x * f;
  float gate[W], up[W], d[W];
  load(gate, gate_up + 2 * row + i);
  load(up, gate_up + 2 * row + f + i);
  load(d, d_out + row + i);
#pragma unroll
  for (int k = 0; k < W; ++k) {
    const float s = sigmoid<T>(gate[k]);
    const float d_up = d[k] * gate[k] * s;
    gate[k] = d[k] * up[k] * s * (1.0f + gate[k] * (1.0f - s));
    up[k] = d_up;
  }
  store(d_gate_up + 2 * row + i, gate);
  store(d_gate_up + 2 * row + f + i, up);
}

template <class T>
__device__ __forceinline__ void backward(T* d_gate_up, const T* d_out, const T* gate_up, int f) {
  if (f % 8 == 0) backward_run<8>(d_gate_up, d_out, gate_up, f);
  else backward_run<1>(d_gate_up, d_out, gate_up, f);
}

extern "C" __global__ void __launch_bounds__(256, 4)
swiglu_backward_f32(float* __restrict__ d_gate_up /* (N, 2F) */, const float* __restrict__ d_out /* (N, F) */,
                    const float* __restrict__ gate_up /* (N, 2F) */, int f) {
  backward(d_gate_up, d_out, gate_up, f);
}
EXPORT_KERNEL(swiglu_backward_f32)

extern "C" __global__ void __launch_bounds__(256)
swiglu_backward_bf16(bf16* __restrict__ d_gate_up /* (N, 2F) */, const bf16* __restrict__ d_out /* (N, F) */,
                     const bf16* __restrict__ gate_up /* (N, 2F) */, int f) {
  backward(d_gate_up, d_out, gate_up, f);
}
EXPORT_KERNEL(swiglu_backward_bf16)
