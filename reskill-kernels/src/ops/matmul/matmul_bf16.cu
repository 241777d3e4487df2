// Products of bf16 matrices on tensor cores (mma.sync, sm_80 and later).
//
// Formula   out[m, n] (+)= alpha * sum_k left(m, k) * right(n, k), sums in f32
//             nt: left (M, K), right (N, K)    forward:      x, weight
//             nn: left (M, K), right (K, N)    d_x:          d_out, weight
//             tn: left (K, M), right (K, N)    d_weight:     d_out, x
// Shapes    out (M, N) f32 or bf16, factors bf16; row-major, any sizes and strides
// Bytes     DRAM floor 2*(M*K + N*K) + M*N*(2 or 4, twice if added to). N=K=4096, M=8192, bf16 out: 168 MB, 40 us at
//           4.2 TB/s (H200); the products take longer.
// Flops     2*M*N*K on tensor cores: 275 GFLOP at these sizes, 0.35 ms at 792 TFLOP/s (H200, wgmma).
// Launch    grid (tiles of M times tiles of N, 1, splits of K); tile 128x128: block 256, tile 64x64: block 128; dynamic
//           shared memory of kStages stages.
// Numerics  products exact, sums of 16 by the tensor core, then in order of k; both tiles sum in the same order. Bound
//           against f64: simt/tests/matmul.rs.
#include "gemm.cuh"
#include "mma.cuh"

constexpr int kDepth = 32;   // of k in a stage
constexpr int kStages = 4;   // in shared memory, three of them on their way
constexpr int kPad = 8;      // elements after each row that is one of k

// How a factor lies in a stage: rows of k values (as stored with k contiguous), piece p of 16 bytes of row r in place
// p ^ (r / 2 % 4); or a row for each k, padded. Either way the eight rows of an ldmatrix, and the eight pieces that eight
// threads write, fall into eight different groups of banks.
template <bool kContiguous, int kTile>
struct StageOf {
  static constexpr int kRows = kContiguous ? kTile : kDepth;
  static constexpr int kCols = kContiguous ? kDepth : kTile;
  static constexpr int kPitch = kContiguous ? kCols : kCols + kPad;
  static constexpr int kElements = kRows * kPitch;
  static __device__ __forceinline__ int place(int row, int piece) {
    return row * kPitch + (kContiguous ? piece ^ (row >> 1 & 3) : piece) * 8;
  }
};

