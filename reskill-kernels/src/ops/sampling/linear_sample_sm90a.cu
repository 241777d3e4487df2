// The token of a strip by warpgroup instructions (compute capability 9.0 only).
//
// Formula   as the `token` of linear_sample.cu, after its `strip`
// Shapes    hidden (N, C), head (V, C) bf16, their rows at multiples of 16 bytes | logprobs, lse (N) f32 | tokens (N) u32 |
//           strip (R) u32, rest (R) f64, index (R) u32
// Bytes     2 * 256*C of the head a row, and of L2 the hidden states of the 7 rows after each
// Flops     2*64*256*C a row on tensor cores, of which one row in 64 is used
// Launch    grid (R), block (160), dynamic shared memory of five stages
// Numerics  the strip's logits by the same instructions as in linear_logprob_forward_sm90a.cu, so log-probabilities equal
//           those of linear_logprob_forward to the bit
// Source    as linear_sample.cu
#include "strip_token.cuh"
#include "warpgroup_product.cuh"

typedef WarpgroupTile<64, 5, 0, 0> Tile;
// Rows of hidden states that come, the fewest that keep the layout: the first is the row, the others are not used.
constexpr int kRows = 8;

extern "C" __global__ void __launch_bounds__(160, 1) linear_sample_token_sm90a_bf16(
    u32* tokens, float* logprobs,                        // (N)
    const __grid_constant__ TensorMap hidden, const __grid_constant__ TensorMap head,
    const float* lse,                                    // (N)
    const u32* strip, const double* rest,                // (R)
    const u32* index,                                    // (R) or null
    int vocab, int c, float inverse_temperature, int greedy) {
  SHARED(float, logits, [STRIP]);
  DYN_SHARED(u8, memory);
  Tile tile(memory, kRows);
  const int r = blockIdx.x, begin = (int)strip[r] * STRIP, n_stages = (c + Tile::kDepth - 1) / Tile::kDepth;
  const size_t n = mapped(index, r);
  if (threadIdx.x >= 128) {
    if (threadIdx.x == 128) tile.copy(&hidden, &head, (int)n, begin, n_stages);
  } else {
    float sum[128];
    tile.multiply(sum, 0, n_stages);
    if (threadIdx.x < 4) {                               // the lanes of row 0
#pragma unroll
      for (int j = 0; j < 32; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          logits[place_of_logit(8 * j + 2 * (int)threadIdx.x + i)] = __fmul_rn(sum[4 * j + i], inverse_temperature);
    }
  }
  __syncthreads();                                       // all logits of the strip are there
  if (threadIdx.x >= 32) return;
  const int found = token_in_strip(logits, min(STRIP, vocab - begin), rest[r], lse[n], greedy);
  if (threadIdx.x != 0) return;
  tokens[n] = begin + found;
  logprobs[n] = logits[place_of_logit(found)] - lse[n];
}
EXPORT_KERNEL(linear_sample_token_sm90a_bf16)
