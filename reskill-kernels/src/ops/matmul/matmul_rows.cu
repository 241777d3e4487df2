// Products of few rows with a weight: decoding, bound by reading the weight.
//
// Formula   out[m, o] (+)= alpha * sum_k x[m, k] * weight[o, k]
// Shapes    x (M, K), M <= 32 for bf16, any for f32; weight (O, K); out (M, O) bf16 or f32
// Bytes     DRAM floor = the weight, 2*O*K (bf16): O=K=4096: 34 MB, 8 us at 4.2 TB/s (H200). Each byte is
//           read once, 16 at a time, straight into registers.
// Flops     2*M*O*K; on tensor cores for bf16, so that they never decide.
// Launch    bf16: grid (O / (16 * R)), block 256: eight warps share K in turns of 64 and add up in shared memory.
//           f32: grid (O / 4, M / 8), block 128: a warp an output.
// Numerics  a row's result does not depend on the other rows or on how many there are.
#include "gemm.cuh"
#include "mma.cuh"
#include "reduce.cuh"

constexpr int kWarps = 8;
constexpr int kTurn = 64;  // of k that a warp takes at once

__device__ __forceinline__ uint4 load16_or_zero(const bf16* p, bool there) {
  return there ? __ldcs(reinterpret_cast<const uint4*>(p)) : make_uint4(0, 0, 0, 0);
}

// The weight is the left factor of the mma (16 outputs), x the right one (8 rows). Sums over k may be in any order as
// long as both factors agree, so lane t of a group of four takes the 8 consecutive k at 8 t of each run of 32: element
// pairs 0, 1 are one instruction's k slots 2t and 2t + 8, pairs 2, 3 those of a second instruction.
template <int kTiles, int kOutputs, class Out>  // 8 * kTiles rows of x, 16 * kOutputs outputs a block
__device__ __forceinline__ void rows_tile(Out* out, const bf16* x, const bf16* weight, int m, int n, int k,
                                          int x_stride, int weight_stride, int out_stride, int accumulate,
                                          float alpha) {
  constexpr int kColumns = 16 * kOutputs;
  // Eights of columns stand in an order that turns with the row, so that the lanes of a warp write to different banks.
  SHARED(float, parts, [kWarps][8 * kTiles * kColumns]);
  auto place = [](int row, int col) { return (row * kColumns + col) ^ (row >> 1 & 3) * 8; };
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane >> 2, t = lane & 3;
  const int o0 = blockIdx.x * 16 * kOutputs;
  float sum[kOutputs][kTiles][4] = {};
#pragma unroll 2
  for (int k0 = warp * kTurn; k0 < k; k0 += kWarps * kTurn) {
    uint4 w[kOutputs][2][2], v[kTiles][2];
#pragma unroll
    for (int run = 0; run < 2; ++run) {
      const int at = k0 + run * 32 + t * 8;  // K is a multiple of 8: all eight are there, or none
#pragma unroll
      for (int i = 0; i < kOutputs; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int o = o0 + i * 16 + half * 8 + group;
          // 64 bits: o * stride exceeds 2^31 for 524288 outputs of 4096.
          w[i][half][run] = load16_or_zero(weight + (size_t)o * weight_stride + at, o < n && at < k);
        }
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        const int row = j * 8 + group;
        const bool there = row < m && at < k;
        v[j][run] = there ? *reinterpret_cast<const uint4*>(x + (size_t)row * x_stride + at) : make_uint4(0, 0, 0, 0);
      }
    }
#pragma unroll
    for (int i = 0; i < kOutputs; ++i)
#pragma unroll
      for (int run = 0; run < 2; ++run) {
        const uint4 low = w[i][0][run], high = w[i][1][run];
        const u32 first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
        for (int j = 0; j < kTiles; ++j) {
          const u32 b_first[2] = {v[j][run].x, v[j][run].y}, b_second[2] = {v[j][run].z, v[j][run].w};
          mma_m16n8k16_bf16(sum[i][j], first, b_first);
          mma_m16n8k16_bf16(sum[i][j], second, b_second);
        }
      }
  }
