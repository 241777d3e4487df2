// Products of bf16 matrices by warpgroup instructions and tensor memory copies (compute capability 9.0 only).
//
// Formula   as matmul_bf16.cu, which stands beside it and is the measure of its results
// Shapes    out (M, N) f32 or bf16, factors bf16, their addresses and strides multiples of 16 bytes
// Bytes     as matmul_bf16.cu. A block reads (128 + 256) * K * 2 bytes for 2 * 128 * 256 * K operations: 85 FLOP a byte
//           of L2.
// Flops     2*M*N*K on tensor cores; 798 TFLOP/s at 8192^3 is what cuBLAS reaches on an H100.
// Launch    grid (tiles of 128 times tiles of 256), block 384: one warpgroup copies, two multiply 64 rows each; dynamic
//           shared memory of kStages stages and their barriers.
// Numerics  sums in f32 inside the tensor core, in order of k by 16.
#include "gemm.cuh"
#include "warpgroup_product.cuh"

// Writes the sums of a thread at `out`, its first pair: rows apart by eight, pairs of columns by eight. All are inside.
template <bool kAccumulate, class Out>
__device__ __forceinline__ void write_whole(Out* out, size_t eight_rows, const float (&sum)[128], float alpha) {
  constexpr int kTogether = 8;  // old values that are asked for at once
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j0 = 0; j0 < 32; j0 += kTogether) {
      Out* at = out + h * eight_rows + j0 * 8;
      float2 old[kTogether];
#pragma unroll
      for (int j = 0; j < kTogether; ++j) old[j] = kAccumulate ? read_two(at + j * 8) : make_float2(0.f, 0.f);
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        const float v = alpha * sum[4 * (j0 + j) + 2 * h], w = alpha * sum[4 * (j0 + j) + 2 * h + 1];
        write_two(at + j * 8, kAccumulate ? v + old[j].x : v, kAccumulate ? w + old[j].y : w);
      }
    }
}

// As write_whole for a tile that ends outside, or pairs that are not aligned.
template <class Out>
__device__ __forceinline__ void write_ragged(Out* out, int row0, int col0, const float (&sum)[128], bool pairs,
                                             const GemmShape& s) {
#pragma unroll
  for (int j = 0; j < 32; ++j)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = row0 + h * 8, col = col0 + j * 8;
      if (row >= s.m || col >= s.n) continue;
      Out* at = out + (size_t)row * s.out_stride + col;
      const float v = s.alpha * sum[4 * j + 2 * h], w = s.alpha * sum[4 * j + 2 * h + 1];
      if (pairs && col + 1 < s.n) {
        write_two(at, v, w, s.accumulate);
      } else {
        write_one(at, v, s.accumulate);
        if (col + 1 < s.n) write_one(at + 1, w, s.accumulate);
      }
    }
}

template <int kTurnedLeft, int kTurnedRight, class Out>
__device__ __forceinline__ void gemm_tile(Out* out, const TensorMap* left, const TensorMap* right, const GemmShape& s) {
  typedef WarpgroupTile<128, 4, kTurnedLeft, kTurnedRight> Tile;
  DYN_SHARED(u8, memory);
  Tile tile(memory);
  int tile_m, tile_n;
  tile_of_block((s.m + Tile::kTileM - 1) / Tile::kTileM, (s.n + Tile::kTileN - 1) / Tile::kTileN, tile_m, tile_n);
  const int m0 = tile_m * Tile::kTileM, n0 = tile_n * Tile::kTileN, n_stages = (s.k + Tile::kDepth - 1) / Tile::kDepth;
  const int group = threadIdx.x >> 7;
  if (group == 0) {
    registers_decrease<40>();
    if (threadIdx.x == 0) tile.copy(left, right, m0, n0, n_stages);
    return;
  }
  registers_increase<232>();
  float sum[128];
  tile.multiply(sum, group - 1, n_stages);

  const bool pairs = s.out_stride % 2 == 0 && reinterpret_cast<u64>(out) % (2 * sizeof(Out)) == 0;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3;
  const int row0 = m0 + (group - 1) * 64 + warp * 16 + (lane >> 2), col0 = n0 + (lane & 3) * 2;
  if (!pairs || m0 + Tile::kTileM > s.m || n0 + Tile::kTileN > s.n) {
    write_ragged(out, row0, col0, sum, pairs, s);
    return;
  }
  // 64 bits: row * stride exceeds 2^31 from 32768 rows of 65536 on.
  Out* at = out + (size_t)row0 * s.out_stride + col0;
  if (s.accumulate) write_whole<true>(at, (size_t)8 * s.out_stride, sum, s.alpha);
  else write_whole<false>(at, (size_t)8 * s.out_stride, sum, s.alpha);
}

// Parameters: out (M, N) | maps of left and right | sizes and stride; see GemmShape. K is at least 1.
#define GEMM_KERNEL(name, turned_left, turned_right, Out)                                                              \
  extern "C" __global__ void __launch_bounds__(384, 1)                                                                 \
      name(Out* out, const __grid_constant__ TensorMap left, const __grid_constant__ TensorMap right, int m, int n,    \
           int k, int out_stride, int accumulate, float alpha) {                                                       \
    const GemmShape s = {m, n, k, 0, 0, out_stride, k, accumulate, alpha};                                             \
    gemm_tile<turned_left, turned_right>(out, &left, &right, s);                                                       \
  }                                                                                                                    \
  EXPORT_KERNEL(name)

GEMM_KERNEL(matmul_nt_sm90a_bf16, 0, 0, bf16)
GEMM_KERNEL(matmul_nt_sm90a_f32, 0, 0, float)
GEMM_KERNEL(matmul_nn_sm90a_bf16, 0, 1, bf16)
GEMM_KERNEL(matmul_nn_sm90a_f32, 0, 1, float)
GEMM_KERNEL(matmul_tn_sm90a_f32, 1, 1, float)
