// Statistics of strips of logits by warpgroup instructions (compute capability 9.0 only).
//
// Formula   as the `parts` of linear_logprob_forward.cu, whose `join` reads these
// Shapes    hidden (R, C), head (V, C) bf16, their rows at multiples of 16 bytes | index (R) u32 | targets (N) u32
// Bytes     DRAM floor 2 * (R*C + V*C), and 16 bytes a row and strip of 256 tokens. A block reads (128 + 256) * C * 2 bytes of L2
//           for a tile, 85 FLOP a byte.
// Flops     2*R*V*C on tensor cores; R*V exponentials at 16 a cycle and multiprocessor: an eighth of the products' cycles
//           at C = 1024, in which the other warpgroup multiplies.
// Launch    grid (multiprocessors, or tiles if these are fewer), block 384 (few rows: 160), dynamic shared memory of the tile
// Numerics  logits by f32 sums inside the tensor core, in order of k by 16; exponentials to 2^-22; a thread adds its 64
//           tokens of a strip, then the four lanes of a row. A row's result is that of the row alone, in both tiles.
// Source    as linear_logprob_forward.cu
#include "logits.cuh"
#include "warpgroup_logits.cuh"

// Statistics of one row of a tile, in all four lanes that share it: h says which of the thread's two. `inside` columns from
// the thread's first on are in the vocabulary, or all if kWhole.
template <bool kWhole>
__device__ __forceinline__ float4 row_stats(const float (&sum)[128], int h, int inside, float inverse_temperature) {
  float top = -3.402823466e38f;
#pragma unroll
  for (int j = 0; j < 32; ++j) {
    const float a = sum[4 * j + 2 * h], b = sum[4 * j + 2 * h + 1];
    if (kWhole) {
      top = fmaxf(top, fmaxf(a, b));
    } else {
      if (8 * j < inside) top = fmaxf(top, a);
      if (8 * j + 1 < inside) top = fmaxf(top, b);
    }
  }
  top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
  top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
  const float scale = inverse_temperature * 1.4426950408889634f;
  float total = 0.f, weighted = 0.f;
#pragma unroll
  for (int j = 0; j < 32; ++j)
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (!kWhole && 8 * j + i >= inside) continue;
      const float below = sum[4 * j + 2 * h + i] - top, e = exp2_approximate(below * scale);
      total += e;
      weighted = fmaf(e, below, weighted);
    }
#pragma unroll
  for (int o = 1; o < 4; o <<= 1) {
    total += __shfl_xor_sync(0xffffffffu, total, o);
    weighted += __shfl_xor_sync(0xffffffffu, weighted, o);
  }
  return make_float4(__fmul_rn(top, inverse_temperature), total, weighted * inverse_temperature, 0.f);
}

template <class Tile>
__device__ __forceinline__ void parts(float4* part, float* target_logit, const TensorMap* hidden, const TensorMap* head,
                                      const u32* index, const u32* targets, int n_rows, int vocab, int c,
                                      float inverse_temperature) {
  const int n_strips = (vocab + Tile::kTileN - 1) / Tile::kTileN, col = SumsOfThread::col();
  for_each_tile<Tile>(
      hidden, head, n_rows, 0, vocab, c,
      [&](int r) { return targets && r < n_rows ? targets[mapped(index, r)] : 0xffffffffu; },
      [&](const float(&sum)[128], const u32(&target)[2], int row, int n0) {
        const int inside = vocab - n0 - col;
        const bool whole = n0 + Tile::kTileN <= vocab;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int r = row + 8 * h;
          const float4 stats = whole ? row_stats<true>(sum, h, inside, inverse_temperature)
                                     : row_stats<false>(sum, h, inside, inverse_temperature);
          if (col == 0 && r < n_rows) part[(size_t)r * n_strips + n0 / Tile::kTileN] = stats;
          const u32 at = target[h] - (u32)(n0 + col);    // from this thread's first column on
          if (r < n_rows && at < (u32)Tile::kTileN && (at & 7) < 2)
            target_logit[r] = __fmul_rn(sum_at(sum, h, (int)at), inverse_temperature);
        }
      });
}

#define PARTS(name, Tile)                                                                                              \
  extern "C" __global__ void __launch_bounds__(Threads<Tile>::kCount, 1)                                                 \
      name(float4* part,             /* (R, ceil(V / 256)): top, total, weighted */                                    \
           float* target_logit,      /* (R) */                                                                         \
           const __grid_constant__ TensorMap hidden, const __grid_constant__ TensorMap head,                           \
           const u32* index,         /* (R) or null: the rows of `targets` that are meant */                           \
           const u32* targets,       /* (N) or null */                                                                 \
           int n_rows, int vocab, int c, float inverse_temperature) {                                                  \
    parts<Tile>(part, target_logit, &hidden, &head, index, targets, n_rows, vocab, c, inverse_temperature);            \
  }                                                                                                                    \
  EXPORT_KERNEL(name)

PARTS(linear_logprob_parts_sm90a_bf16, HighTile)
PARTS(linear_logprob_parts_few_sm90a_bf16, LowTile)
