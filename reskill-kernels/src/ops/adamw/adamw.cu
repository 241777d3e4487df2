// AdamW: one step of all elements of a tensor.
//
// Formula   g = scale * grad;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//           w -= lr (m' / (sqrt(v') + eps) + decay w),  m' = m / bias1,  v' = v / bias2,  bias = 1 - beta^step (by the
//           host)
// Shapes    weight (n) f32, or bf16 beside master (n) f32 | m, v, grad (n) f32 | scale (1) f32
// Bytes     f32: 28 n (weight, m, v read and written, grad read).  bf16: 30 n (master, m, v read and written, grad
//           read, weight written).
// Flops     ~14 n with a root and two divisions: memory-bound, judged in GB/s.
// Launch    grid (ceil(n / (256 W))), block (256); W = 8 elements a thread if n is a multiple of 8, else 1.
// Numerics  f32, in the order of the CPU version. With bf16 weights the f32 master moves and the weight is its
//           rounding, so small steps are not lost.
// Guards    a scale that is not finite (its gradient norm was not) changes nothing: the host learns of it later.
// Source    Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2.
#include "prelude.cuh"
#include "row.cuh"

struct Numbers {
  float learning_rate, beta1, beta2, eps, weight_decay, bias1, bias2, scale;
};

__device__ __forceinline__ bool is_finite(float x) { return (__float_as_uint(x) & 0x7f800000u) != 0x7f800000u; }

__device__ __forceinline__ void element(float& w, float& m, float& v, float grad, const Numbers& numbers) {
  const float g = grad * numbers.scale;
  m = numbers.beta1 * m + (1.0f - numbers.beta1) * g;
  v = numbers.beta2 * v + (1.0f - numbers.beta2) * g * g;
  const float update = (m / numbers.bias1) / (sqrtf(v / numbers.bias2) + numbers.eps);
  w -= numbers.learning_rate * (update + numbers.weight_decay * w);
}

// `rounded` is the bf16 weight, or null where `w` is the weight itself.
template <int W>
__device__ __forceinline__ void step_run(bf16* rounded, float* w, float* m, float* v, const float* grad,
                                         const Numbers& numbers, i64 n) {
  // 64-bit: an embedding of 151,936 x 16,384 has more than 2^31 elements.
  const i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * W;
  if (i >= n) return;
  float at_w[W], at_m[W], at_v[W], at_grad[W];
  load(at_w, w + i);
  load(at_m, m + i);
  load(at_v, v + i);
  load(at_grad, grad + i);
#pragma unroll
  for (int k = 0; k < W; ++k) element(at_w[k], at_m[k], at_v[k], at_grad[k], numbers);
  store(w + i, at_w);
  store(m + i, at_m);
  store(v + i, at_v);
  if (rounded) store(rounded + i, at_w);
}

__device__ __forceinline__ void step(bf16* rounded, float* w, float* m, float* v, const float* grad, const float* scale,
                                     Numbers numbers, i64 n) {
  numbers.scale = *scale;
  if (!is_finite(numbers.scale)) return;
  if (n % 8 == 0) step_run<8>(rounded, w, m, v, grad, numbers, n);
  else step_run<1>(rounded, w, m, v, grad, numbers, n);
}

extern "C" __global__ void __launch_bounds__(256)
    adamw_f32(float* __restrict__ weight /* (n) */, float* __restrict__ m /* (n) */, float* __restrict__ v /* (n) */,
              const float* __restrict__ grad /* (n) */, const float* __restrict__ scale /* (1) */, float learning_rate,
              float beta1, float beta2, float eps, float weight_decay, float bias1, float bias2, i64 n) {
  step(nullptr, weight, m, v, grad, scale, Numbers{learning_rate, beta1, beta2, eps, weight_decay, bias1, bias2, 1.0f},
       n);
}
EXPORT_KERNEL(adamw_f32)

extern "C" __global__ void __launch_bounds__(256)
    adamw_bf16(bf16* __restrict__ weight /* (n) */, float* __restrict__ master /* (n) */,
               float* __restrict__ m /* (n) */, float* __restrict__ v /* (n) */,
               const float* __restrict__ grad /* (n) */, const float* __restrict__ scale /* (1) */, float learning_rate,
               float beta1, float beta2, float eps, float weight_decay, float bias1, float bias2, i64 n) {
  step(weight, master, m, v, grad, scale, Numbers{learning_rate, beta1, beta2, eps, weight_decay, bias1, bias2, 1.0f},
       n);
}
EXPORT_KERNEL(adamw_bf16)
