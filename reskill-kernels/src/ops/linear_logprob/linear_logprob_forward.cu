// Log-probability and entropy straight from hidden states, forward, rows that allow the whole vocabulary.
//
// Formula   z[n, v] = hidden[n] . head[v] / temperature;  lse[n] = ln sum_v exp z[n, v]
//           logprobs[n] = z[n, targets[n]] - lse[n];  entropy[n] = ln S - W / S,
//           S = sum_v exp(z - top), W = sum_v exp(z - top) (z - top)
// Shapes    hidden (N, C), head (V, C) bf16 or f32 | targets (N) u32 | outputs (N) f32 | index (R) u32: the rows meant
// Bytes     DRAM floor size * (N*C + V*C) + 16*N; besides, 16 bytes a row and 256 tokens of partial statistics written
//           and read. No logit leaves the registers.
// Flops     2*N*V*C (tensor cores) and N*V exponentials: at C = 576 the exponentials are about a sixth of the time.
// Launch    parts: grid (ceil(R/BM), ceil(V/256)), block (256; few rows in bf16: 128), dynamic shared memory of the
//           tile: the blocks that run together share the head's rows in L2. join: grid (ceil(R/8)), block (256): a warp
//           a row.
// Numerics  logits by f32 sums in ascending k; exponentials of bf16 logits to 2^-22; a thread joins its tokens of 256, then lanes, then warps, in a fixed
//           order; the strips of 256 are joined in f64. Nothing depends on N: a row's result is that of the row alone.
// Source    online softmax: Milakov & Gimelshein 2018, arXiv:1805.02867; without logits: Wijmans et al. 2024,
//           arXiv:2411.09009.
#include "product_tile.cuh"
#include "row_stats.cuh"

template <class Tile>
__device__ __forceinline__ void parts(float4* part,             // (R, ceil(V / 256)): top, total, weighted
                                      float* target_logit,      // (R)
                                      const typename Tile::T* hidden, const typename Tile::T* head,
                                      const u32* index,         // (R) or null: all rows
                                      const u32* targets,       // (N) or null
                                      int n_rows, int vocab, int c, float inverse_temperature) {
  const int m0 = blockIdx.x * Tile::BM, begin = blockIdx.y * STRIP;
  const int end = begin + STRIP < vocab ? begin + STRIP : vocab;
  const Operand<typename Tile::T> a{hidden, index, n_rows, c, c}, b{head, nullptr, vocab, c, c};
  RowStats stats[Tile::ROWS];
#pragma unroll
  for (int i = 0; i < Tile::ROWS; ++i) stats[i] = no_stats();
  Tile tile;
  // Adds a tile's tokens to the statistics; `whole`: all of them are in the vocabulary.
  auto add = [&](int n0, auto whole) {
    u32 target[Tile::ROWS];                              // its column in this tile, if it has one
#pragma unroll
    for (int i = 0; i < Tile::ROWS; ++i) {
      const int r = m0 + tile.row(i);
      target[i] = targets && r < n_rows ? targets[mapped(index, r)] - (u32)n0 : 0xffffffffu;
    }
#pragma unroll
    for (int i = 0; i < Tile::ROWS; ++i) {
      RowStats mine = no_stats();
      float at_target = __int_as_float(0x7fffffff);      // NaN: not a column of this thread
#pragma unroll
      for (int j = 0; j < Tile::COLS; ++j)
        if (whole.value || n0 + tile.col(j) < end)
          mine.top = fmaxf(mine.top, __fmul_rn(tile.at(i, j), inverse_temperature));
#pragma unroll
      for (int j = 0; j < Tile::COLS; ++j) {
        if (whole.value || n0 + tile.col(j) < end) {
          const float z = __fmul_rn(tile.at(i, j), inverse_temperature), e = Tile::exp(z - mine.top);
          mine.total += e;
          mine.weighted = fmaf(e, z - mine.top, mine.weighted);
          if ((u32)tile.col(j) == target[i]) at_target = z;
        }
      }
      if (at_target == at_target) target_logit[m0 + tile.row(i)] = at_target;
      join(stats[i], mine, Tile::exp);
    }
  };
  tile.run(a, b, m0, begin, end, AllWanted(), [&](int n0) {
    if (n0 + Tile::BN <= end) add(n0, Whole<true>());
    else add(n0, Whole<false>());
  });
  // Lanes that share a row, then the warps beside each other.
  DYN_SHARED(RowStats, shared);                          // [WARPS_N][BM]
#pragma unroll
  for (int i = 0; i < Tile::ROWS; ++i) {
#pragma unroll
    for (int o = 1; o < Tile::ROW_LANES; o <<= 1) {
      const RowStats other{__shfl_xor_sync(0xffffffffu, stats[i].top, o),
                           __shfl_xor_sync(0xffffffffu, stats[i].total, o),
                           __shfl_xor_sync(0xffffffffu, stats[i].weighted, o)};
      join(stats[i], other, Tile::exp);
    }
    if (threadIdx.x % Tile::ROW_LANES == 0) shared[tile.warp_n() * Tile::BM + tile.row(i)] = stats[i];
  }
  __syncthreads();                                       // all warps' statistics are there
  for (int r = threadIdx.x; r < Tile::BM && m0 + r < n_rows; r += Tile::THREADS) {
    RowStats s = shared[r];
#pragma unroll
    for (int w = 1; w < Tile::WARPS_N; ++w) join(s, shared[w * Tile::BM + r], Tile::exp);
    part[(size_t)(m0 + r) * gridDim.y + blockIdx.y] = make_float4(s.top, s.total, s.weighted, 0.f);
  }
}