// Starts copying a kRows x kCols piece into shared memory; what lies beyond `rows` or `cols` becomes zero. `whole` says
// that rows begin at multiples of 16 bytes; else elements are read one by one, and are there at once.
template <class Stage, int kThreads>
__device__ __forceinline__ void load_stage(bf16* stage, const bf16* from, int stride, int rows, int cols, bool whole) {
  constexpr int kPieces = Stage::kCols / 8, kRowStep = kThreads / kPieces;
  static_assert(kRowStep % 8 == 0, "all pieces of a thread have one place in their rows");
  const int first_row = threadIdx.x / kPieces, col = threadIdx.x % kPieces * 8, valid_cols = max(0, min(8, cols - col));
  // 64 bits: row * stride exceeds 2^31 from 32768 rows of 65536 on.
  const bf16* source = from + (size_t)first_row * stride + col;
  // A step of eight rows or more leaves the place within a row as it is.
  bf16* target = stage + Stage::place(first_row, col / 8);
#pragma unroll
  for (int i = 0; i < Stage::kRows / kRowStep; ++i) {
    const int valid = first_row + i * kRowStep < rows ? valid_cols : 0;
    if (whole) {
      cp_async16_zfill(target + i * kRowStep * Stage::kPitch, source, valid * 2);
    } else {
      u32 pairs[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const u32 low = 2 * j < valid ? source[2 * j].bits : 0, high = 2 * j + 1 < valid ? source[2 * j + 1].bits : 0;
        pairs[j] = low | high << 16;
      }
      *reinterpret_cast<uint4*>(target + i * kRowStep * Stage::kPitch) =
          make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
    source += (size_t)kRowStep * stride;
  }
}

// The left fragment of 16 rows from `row` on and 16 k from `k` on.
template <bool kContiguous, class Stage>
__device__ __forceinline__ void load_left(u32 (&a)[4], const bf16* stage, int row, int k) {
  const int lane = threadIdx.x & 31;
  if (kContiguous) {
    // `row` is a multiple of 16: the place depends on the lane alone.
    ldmatrix_x4(a, stage + (row + (lane & 15)) * Stage::kPitch + ((k / 8 + (lane >> 4)) ^ (lane >> 1 & 3)) * 8);
  } else {
    ldmatrix_x4_trans(a, stage + (k + (lane >> 4) * 8 + (lane & 7)) * Stage::kPitch + row + (lane >> 3 & 1) * 8);
  }
}

// The right fragments of 16 columns from `col` on: b[0..2] of the first eight, b[2..4] of the others.
template <bool kContiguous, class Stage>
__device__ __forceinline__ void load_right(u32 (&b)[4], const bf16* stage, int col, int k) {
  const int lane = threadIdx.x & 31;
  if (kContiguous) {
    ldmatrix_x4(b, stage + (col + (lane >> 4) * 8 + (lane & 7)) * Stage::kPitch +
                       ((k / 8 + (lane >> 3 & 1)) ^ (lane >> 1 & 3)) * 8);
  } else {
    ldmatrix_x4_trans(b, stage + (k + (lane & 15)) * Stage::kPitch + col + (lane >> 4) * 8);
  }
}

// One block: a kTile x kTile piece of out, by warps of kWarpM x kWarpN each.
template <bool kLeftK, bool kRightK, int kTile, int kWarpM, int kWarpN, class Out>
__device__ __forceinline__ void gemm_tile(Out* out, const bf16* left, const bf16* right, const GemmShape& s,
                                          i64 split_stride) {
  constexpr int kWarpsN = kTile / kWarpN, kThreads = kTile / kWarpM * kWarpsN * 32;
  constexpr int kI = kWarpM / 16, kJ = kWarpN / 16;
  using Left = StageOf<kLeftK, kTile>;
  using Right = StageOf<kRightK, kTile>;
  constexpr int kStageElements = Left::kElements + Right::kElements;
  DYN_SHARED(bf16, stages);

  int tile_m, tile_n;
  tile_of_block((s.m + kTile - 1) / kTile, (s.n + kTile - 1) / kTile, tile_m, tile_n);
  const int m0 = tile_m * kTile, n0 = tile_n * kTile;
  const int k_begin = blockIdx.z * s.k_split, k_end = min(s.k, k_begin + s.k_split);
  const int n_stages = (max(0, k_end - k_begin) + kDepth - 1) / kDepth;
  const bool whole_left = is_aligned16(left) && s.left_stride % 8 == 0;
  const bool whole_right = is_aligned16(right) && s.right_stride % 8 == 0;

  auto load = [&](int index) {
    bf16* stage = stages + index % kStages * kStageElements;
    const int k0 = k_begin + index * kDepth, depth = k_end - k0;
    if (kLeftK)
      load_stage<Left, kThreads>(stage, left + (size_t)m0 * s.left_stride + k0, s.left_stride, s.m - m0, depth,
                                 whole_left);
    if (!kLeftK)
      load_stage<Left, kThreads>(stage, left + (size_t)k0 * s.left_stride + m0, s.left_stride, depth, s.m - m0,
                                 whole_left);
    stage += Left::kElements;
    if (kRightK)
      load_stage<Right, kThreads>(stage, right + (size_t)n0 * s.right_stride + k0, s.right_stride, s.n - n0, depth,
                                  whole_right);
    if (!kRightK)
      load_stage<Right, kThreads>(stage, right + (size_t)k0 * s.right_stride + n0, s.right_stride, depth, s.n - n0,
                                  whole_right);
  };

  const int warp = threadIdx.x >> 5, warp_m = warp / kWarpsN * kWarpM, warp_n = warp % kWarpsN * kWarpN;
  float sum[kI][2 * kJ][4] = {};
#pragma unroll
  for (int index = 0; index < kStages - 1; ++index) {
    if (index < n_stages) load(index);
    cp_async_commit();
  }
  for (int index = 0; index < n_stages; ++index) {
    cp_async_wait<kStages - 2>();
    __syncthreads();  // this stage is there for all, and nobody reads the one before any more
    if (index + kStages - 1 < n_stages) load(index + kStages - 1);
    cp_async_commit();  // possibly of nothing: a group a stage keeps the count
    const bf16* left_stage = stages + index % kStages * kStageElements;
    const bf16* right_stage = left_stage + Left::kElements;
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      u32 a[kI][4], b[kJ][4];
#pragma unroll
      for (int i = 0; i < kI; ++i) load_left<kLeftK, Left>(a[i], left_stage, warp_m + i * 16, k);
#pragma unroll
      for (int j = 0; j < kJ; ++j) load_right<kRightK, Right>(b[j], right_stage, warp_n + j * 16, k);
#pragma unroll
      for (int i = 0; i < kI; ++i)
#pragma unroll
        for (int j = 0; j < kJ; ++j) {
          const u32 first[2] = {b[j][0], b[j][1]}, second[2] = {b[j][2], b[j][3]};
          mma_m16n8k16_bf16(sum[i][2 * j], a[i], first);
          mma_m16n8k16_bf16(sum[i][2 * j + 1], a[i], second);
        }
    }
  }

  out += (size_t)blockIdx.z * split_stride;
  const bool pairs = s.out_stride % 2 == 0 && reinterpret_cast<u64>(out) % (2 * sizeof(Out)) == 0;
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int i = 0; i < kI; ++i)
#pragma unroll
    for (int j = 0; j < 2 * kJ; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row = m0 + warp_m + i * 16 + half * 8 + (lane >> 2), col = n0 + warp_n + j * 8 + (lane & 3) * 2;
        if (row >= s.m || col >= s.n) continue;
        Out* at = out + (size_t)row * s.out_stride + col;
        const float v = s.alpha * sum[i][j][2 * half], w = s.alpha * sum[i][j][2 * half + 1];
        if (pairs && col + 1 < s.n) {
          write_two(at, v, w, s.accumulate);
        } else {
          write_one(at, v, s.accumulate);
          if (col + 1 < s.n) write_one(at + 1, w, s.accumulate);
        }
      }
}