#pragma unroll
  for (int i = 0; i < kOutputs; ++i)
#pragma unroll
    for (int j = 0; j < kTiles; ++j)
#pragma unroll
      for (int q = 0; q < 4; ++q)
        parts[warp][place(j * 8 + t * 2 + (q & 1), i * 16 + (q >> 1) * 8 + group)] = sum[i][j][q];
  __syncthreads();  // the parts of all warps are there
  for (int i = threadIdx.x; i < 8 * kTiles * kColumns; i += 256) {
    const int row = i / kColumns, col = i % kColumns, o = o0 + col;
    if (row >= m || o >= n) continue;
    float all = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) all += parts[w][place(row, col)];
    write_one(out + (size_t)row * out_stride + o, alpha * all, accumulate);
  }
}

// Parameters: out (M, O) | x (M, K) | weight (O, K) | sizes and strides. K and the strides of x and weight are
// multiples of 8, both addresses of 16 bytes.
#define ROWS_KERNEL(name, tiles, outputs, Out)                                                                     \
  extern "C" __global__ void __launch_bounds__(256)                                                                \
      name(Out* out, const bf16* x, const bf16* weight, int m, int n, int k, int x_stride, int weight_stride,      \
           int out_stride, int accumulate, float alpha) {                                                          \
    rows_tile<tiles, outputs>(out, x, weight, m, n, k, x_stride, weight_stride, out_stride, accumulate, alpha);    \
  }                                                                                                                \
  EXPORT_KERNEL(name)

ROWS_KERNEL(matmul_rows_8_bf16, 1, 1, bf16)
ROWS_KERNEL(matmul_rows_8_f32, 1, 1, float)
ROWS_KERNEL(matmul_rows_16_bf16, 2, 1, bf16)
ROWS_KERNEL(matmul_rows_16_f32, 2, 1, float)
ROWS_KERNEL(matmul_rows_32_bf16, 4, 2, bf16)
ROWS_KERNEL(matmul_rows_32_f32, 4, 2, float)

// A warp an output and eight rows: lanes share k, 16 bytes at a time where addresses allow.
extern "C" __global__ void __launch_bounds__(128) matmul_exact_rows(
    float* out,           // (M, O)
    const float* x,       // (M, K)
    const float* weight,  // (O, K)
    int m, int n, int k, int x_stride, int weight_stride, int out_stride, int accumulate, float alpha) {
  const int lane = threadIdx.x & 31, o = blockIdx.x * 4 + (threadIdx.x >> 5), m0 = blockIdx.y * 8;
  if (o >= n) return;
  const float* row = weight + (size_t)o * weight_stride;
  x += (size_t)m0 * x_stride;
  const int n_rows = min(8, m - m0);
  float sum[8] = {};
  const bool whole =
      is_aligned16(weight) && is_aligned16(x) && k % 4 == 0 && weight_stride % 4 == 0 && x_stride % 4 == 0;
  if (whole) {
    for (int at = lane * 4; at < k; at += 128) {
      const float4 w = *reinterpret_cast<const float4*>(row + at);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        if (i >= n_rows) break;
        const float4 v = *reinterpret_cast<const float4*>(x + (size_t)i * x_stride + at);
        sum[i] = fmaf(w.w, v.w, fmaf(w.z, v.z, fmaf(w.y, v.y, fmaf(w.x, v.x, sum[i]))));
      }
    }
  } else {
    for (int at = lane; at < k; at += 32) {
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (i < n_rows) sum[i] = fmaf(row[at], x[(size_t)i * x_stride + at], sum[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const float all = warp_sum(sum[i]);
    if (lane == 0 && i < n_rows) write_one(out + (size_t)(m0 + i) * out_stride + o, alpha * all, accumulate);
  }
}
EXPORT_KERNEL(matmul_exact_rows)
