// Products of f32 matrices by ordinary multiply-adds, and the sum of what several splits of K gave.
//
// Formula   out[m, n] (+)= alpha * sum_k left(m, k) * right(n, k), as in matmul_bf16.cu
// Shapes    out (M, N), factors f32; row-major, any sizes and strides
// Bytes     DRAM floor 4*(M*K + N*K + M*N).
// Flops     2*M*N*K without tensor cores: 67 TFLOP/s at most on an H100. TF32 is not used: this is the exact path.
// Launch    grid (tiles of M times tiles of N, 1, splits of K), block 256, static shared memory. The reduction: grid
//           (M, columns / 256), block 256; the comparison: grid (M), block 256.
// Numerics  fused multiply-adds in order of k, the same for both tiles; splits are added in order.
#include "gemm.cuh"
#include "reduce.cuh"

constexpr int kDepth = 16;  // of k in a stage

// One block: a kTile x kTile piece of out; each thread kEach x kEach of it, as runs of four kTile / (kEach / 4) apart,
// so that the threads of a warp read neighbouring 16 bytes.
template <bool kLeftK, bool kRightK, int kTile, int kEach>
__device__ __forceinline__ void gemm_tile(float* out, const float* left, const float* right, const GemmShape& s,
                                          i64 split_stride) {
  constexpr int kAcross = kTile / kEach, kLoads = kTile * kDepth / 256, kRun = kTile / (kEach / 4);
  static_assert(kAcross * kAcross == 256, "256 threads cover the tile");
  SHARED(float, left_stage, [2][kDepth][kTile + 4]);
  SHARED(float, right_stage, [2][kDepth][kTile + 4]);

  int tile_m, tile_n;
  tile_of_block((s.m + kTile - 1) / kTile, (s.n + kTile - 1) / kTile, tile_m, tile_n);
  const int m0 = tile_m * kTile, n0 = tile_n * kTile, t = threadIdx.x;
  const int k_begin = blockIdx.z * s.k_split, k_end = min(s.k, k_begin + s.k_split);

  // Element `i` of this thread's share of a stage: neighbouring threads read neighbouring addresses.
  auto row_of = [&](bool contiguous, int i) { return contiguous ? (t + i * 256) / kDepth : (t + i * 256) % kTile; };
  auto depth_of = [&](bool contiguous, int i) { return contiguous ? (t + i * 256) % kDepth : (t + i * 256) / kTile; };
  float next_left[kLoads], next_right[kLoads];
  auto fetch = [&](int k0) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      const int m = m0 + row_of(kLeftK, i), n = n0 + row_of(kRightK, i);
      const int kl = k0 + depth_of(kLeftK, i), kr = k0 + depth_of(kRightK, i);
      // 64 bits: row * stride exceeds 2^31 from 32768 rows of 65536 on.
      const size_t at_left = kLeftK ? (size_t)m * s.left_stride + kl : (size_t)kl * s.left_stride + m;
      const size_t at_right = kRightK ? (size_t)n * s.right_stride + kr : (size_t)kr * s.right_stride + n;
      next_left[i] = m < s.m && kl < k_end ? left[at_left] : 0.0f;
      next_right[i] = n < s.n && kr < k_end ? right[at_right] : 0.0f;
    }
  };
  auto keep = [&](int stage) {
#pragma unroll
    for (int i = 0; i < kLoads; ++i) {
      left_stage[stage][depth_of(kLeftK, i)][row_of(kLeftK, i)] = next_left[i];
      right_stage[stage][depth_of(kRightK, i)][row_of(kRightK, i)] = next_right[i];
    }
  };

  const int ty = t / kAcross, tx = t % kAcross;
  float sum[kEach][kEach] = {};
  if (k_begin < k_end) {
    fetch(k_begin);
    keep(0);
  }
  __syncthreads();  // the first stage is there
  for (int k0 = k_begin, stage = 0; k0 < k_end; k0 += kDepth, stage ^= 1) {
    if (k0 + kDepth < k_end) fetch(k0 + kDepth);
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float a[kEach], b[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        a[i] = left_stage[stage][k][i / 4 * kRun + ty * 4 + i % 4];
        b[i] = right_stage[stage][k][i / 4 * kRun + tx * 4 + i % 4];
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i)
#pragma unroll
        for (int j = 0; j < kEach; ++j) sum[i][j] = fmaf(a[i], b[j], sum[i][j]);
    }
    // The other stage was last read before the barrier that ended the iteration before.
    if (k0 + kDepth < k_end) keep(stage ^ 1);
    __syncthreads();  // the next stage is there for all, and all have read this one
  }

  out += (size_t)blockIdx.z * split_stride;
