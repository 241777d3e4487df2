// Low-rank additions of rank 64 at most in bf16, rows at a time: the addition itself, and its gradient by the inputs.
//
// Formula   forward: inner[n, r] = sum_i x[n, i] a[r, i]        out[n, first + o] += scale * sum_r inner[n, r] b[o, r]
//           backward: inner as above        d_inner[n, r] = scale * sum_o d_out[n, first + o] b[o, r]
//                     d_x[n, i] += sum_r d_inner[n, r] a[r, i]
// Shapes    out, d_out (N, W) row-major, W >= first + O | x, d_x (N, I) | a (R, I) | b (O, R) | inner, d_inner (N, K), K = R
//           rounded up to 16, 32 or 64, zero from R on; all bf16. R, I, O, W and first are multiples of 8.
// Bytes     forward: 2 (N I + 2 N O + R (I + O)).  backward: 2 (3 N I + N O + R (I + O) + 2 N K).
//           The factors are read by every block, from L2.
// Flops     2 N R (I + O) and 2 N R (2 I + O): judged in GB/s.
// Launch    block (256), 16 or 32 rows a block.  forward: grid (row blocks, ceil(O / span)): blocks of one row block share
//           its outputs, `span` each, so that few rows fill a device; each makes the inner values anew.
//           backward: grid (row blocks).
// Numerics  f32 sums. Eight warps share the sum over inputs (outputs) in turns of 32, their sums are added in order: a row's
//           result depends on neither its neighbours nor the grid. inner and d_inner are rounded to bf16.
// Source    Hu et al. 2021, arXiv:2106.09685, section 4.1; fragments: low_rank_inner.cuh.
#include "low_rank_inner.cuh"
#include "mma.cuh"
#include "prelude.cuh"

// ---- what is added to rows ------------------------------------------------------------------------------------
// The left sides of instructions s = 0, 1, .. that sum over r.
template <int M, int T>
__device__ __forceinline__ void read_inner(u32 (&a)[M][T / 2][4], const bf16* inner) {
#pragma unroll
  for (int i = 0; i < M; ++i) {
    const int row = i * 16 + group();
    if (T == 2) {
      const uint2 v = *reinterpret_cast<const uint2*>(inner + Inner<M, T>::at(row, quarter() * 4));
      const uint2 w = *reinterpret_cast<const uint2*>(inner + Inner<M, T>::at(row + 8, quarter() * 4));
      a[i][0][0] = v.x; a[i][0][1] = w.x; a[i][0][2] = v.y; a[i][0][3] = w.y;
    } else {
#pragma unroll
      for (int s = 0; s < T / 2 - 1; s += 2) {
        const int r = s * 16 + quarter() * 8;
        const uint4 v = *reinterpret_cast<const uint4*>(inner + Inner<M, T>::at(row, r));
        const uint4 w = *reinterpret_cast<const uint4*>(inner + Inner<M, T>::at(row + 8, r));
        a[i][s][0] = v.x; a[i][s][1] = w.x; a[i][s][2] = v.y; a[i][s][3] = w.y;
        a[i][s + 1][0] = v.z; a[i][s + 1][1] = w.z; a[i][s + 1][2] = v.w; a[i][s + 1][3] = w.w;
      }
    }
  }
}

// The factors of the sum over r, as the right sides of those instructions, for 32 columns from c0 on.
template <int T> struct FromRows {  // (C, R)
  const bf16* factor;
  int rank;
  __device__ __forceinline__ void operator()(u32 (&b)[T / 2][4][2], int c0, int end) const {
    const int c = c0 + (group() >> 1) * 8;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const bf16* row = factor + (size_t)(c + 2 * j + (group() & 1)) * rank;
      if (T == 2) {
        const int r = quarter() * 4;
        const uint2 w = read_or_zero<uint2>(row + r, c < end && r < rank);
        b[0][j][0] = w.x; b[0][j][1] = w.y;
      } else {
#pragma unroll
        for (int s = 0; s < T / 2 - 1; s += 2) {
          const int r = s * 16 + quarter() * 8;
          const uint4 w = read_or_zero<uint4>(row + r, c < end && r < rank);
          b[s][j][0] = w.x; b[s][j][1] = w.y; b[s + 1][j][0] = w.z; b[s + 1][j][1] = w.w;
        }
      }
    }
  }
};
template <int T> struct FromColumns {  // (R, C)
  const bf16* factor;
  int rank, columns;
  __device__ __forceinline__ void operator()(u32 (&b)[T / 2][4][2], int c0, int end) const {
    constexpr int kRun = T == 2 ? 4 : 8;  // consecutive r of a lane
    const int c = c0 + (group() >> 1) * 8;
#pragma unroll
    for (int s = 0; s < T / 2; s += kRun / 4) {
      const int r = s * 16 + quarter() * kRun;
      uint4 w[kRun];
#pragma unroll
      for (int e = 0; e < kRun; ++e)
        w[e] = read_or_zero<uint4>(factor + (size_t)(r + e) * columns + c, c < end && r < rank);
#pragma unroll
      for (int e = 0; e < kRun; e += 2)
#pragma unroll
        for (int j = 0; j < 4; ++j)
          b[s + (e >> 2)][j][e >> 1 & 1] = join(word(w[e], j), word(w[e + 1], j), group() & 1);
    }
  }
};

