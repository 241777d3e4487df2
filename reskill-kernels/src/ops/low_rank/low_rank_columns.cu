// Gradients of the factors of a low-rank addition of rank 64 at most in bf16: parts of their sums over rows.
//
// Formula   parts of d_b[o, r]: scale * sum_n d_out[n, first + o] inner[n, r]
//           parts of d_a[r, i]: sum_n d_inner[n, r] x[n, i]
// Shapes    d_out (N, W) row-major, W >= first + O | x (N, I) | inner, d_inner (N, K), K = R rounded up to 16, 32 or 64, zero
//           from R on; all bf16. parts (P, O R + R I) f32: of d_b, then of d_a. R, I, O, W and first are multiples of 8.
// Bytes     2 N (O + I) + 4 N K + 4 P R (O + I).
// Flops     2 N R (O + I): judged in GB/s.
// Launch    grid (ceil(O / 128) + ceil(I / 128), P), block (128), three stages of 64 rows in dynamic shared memory. Part p takes
//           every P-th tile of 64 rows, from the last on, all parts side by side: the rows that were read last before this
//           kernel are still in L2. `elementwise_add_column_sums_f32` adds the parts.
// Numerics  f32 sums in a fixed order.
#include "mma.cuh"
#include "prelude.cuh"

constexpr int kRows = 64, kColumns = 128;  // of a tile
constexpr int kStages = 3;
constexpr int kThreads = 128;

// Tiles of `data` and of the inner values beside it, in shared memory.
//   data   [64][128], piece p of 8 columns of row q in place p ^ (q % 8): the 8 rows that an ldmatrix reads lie in different banks
//   inner  [64][K + 8], to the same end
template <int K> struct Stage {
  static constexpr int LD = K + 8;
  static constexpr int DATA = kRows * kColumns, SIZE = DATA + kRows * LD;
};

struct Columns {
  const bf16* data;   // the first of this block's columns
  const bf16* inner;  // (N, K)
  int ld, n_columns;  // elements of a row; columns from the first on
};

template <int K>
__device__ __forceinline__ void copy(bf16* stage, const Columns& of, int row0, int n) {
  constexpr int kPieces = kColumns / 8, kInnerPieces = K / 8;
  const int piece = threadIdx.x % kPieces;
#pragma unroll
  for (int i = 0; i < kRows * kPieces / kThreads; ++i) {
    const int line = threadIdx.x / kPieces + i * (kThreads / kPieces), row = row0 + line;
    const bool there = row < n && piece * 8 < of.n_columns;
    // 64 bits: N W passes 2^31 at 65,536 rows of 32,768.
    const bf16* from = of.data + (there ? (size_t)row * of.ld + piece * 8 : 0);
    cp_async16_zfill(stage + line * kColumns + (piece ^ (line & 7)) * 8, from, there ? 16 : 0);
  }
#pragma unroll
  for (int i = 0; i < kRows * kInnerPieces / kThreads; ++i) {
    const int at = threadIdx.x + i * kThreads, line = at / kInnerPieces, row = row0 + line, column = at % kInnerPieces * 8;
    const bool there = row < n;
    const bf16* from = of.inner + (there ? (size_t)row * K + column : 0);
    cp_async16_zfill(stage + Stage<K>::DATA + line * Stage<K>::LD + column, from, there ? 16 : 0);
  }
}