#pragma unroll
  for (int i = 0; i < kEach; ++i)
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const int row = m0 + i / 4 * kRun + ty * 4 + i % 4, col = n0 + j / 4 * kRun + tx * 4 + j % 4;
      if (row < s.m && col < s.n) write_one(out + (size_t)row * s.out_stride + col, s.alpha * sum[i][j], s.accumulate);
    }
}

// Parameters: out (M, N) | left | right | sizes, strides; see GemmShape.
#define GEMM_KERNEL(name, left_k, right_k, tile, each)                                                                 \
  extern "C" __global__ void __launch_bounds__(256)                                                                    \
      name(float* out, const float* left, const float* right, int m, int n, int k, int left_stride, int right_stride,  \
           int out_stride, int k_split, int accumulate, float alpha, i64 split_stride) {                               \
    const GemmShape s = {m, n, k, left_stride, right_stride, out_stride, k_split, accumulate, alpha};                  \
    gemm_tile<left_k, right_k, tile, each>(out, left, right, s, split_stride);                                         \
  }                                                                                                                    \
  EXPORT_KERNEL(name)

GEMM_KERNEL(matmul_exact_nt_128, true, true, 128, 8)
GEMM_KERNEL(matmul_exact_nn_128, true, false, 128, 8)
GEMM_KERNEL(matmul_exact_tn_128, false, false, 128, 8)
GEMM_KERNEL(matmul_exact_nt_64, true, true, 64, 4)
GEMM_KERNEL(matmul_exact_nn_64, true, false, 64, 4)
GEMM_KERNEL(matmul_exact_tn_64, false, false, 64, 4)

// out[m, n] (+)= alpha * sum_z parts[z, m, n], in order of z.
template <class Out>
__device__ __forceinline__ void add_parts(Out* out, const float* parts, int n, int splits, int out_stride,
                                          int accumulate, float alpha) {
  const int col = blockIdx.y * 256 + threadIdx.x;
  if (col >= n) return;
  const size_t rows = gridDim.x, row = blockIdx.x;
  float sum = 0.0f;
  for (int z = 0; z < splits; ++z) sum += parts[(z * rows + row) * n + col];
  write_one(out + row * out_stride + col, alpha * sum, accumulate);
}
extern "C" __global__ void __launch_bounds__(256) matmul_reduce_f32(
    float* out,          // (M, N), rows out_stride apart
    const float* parts,  // (splits, M, N)
    int n, int splits, int out_stride, int accumulate, float alpha) {
  add_parts(out, parts, n, splits, out_stride, accumulate, alpha);
}
EXPORT_KERNEL(matmul_reduce_f32)
extern "C" __global__ void __launch_bounds__(256) matmul_reduce_bf16(
    bf16* out,           // (M, N), rows out_stride apart
    const float* parts,  // (splits, M, N)
    int n, int splits, int out_stride, int accumulate, float alpha) {
  add_parts(out, parts, n, splits, out_stride, accumulate, alpha);
}
EXPORT_KERNEL(matmul_reduce_bf16)

// rows[m] = max_n |a[m, n] - b[m, n]| / max_n |a[m, n]|, 0 for rows of zeros, NaN if anything is not finite.
template <class T>
__device__ __forceinline__ void row_distance(float* rows, const T* a, const T* b, int n) {
  const size_t row = (size_t)blockIdx.x * n;
  float far = 0.0f, largest = 0.0f, odd = 0.0f;
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    const float x = to_f32(a[row + i]), y = to_f32(b[row + i]);
    far = fmaxf(far, fabsf(x - y));
    largest = fmaxf(largest, fabsf(x));
    odd += x * 0.0f + y * 0.0f;  // NaN if x or y is not finite, which fmaxf would pass over
  }
  far = block_max(far);
  largest = block_max(largest);
  odd = block_sum(odd);
  if (threadIdx.x == 0) rows[blockIdx.x] = odd + (far == 0.0f ? 0.0f : far / largest);
}
extern "C" __global__ void __launch_bounds__(256) matmul_distance_f32(
    float* rows,     // (M)
    const float* a,  // (M, N)
    const float* b,  // (M, N)
    int n) {
  row_distance(rows, a, b, n);
}
EXPORT_KERNEL(matmul_distance_f32)
extern "C" __global__ void __launch_bounds__(256) matmul_distance_bf16(
    float* rows,    // (M)
    const bf16* a,  // (M, N)
    const bf16* b,  // (M, N)
    int n) {
  row_distance(rows, a, b, n);
}
EXPORT_KERNEL(matmul_distance_bf16)