// Parameters: out (M, N) | left | right | sizes, strides; see GemmShape.
#define GEMM_KERNEL(name, left_k, right_k, tile, warp_m, warp_n, threads, Out)                                     \
  extern "C" __global__ void __launch_bounds__(threads, threads == 256 ? 2 : 3)                                    \
      name(Out* out, const bf16* left, const bf16* right, int m, int n, int k, int left_stride, int right_stride,  \
           int out_stride, int k_split, int accumulate, float alpha, i64 split_stride) {                           \
    const GemmShape s = {m, n, k, left_stride, right_stride, out_stride, k_split, accumulate, alpha};              \
    gemm_tile<left_k, right_k, tile, warp_m, warp_n>(out, left, right, s, split_stride);                           \
  }                                                                                                                \
  EXPORT_KERNEL(name)

GEMM_KERNEL(matmul_nt_128_bf16, true, true, 128, 64, 32, 256, bf16)
GEMM_KERNEL(matmul_nt_128_f32, true, true, 128, 64, 32, 256, float)
GEMM_KERNEL(matmul_nn_128_bf16, true, false, 128, 64, 32, 256, bf16)
GEMM_KERNEL(matmul_nn_128_f32, true, false, 128, 64, 32, 256, float)
GEMM_KERNEL(matmul_tn_128_f32, false, false, 128, 64, 32, 256, float)
GEMM_KERNEL(matmul_nt_64_bf16, true, true, 64, 32, 32, 128, bf16)
GEMM_KERNEL(matmul_nt_64_f32, true, true, 64, 32, 32, 128, float)
GEMM_KERNEL(matmul_nn_64_bf16, true, false, 64, 32, 32, 128, bf16)
GEMM_KERNEL(matmul_nn_64_f32, true, false, 64, 32, 32, 128, float)
GEMM_KERNEL(matmul_tn_64_f32, false, false, 64, 32, 32, 128, float)