// out[row, c] += scale * sum_r inner[row, r] factor(r, c) for begin <= c < end; `a` are the inner values. A warp takes M runs
// of 32 columns at once: of 32 rows it asks for 128 bytes of each.
template <int M, int T, class Factor>
__device__ __forceinline__ void add_product(bf16* out, int stride, int n_rows, int begin, int end,
                                            const u32 (&a)[M][T / 2][4], float scale, Factor factor) {
  constexpr int kRuns = M;
  auto at = [&](int i, int half, int c) { return out + (size_t)(i * 16 + half * 8 + group()) * stride + c; };
  auto inside = [&](int i, int half, int c) { return c < end && i * 16 + half * 8 + group() < n_rows; };
  for (int first = begin + warp() * kRuns * kTurn; first < end; first += kWarps * kRuns * kTurn) {
    uint4 old[kRuns][M][2];
#pragma unroll
    for (int run = 0; run < kRuns; ++run)
#pragma unroll
      for (int i = 0; i < M; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int c = first + run * kTurn + quarter() * 8;
          old[run][i][half] = read_or_zero<uint4>(at(i, half, c), inside(i, half, c));
        }
#pragma unroll
    for (int run = 0; run < kRuns; ++run) {
      const int c0 = first + run * kTurn, c = c0 + quarter() * 8;
      u32 b[T / 2][4][2];
      factor(b, c0, end);
#pragma unroll
      for (int i = 0; i < M; ++i) {
        float sum[4][4] = {};
#pragma unroll
        for (int s = 0; s < T / 2; ++s)
#pragma unroll
          for (int j = 0; j < 4; ++j) mma_m16n8k16_bf16(sum[j], a[i][s], b[s][j]);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          if (!inside(i, half, c)) continue;
          u32 both[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const u32 was = word(old[run][i][half], j);
            both[j] = pack_bf16x2(low_bf16(was) + scale * sum[j][half * 2], high_bf16(was) + scale * sum[j][half * 2 + 1]);
          }
          *reinterpret_cast<uint4*>(at(i, half, c)) = make_uint4(both[0], both[1], both[2], both[3]);
        }
      }
    }
  }
}

// ---- kernels --------------------------------------------------------------------------------------------------
template <int M, int T>
__device__ __forceinline__ void forward(bf16* out, const bf16* x, const bf16* a, const bf16* b, int n, int inputs,
                                        int rank, int outputs, int width, int first, int span, float scale) {
  constexpr int kPieces = Inner<M, T>::PIECES;
  SHARED(uint4, pieces, [kPieces]);
  bf16* inner = reinterpret_cast<bf16*>(pieces);
  const int row0 = blockIdx.x * 16 * M, n_rows = min(n - row0, 16 * M);
  float sum[M][T][4] = {};
  // 64 bits: N I passes 2^31 at 524,288 rows of 4096.
  multiply(sum, x + (size_t)row0 * inputs, inputs, n_rows, AlongRows<T>{a, rank, inputs});
  add_warps(inner, sum, 1.0f);
  u32 left[M][T / 2][4];
  read_inner<M, T>(left, inner);
  const int begin = blockIdx.y * span;
  add_product<M, T>(out + (size_t)row0 * width + first, width, n_rows, begin, min(begin + span, outputs), left, scale,
                    FromRows<T>{b, rank});
}

