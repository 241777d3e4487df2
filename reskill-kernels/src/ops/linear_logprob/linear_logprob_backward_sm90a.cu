// Gradients of the logits by slabs, by warpgroup instructions (compute capability 9.0 only).
//
// Formula   as linear_logprob_backward.cu, with p a + b for its two terms: a = -d_entropy[n] / temperature times log p,
//           b = -(d_logprobs[n] + d_entropy[n] entropy[n]) / temperature
// Shapes    hidden (R, C), head (V, C), slab (R, ld) bf16, rows at multiples of 16 bytes | d_logprobs, d_entropy, entropy,
//           lse (N) f32 | index (R) u32
// Bytes     of a slab of S tokens: 2 * (R*C + S*C + R*S) + 20*R
// Flops     2*R*S*C on tensor cores, and R*S exponentials
// Launch    grid (multiprocessors, or tiles if these are fewer), block (384), dynamic shared memory of the tile
// Numerics  logits as in linear_logprob_forward_sm90a.cu, to the bit; the slab is rounded to bf16
// Source    as linear_logprob_backward.cu
#include "logits.cuh"
#include "warpgroup_logits.cuh"

// What a row's gradients are made from; without a row all are 0.
struct RowOfGradients {
  u32 target;
  float by_logprob, by_entropy, entropy, lse;
};

// The gradients of the thread's tokens of row h, `out` the first token of the tile. What lies beyond the slab's tokens is
// written as well: the slab has whole strips.
__device__ __forceinline__ void write_gradients(bf16* out, const float (&sum)[128], int h, const RowOfGradients& row,
                                                bool inside, float inverse_temperature) {
  const float a = -row.by_entropy * inverse_temperature;
  const float b = -fmaf(row.by_entropy, row.entropy, row.by_logprob) * inverse_temperature;
#pragma unroll
  for (int j0 = 0; j0 < 32; j0 += 4) {
    u32 pairs[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      float d[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float logprob = fmaf(sum[4 * (j0 + j) + 2 * h + i], inverse_temperature, -row.lse);
        d[i] = exp_approximate(logprob) * fmaf(a, logprob, b);
      }
      pairs[j] = pack_bf16x2(d[0], d[1]);
    }
    write_32_columns(out + 8 * j0, pairs, inside);
  }
}

// The largest log-probability of the thread's tokens of row h.
__device__ __forceinline__ float largest_logprob(const float (&sum)[128], int h, const RowOfGradients& row, int inside,
                                                 float inverse_temperature) {
  float top = -3.402823466e38f;
#pragma unroll
  for (int j = 0; j < 32; ++j)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      if (8 * j + i < inside) top = fmaxf(top, sum[4 * j + 2 * h + i]);
  return fmaf(top, inverse_temperature, -row.lse);
}

extern "C" __global__ void __launch_bounds__(384, 1) linear_logprob_d_logits_sm90a_bf16(
    bf16* slab,                                          // (R, ld), column 0 is token `first`
    u32* matters,                                        // (ceil(R/128), ld/256) or null: no filter
    const __grid_constant__ TensorMap hidden, const __grid_constant__ TensorMap head,
    const u32* index,                                    // (R) or null
    const u32* targets, const float* d_logprobs, const float* d_entropy, const float* entropy,
    const float* lse,                                    // (N) each
    int n_rows, int first, int last, int ld, int c, float inverse_temperature, float log_filter) {
  const int col = SumsOfThread::col();
  for_each_tile<HighTile>(
      &hidden, &head, n_rows, first, last, c,
      [&](int r) {
        if (r >= n_rows) return RowOfGradients{0xffffffffu, 0.f, 0.f, 0.f, 0.f};
        const size_t n = mapped(index, r);
        return RowOfGradients{targets[n], d_logprobs[n], d_entropy[n], entropy[n], lse[n]};
      },
      [&](const float(&sum)[128], const RowOfGradients(&rows)[2], int row, int n0) {
        const int inside = last - n0 - col;
        bool any = false;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int r = row + 8 * h;
          const RowOfGradients& of = rows[h];
          const bool there = r < n_rows;
          bf16* out = slab + (size_t)r * ld + (n0 - first);
          write_gradients(out, sum, h, of, there, inverse_temperature);
          __syncwarp();                                  // the target's is written after all others
          const u32 at = of.target - (u32)(n0 + col);    // from this thread's first column on
          if (there && at < (u32)HighTile::kTileN && (at & 7) < 2 && (int)at < inside) {
            const float logprob = fmaf(sum_at(sum, h, (int)at), inverse_temperature, -of.lse);
            const float p = exp_approximate(logprob), by_p = of.by_entropy * p * (logprob + of.entropy);
            out[col + at] = to_bf16((of.by_logprob * -expm1f(logprob) - by_p) * inverse_temperature);
            any = true;
          }
          if (matters && there) any |= largest_logprob(sum, h, of, inside, inverse_temperature) >= log_filter;
        }
        // Every thread of the same rows and tokens that finds something writes the same word.
        if (matters && any) matters[(size_t)(row / 128) * (ld / STRIP) + (n0 - first) / STRIP] = 1u;
      });
}
EXPORT_KERNEL(linear_logprob_d_logits_sm90a_bf16)