#define PARTS(name, ...)                                                                                              \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__::THREADS, 2) name(                                          \
      float4* part, float* target_logit, const __VA_ARGS__::T* hidden, const __VA_ARGS__::T* head, const u32* index,  \
      const u32* targets, int n_rows, int vocab, int c, float inverse_temperature) {                                  \
    parts<__VA_ARGS__>(part, target_logit, hidden, head, index, targets, n_rows, vocab, c, inverse_temperature);      \
  }                                                                                                                   \
  EXPORT_KERNEL(name)

// Both deal out columns alike, so that a row's statistics are joined in one order.
typedef MmaTile<128, 128, 2, 4, false, false> LargeBf16;
typedef MmaTile<16, 128, 1, 4, false, false> SmallBf16;
typedef SimtTile<64, false, false> LargeF32;
typedef SimtTile<16, false, false> SmallF32;
PARTS(linear_logprob_parts_bf16, LargeBf16)
PARTS(linear_logprob_parts_few_bf16, SmallBf16)
PARTS(linear_logprob_parts_f32, LargeF32)
PARTS(linear_logprob_parts_few_f32, SmallF32)

// Joins the strips of each row.
extern "C" __global__ void __launch_bounds__(256) linear_logprob_join(
    float* logprobs,            // (N) or null
    float* entropy,             // (N) or null
    float* lse,                 // (N)
    const float4* part,         // (R, n_strips)
    const float* target_logit,  // (R), or null with logprobs
    const u32* targets,         // (N), or null with logprobs
    const u32* index,           // (R) or null
    int n_rows, int n_strips, int vocab) {
  const int r = blockIdx.x * 8 + (int)(threadIdx.x >> 5), lane = threadIdx.x & 31;
  if (r >= n_rows) return;                               // a whole warp
  const float4* mine = part + (size_t)r * n_strips;
  float top = -3.402823466e38f;
  for (int s = lane; s < n_strips; s += 32) top = fmaxf(top, mine[s].x);
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, o));
  double total = 0.0, weighted = 0.0;
  for (int s = lane; s < n_strips; s += 32) {
    const float4 p = mine[s];
    const double shift = (double)p.x - (double)top, scale = exp(shift);
    total += scale * (double)p.y;
    weighted += scale * ((double)p.z + (double)p.y * shift);
  }
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) {
    total += __shfl_xor_sync(0xffffffffu, total, o);
    weighted += __shfl_xor_sync(0xffffffffu, weighted, o);
  }
  if (lane == 0) {
    const size_t n = mapped(index, r);
    const float l = (float)((double)top + log(total));
    lse[n] = l;
    // A target outside the vocabulary has no logit.
    if (logprobs) logprobs[n] = targets[n] < (u32)vocab ? target_logit[r] - l : __int_as_float(0x7fffffff);
    if (entropy) entropy[n] = (float)(log(total) - weighted / total);
  }
}
EXPORT_KERNEL(linear_logprob_join)
