// AdamW with moments of eight bits in blocks of 256 that share a scale.
//
// Formula   as adamw.cu; the codes: eight_bit.rs beside this file
// Shapes    weight, grad (n) f32 | m, v (n) u8 | m_scale, v_scale (ceil(n/256)) f32 | shadow (n) bf16 or null
// Bytes     16*n + 16*ceil(n/256) (+ 2*n for the bf16 copy)
// Flops     ~40*n: bound by memory
// Launch    grid (ceil(n/2048)), block (256): a warp a block of moments, eight neighbouring elements a lane
// Numerics  every multiplication, addition, division and root rounded alone, as on the CPU: codes and weights are the
//           CPU's, to the bit
// Source    arXiv:1711.05101, algorithm 2; block-wise moments: Dettmers et al. 2022, arXiv:2110.02861
#include "prelude.cuh"

struct StepNumbers {
  float learning_rate, beta1, beta2, eps, weight_decay, grad_scale, bias1, bias2;
};

#define DROPPED 20
#define HALF (1u << 19)
#define ONE (0x3f800000u >> DROPPED)
#define OFFSET_M (ONE - 127u)
#define OFFSET_V (ONE - 255u)

// Rounds (x.abs bits) to three bits of fraction and counts from `offset`.
__device__ __forceinline__ u32 magnitude_of(float x, u32 offset, u32 largest) {
  const u32 bits = (__float_as_uint(fabsf(x)) + HALF) >> DROPPED;
  const u32 code = bits > offset ? bits - offset : 0;
  return code < largest ? code : largest;
}
__device__ __forceinline__ u32 code_m(float x) {
  const u32 magnitude = magnitude_of(x, OFFSET_M, 127);
  return x < 0.f && magnitude > 0 ? magnitude | 0x80u : magnitude;
}
__device__ __forceinline__ u32 code_v(float x) {
  if (!(x > 0.f)) return 0;
  const u32 code = magnitude_of(x, OFFSET_V, 255);
  return code > 1 ? code : 1;
}
__device__ __forceinline__ float value_m(u32 code, float scale) {
  const u32 magnitude = code & 0x7fu;
  const float x = magnitude ? __uint_as_float((magnitude + OFFSET_M) << DROPPED) : 0.f;
  return code & 0x80u ? -x * scale : x * scale;
}
__device__ __forceinline__ float value_v(u32 code, float scale) {
  return (code ? __uint_as_float((code + OFFSET_V) << DROPPED) : 0.f) * scale;
}

__device__ __forceinline__ float scale_of(float largest, float* inverse) {
  *inverse = largest > 1.17549435e-38f ? __fdiv_rn(1.f, largest) : 0.f;
  return *inverse == 0.f ? 0.f : largest;
}

extern "C" __global__ void __launch_bounds__(256) adamw_8bit(float* weight, bf16* shadow, unsigned char* m_codes,
                                                            unsigned char* v_codes, float* m_scale, float* v_scale,
                                                            const float* grad, u64 n, StepNumbers p) {
  const u64 block = (u64)blockIdx.x * 8 + (threadIdx.x >> 5), first = block * 256 + (threadIdx.x & 31) * 8;
  if (block * 256 >= n) return;                          // a whole warp
  const float m_of = m_scale[block], v_of = v_scale[block];
  float m[8], v[8], m_largest = 0.f, v_largest = 0.f;
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    m[e] = v[e] = 0.f;
    const u64 i = first + e;
    if (i >= n) continue;
    const float g = __fmul_rn(grad[i], p.grad_scale), w = weight[i];
    m[e] = __fadd_rn(__fmul_rn(p.beta1, value_m(m_codes[i], m_of)), __fmul_rn(1.f - p.beta1, g));
    v[e] = __fadd_rn(__fmul_rn(p.beta2, value_v(v_codes[i], v_of)), __fmul_rn(__fmul_rn(1.f - p.beta2, g), g));
    const float root = __fadd_rn(__fsqrt_rn(__fdiv_rn(v[e], p.bias2)), p.eps);
    const float update = __fdiv_rn(__fdiv_rn(m[e], p.bias1), root);
    const float moved = __fadd_rn(w, -__fmul_rn(p.learning_rate, __fadd_rn(update, __fmul_rn(p.weight_decay, w))));
    weight[i] = moved;
    if (shadow) shadow[i] = to_bf16(moved);
    // A NaN is no largest, as on the CPU.
    if (fabsf(m[e]) > m_largest) m_largest = fabsf(m[e]);
    if (fabsf(v[e]) > v_largest) v_largest = fabsf(v[e]);
  }
  float m_inverse, v_inverse;
  const float m_new = scale_of(warp_max(m_largest), &m_inverse), v_new = scale_of(warp_max(v_largest), &v_inverse);
  if ((threadIdx.x & 31) == 0) { m_scale[block] = m_new; v_scale[block] = v_new; }
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    if (first + e >= n) continue;
    m_codes[first + e] = (unsigned char)code_m(__fmul_rn(m[e], m_inverse));
    v_codes[first + e] = (unsigned char)code_v(__fmul_rn(v[e], v_inverse));
  }
}
EXPORT_KERNEL(adamw_8bit)
