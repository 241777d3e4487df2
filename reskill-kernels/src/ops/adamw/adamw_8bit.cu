// AdamW with moments of eight bits in blocks of 256 that share a scale.
//
// Formula   as adamw.cu; the codes: eight_bit.rs beside this file
// Shapes    weight, grad (n) f32 | m, v (n) u8 | m_scale, v_scale (ceil(n/256)) f32 | grad_scale (1) f32
// Bytes     16*n + 16*ceil(n/256)
// Flops     ~40*n: bound by memory
// Launch    grid (ceil(n/2048)), block (256): a warp a block of moments, eight neighbouring elements a lane
// Numerics  every multiplication, addition, division and root rounded alone, as on the CPU: codes and weights are the
//           CPU's, to the bit; a factor on the gradient that is not finite changes nothing
// Source    arXiv:1711.05101, algorithm 2; block-wise moments: Dettmers et al. 2022, arXiv:2110.02861
#include "prelude.cuh"
#include "reduce.cuh"

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

extern "C" __global__ void __launch_bounds__(256)
    adamw_8bit(float* weight, u8* m_codes, u8* v_codes, float* m_scale, float* v_scale, const float* grad,
               const float* grad_scale, i64 n, float learning_rate, float beta1, float beta2, float eps,
               float weight_decay, float bias1, float bias2) {
  const StepNumbers p{learning_rate, beta1, beta2, eps, weight_decay, grad_scale[0], bias1, bias2};
  if ((__float_as_uint(p.grad_scale) & 0x7f800000u) == 0x7f800000u) return;   // not finite
  const i64 block = (i64)blockIdx.x * 8 + (threadIdx.x >> 5), first = block * 256 + (threadIdx.x & 31) * 8;
  if (block * 256 >= n) return;                          // a whole warp
  const float m_of = m_scale[block], v_of = v_scale[block];
  const bool whole = first + 8 <= n && is_aligned16(weight + first) && is_aligned16(grad + first);
  float w[8], g[8], m[8], v[8], m_largest = 0.f, v_largest = 0.f;
  __align__(16) u8 codes[16];                                        // eight of m, eight of v
  if (whole) {
    load8(w, weight + first);
    load8(g, grad + first);
    *reinterpret_cast<uint2*>(codes) = *reinterpret_cast<const uint2*>(m_codes + first);
    *reinterpret_cast<uint2*>(codes + 8) = *reinterpret_cast<const uint2*>(v_codes + first);
  } else {
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const bool inside = first + e < n;
      w[e] = inside ? weight[first + e] : 0.f;
      g[e] = inside ? grad[first + e] : 0.f;
      codes[e] = inside ? m_codes[first + e] : (u8)0;
      codes[e + 8] = inside ? v_codes[first + e] : (u8)0;
    }
  }
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    const float grad_of = __fmul_rn(g[e], p.grad_scale);
    m[e] = __fadd_rn(__fmul_rn(p.beta1, value_m(codes[e], m_of)), __fmul_rn(1.f - p.beta1, grad_of));
    v[e] = __fadd_rn(__fmul_rn(p.beta2, value_v(codes[e + 8], v_of)),
                     __fmul_rn(__fmul_rn(1.f - p.beta2, grad_of), grad_of));
    const float root = __fadd_rn(__fsqrt_rn(__fdiv_rn(v[e], p.bias2)), p.eps);
    const float update = __fdiv_rn(__fdiv_rn(m[e], p.bias1), root);
    w[e] = __fadd_rn(w[e], -__fmul_rn(p.learning_rate, __fadd_rn(update, __fmul_rn(p.weight_decay, w[e]))));
    // A NaN is no largest, as on the CPU; an element that is not there may be one (0 / 0), and counts nothing.
    if (first + e < n && fabsf(m[e]) > m_largest) m_largest = fabsf(m[e]);
    if (first + e < n && fabsf(v[e]) > v_largest) v_largest = fabsf(v[e]);
  }
  float m_inverse, v_inverse;
  const float m_new = scale_of(warp_max(m_largest), &m_inverse), v_new = scale_of(warp_max(v_largest), &v_inverse);
  if ((threadIdx.x & 31) == 0) { m_scale[block] = m_new; v_scale[block] = v_new; }
#pragma unroll
  for (int e = 0; e < 8; ++e) {
    codes[e] = (u8)code_m(__fmul_rn(m[e], m_inverse));
    codes[e + 8] = (u8)code_v(__fmul_rn(v[e], v_inverse));
  }
  if (whole) {
    store8(weight + first, w);
    *reinterpret_cast<uint2*>(m_codes + first) = *reinterpret_cast<const uint2*>(codes);
    *reinterpret_cast<uint2*>(v_codes + first) = *reinterpret_cast<const uint2*>(codes + 8);
    return;
  }
  for (int e = 0; e < 8 && first + e < n; ++e) {
    weight[first + e] = w[e];
    m_codes[first + e] = codes[e];
    v_codes[first + e] = codes[e + 8];
  }
}
EXPORT_KERNEL(adamw_8bit)