template <int M, int T>
__device__ __forceinline__ void write_inner(bf16* to, const bf16* inner, int n_rows) {
  for (int piece = threadIdx.x; piece < n_rows * T; piece += kWarps * 32)
    *reinterpret_cast<uint4*>(to + piece * 8) =
        *reinterpret_cast<const uint4*>(inner + Inner<M, T>::at(piece / T, piece % T * 8));
}

template <int M, int T>
__device__ __forceinline__ void backward(bf16* d_x, bf16* inner, bf16* d_inner, const bf16* d_out, const bf16* x,
                                         const bf16* a, const bf16* b, int n, int inputs, int rank, int outputs,
                                         int width, int first, float scale) {
  constexpr int kPieces = Inner<M, T>::PIECES;
  SHARED(uint4, pieces, [2][kPieces]);
  bf16* own = reinterpret_cast<bf16*>(pieces[0]);
  bf16* d_own = reinterpret_cast<bf16*>(pieces[1]);
  const int row0 = blockIdx.x * 16 * M, n_rows = min(n - row0, 16 * M);
  float sum[M][T][4] = {}, d_sum[M][T][4] = {};
  multiply(sum, x + (size_t)row0 * inputs, inputs, n_rows, AlongRows<T>{a, rank, inputs});
  add_warps(own, sum, 1.0f);
  write_inner<M, T>(inner + (size_t)row0 * 8 * T, own, n_rows);
  multiply(d_sum, d_out + (size_t)row0 * width + first, width, n_rows, AlongColumns<T>{b, rank, outputs});
  add_warps(d_own, d_sum, scale);
  write_inner<M, T>(d_inner + (size_t)row0 * 8 * T, d_own, n_rows);
  u32 left[M][T / 2][4];
  read_inner<M, T>(left, d_own);
  add_product<M, T>(d_x + (size_t)row0 * inputs, inputs, n_rows, 0, inputs, left, 1.0f,
                    FromColumns<T>{a, rank, inputs});
}

#define LOW_RANK_KERNELS(k, m, blocks)                                                                             \
  extern "C" __global__ void __launch_bounds__(256, blocks) low_rank_forward_##k##_##m(                            \
      bf16* __restrict__ out /* (N, W) */, const bf16* __restrict__ x /* (N, I) */,                                \
      const bf16* __restrict__ a /* (R, I) */, const bf16* __restrict__ b /* (O, R) */, int n, int inputs,         \
      int rank, int outputs, int width, int first, int span, float scale) {                                        \
    forward<m / 16, k / 8>(out, x, a, b, n, inputs, rank, outputs, width, first, span, scale);                     \
  }                                                                                                                \
  EXPORT_KERNEL(low_rank_forward_##k##_##m)                                                                        \
  extern "C" __global__ void __launch_bounds__(256, blocks) low_rank_backward_##k##_##m(                           \
      bf16* __restrict__ d_x /* (N, I) */, bf16* __restrict__ inner /* (N, K) */,                                  \
      bf16* __restrict__ d_inner /* (N, K) */, const bf16* __restrict__ d_out /* (N, W) */,                        \
      const bf16* __restrict__ x /* (N, I) */, const bf16* __restrict__ a /* (R, I) */,                            \
      const bf16* __restrict__ b /* (O, R) */, int n, int inputs, int rank, int outputs, int width, int first,     \
      float scale) {                                                                                               \
    backward<m / 16, k / 8>(d_x, inner, d_inner, d_out, x, a, b, n, inputs, rank, outputs, width, first, scale);   \
  }                                                                                                                \
  EXPORT_KERNEL(low_rank_backward_##k##_##m)

// Ranks up to 16, 32, 64; 16 or 32 rows a block. Of 32 rows two blocks at once on a multiprocessor, 128 bytes of a row a warp:
// on an H200 that is faster than four blocks and 64 bytes, which keep more rows open at a time.
LOW_RANK_KERNELS(16, 16, 4)
LOW_RANK_KERNELS(16, 32, 2)
LOW_RANK_KERNELS(32, 16, 2)
LOW_RANK_KERNELS(32, 32, 2)
LOW_RANK_KERNELS(64, 16, 1)
LOW_RANK_KERNELS(64, 32, 1)