// sum[i][j] of columns m0 + 16 i .. of the tile and r = 8 j ..: the left side is the tile, the right one the inner values.
template <int K>
__device__ __forceinline__ void multiply(float (&sum)[2][K / 8][4], const bf16* stage, int m0) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int k = 0; k < kRows; k += 16) {
    u32 a[2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int line = k + (lane & 7) + (lane >> 4) * 8, piece = m0 / 8 + i * 2 + (lane >> 3 & 1);
      ldmatrix_x4_trans(a[i], stage + line * kColumns + (piece ^ (line & 7)) * 8);
    }
#pragma unroll
    for (int j = 0; j < K / 8; j += 2) {
      u32 r[4];
      const int line = k + (lane & 7) + (lane >> 3 & 1) * 8;
      ldmatrix_x4_trans(r, stage + Stage<K>::DATA + line * Stage<K>::LD + j * 8 + (lane >> 4) * 8);
      const u32 left[2] = {r[0], r[1]}, right[2] = {r[2], r[3]};
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        mma_m16n8k16_bf16(sum[i][j], a[i], left);
        mma_m16n8k16_bf16(sum[i][j + 1], a[i], right);
      }
    }
  }
}

template <int K>
__device__ __forceinline__ void factor_parts(float* parts, const bf16* d_out, const bf16* x, const bf16* inner,
                                             const bf16* d_inner, int n, int inputs, int rank, int outputs, int width,
                                             int first, float scale) {
  DYN_SHARED(bf16, stages);
  const int output_blocks = (outputs + kColumns - 1) / kColumns;
  const bool of_b = (int)blockIdx.x < output_blocks;
  const int c0 = (blockIdx.x - (of_b ? 0 : output_blocks)) * kColumns;
  const Columns of = of_b ? Columns{d_out + first + c0, inner, width, outputs - c0} : Columns{x + c0, d_inner, inputs, inputs - c0};
  const int tiles = (n + kRows - 1) / kRows, step = gridDim.y, last = tiles - 1 - (int)blockIdx.y;
  int load = last;
  auto copy_next = [&](int stage) {
    if (load >= 0) copy<K>(stages + stage * Stage<K>::SIZE, of, load * kRows, n);
    load -= step;
    cp_async_commit();
  };
  for (int stage = 0; stage < kStages - 1; ++stage) copy_next(stage);
  float sum[2][K / 8][4] = {};
  const int m0 = (threadIdx.x >> 5) * 32;
  int stage = 0;
  for (int tile = last; tile >= 0; tile -= step) {
    cp_async_wait<kStages - 2>();
    __syncthreads();  // the stage is there for all, and the one before is read
    copy_next(stage == 0 ? kStages - 1 : stage - 1);
    multiply<K>(sum, stages + stage * Stage<K>::SIZE, m0);
    stage = stage + 1 == kStages ? 0 : stage + 1;
  }
  float* part = parts + (size_t)blockIdx.y * rank * (outputs + inputs);
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < K / 8; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int column = m0 + i * 16 + half * 8 + (lane >> 2), r = j * 8 + (lane & 3) * 2;
        if (column >= of.n_columns || r >= rank) continue;
        const float low = sum[i][j][half * 2], high = sum[i][j][half * 2 + 1];
        if (of_b) {
          *reinterpret_cast<float2*>(part + (size_t)(c0 + column) * rank + r) = make_float2(scale * low, scale * high);
        } else {
          float* to = part + (size_t)rank * outputs + (size_t)r * inputs + c0 + column;
          to[0] = low;
          to[inputs] = high;
        }
      }
}

#define FACTORS_KERNEL(k)                                                                                          \
  extern "C" __global__ void __launch_bounds__(128) low_rank_factor_parts_##k(                                     \
      float* __restrict__ parts /* (P, O R + R I) */, const bf16* __restrict__ d_out /* (N, W) */,                 \
      const bf16* __restrict__ x /* (N, I) */, const bf16* __restrict__ inner /* (N, K) */,                        \
      const bf16* __restrict__ d_inner /* (N, K) */, int n, int inputs, int rank, int outputs, int width,          \
      int first, float scale) {                                                                                    \
    factor_parts<k>(parts, d_out, x, inner, d_inner, n, inputs, rank, outputs, width, first, scale);               \
  }                                                                                                                \
  EXPORT_KERNEL(low_rank_factor_parts_##k)

FACTORS_KERNEL(16)
FACTORS_KERNEL(32)
FACTORS_KERNEL(64)
