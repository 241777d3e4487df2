// The columns of a low-rank addition: added to the columns of a wider row, and taken from the columns of a wider
// gradient.
//
// Formula   add: out[n, first + o] += scale * added[n, o]        take: taken[n, o] = scale * d_out[n, first + o]
// Shapes    out, d_out (N, W) T row-major, W >= first + O | added (N, O) f32 | taken (N, O) T;  T = f32 or bf16
// Bytes     s = size of T. add: N O (2 s + 4).  take: 2 s N O.
// Flops     2 N O and N O: judged in GB/s; the products before and after are matmuls.
// Launch    grid (N, ceil(O / 256)), block (256).
// Numerics  f32; one rounding to T.
// Source    Hu et al. 2021, arXiv:2106.09685, section 4.1.
#include "prelude.cuh"

template <class T>
__device__ __forceinline__ void add_columns(T* out, const float* added, int width, int first, int outputs,
                                            float scale) {
  const int o = blockIdx.y * blockDim.x + threadIdx.x;
  if (o >= outputs) return;
  // 64-bit: N W passes 2^31 at 65,536 rows of 32,768.
  T* to = out + (size_t)blockIdx.x * width + first + o;
  *to = from_f32<T>(to_f32(*to) + scale * added[(size_t)blockIdx.x * outputs + o]);
}

extern "C" __global__ void __launch_bounds__(256)
    low_rank_add_columns_f32(float* __restrict__ out /* (N, W) */, const float* __restrict__ added /* (N, O) */,
                             int width, int first, int outputs, float scale) {
  add_columns(out, added, width, first, outputs, scale);
}
EXPORT_KERNEL(low_rank_add_columns_f32)

extern "C" __global__ void __launch_bounds__(256)
    low_rank_add_columns_bf16(bf16* __restrict__ out /* (N, W) */, const float* __restrict__ added /* (N, O) */,
                              int width, int first, int outputs, float scale) {
  add_columns(out, added, width, first, outputs, scale);
}
EXPORT_KERNEL(low_rank_add_columns_bf16)

template <class T>
__device__ __forceinline__ void take_columns(T* taken, const T* d_out, int width, int first, int outputs, float scale) {
  const int o = blockIdx.y * blockDim.x + threadIdx.x;
  if (o >= outputs) return;
  const float d = to_f32(d_out[(size_t)blockIdx.x * width + first + o]);
  taken[(size_t)blockIdx.x * outputs + o] = from_f32<T>(scale * d);
}

extern "C" __global__ void __launch_bounds__(256)
    low_rank_take_columns_f32(float* __restrict__ taken /* (N, O) */, const float* __restrict__ d_out /* (N, W) */,
                              int width, int first, int outputs, float scale) {
  take_columns(taken, d_out, width, first, outputs, scale);
}
EXPORT_KERNEL(low_rank_take_columns_f32)

extern "C" __global__ void __launch_bounds__(256)
    low_rank_take_columns_bf16(bf16* __restrict__ taken /* (N, O) */, const bf16* __restrict__ d_out /* (N, W) */,
                               int width, int first, int outputs, float scale) {
  take_columns(taken, d_out, width, first, outputs, scale);
}
EXPORT_KERNEL(low_rank_take_columns_bf16)
