// The divergence between two distributions by warpgroup instructions (compute capability 9.0 only).
//
// Formula   as linear_kl.cu, whose `join` adds these parts up
// Shapes    hidden (R, C), head (V, C), ref_hidden (R, D), ref_head (V, D), slab (R, ld) bf16, rows at multiples of 16
//           bytes | lse, ref_lse, d_kl, kl (N) f32 | part (R, ceil(V / 128)) f32 | index (R) u32
// Bytes     parts: DRAM floor 2 * (R + V) * (C + D), and 4 a row and 128 tokens; d_logits of a slab of S tokens:
//           2 * ((R + S) * (C + D) + R*S). A block reads (128 + 128) * (C + D) * 2 bytes of L2 for a tile, 64 FLOP a byte.
// Flops     2*R*V*(C + D) on tensor cores; R*V exponentials
// Launch    grid (multiprocessors, or tiles if these are fewer), block (384), dynamic shared memory of the tile
// Numerics  logits by f32 sums inside the tensor core, in order of k by 16; exponentials to 2^-22; a thread adds its 32
//           tokens of 128, then the four lanes of a row
// Source    as linear_kl.cu
#include "logits.cuh"
#include "warpgroup_logits.cuh"

// Both logits of a tile are in registers at once, so it is half as wide as that of one.
typedef WarpgroupTile<128, 6, 0, 0, 128> PairTile;

struct Pair {
  const TensorMap *hidden, *head, *ref_hidden, *ref_head;
  const float *lse, *ref_lse;  // (N)
  const u32* index;            // (R) or null
  int n_rows, c, ref_c;
  float inverse_temperature;
};

// What is read of a row; without a row all are 0.
struct RowOfPair {
  float lse, ref_lse, d_kl, kl;
};

// Walks the tiles of tokens first.. < last as for_each_tile does; `use` has the sums of both.
template <class Use>
__device__ __forceinline__ void for_each_pair_of_tiles(const Pair& pair, const float* d_kl, const float* kl, int first,
                                                       int last, Use use) {
  typedef PairTile Tile;
  DYN_SHARED(u8, memory);
  Tile tile(memory);
  const int tiles_m = (pair.n_rows + Tile::kTileM - 1) / Tile::kTileM;
  const int n_tiles = tiles_m * ((last - first + Tile::kTileN - 1) / Tile::kTileN);
  const int n_stages = (pair.c + Tile::kDepth - 1) / Tile::kDepth;
  const int ref_stages = (pair.ref_c + Tile::kDepth - 1) / Tile::kDepth;
  const int group = threadIdx.x >> 7;
  if (group == Tile::kWarpgroups) {
    registers_decrease<40>();
    if ((threadIdx.x & 127) == 0)
      for (int t = blockIdx.x; t < n_tiles; t += gridDim.x) {
        const int m0 = t % tiles_m * Tile::kTileM, n0 = first + t / tiles_m * Tile::kTileN;
        tile.copy(pair.hidden, pair.head, m0, n0, n_stages);
        tile.copy(pair.ref_hidden, pair.ref_head, m0, n0, ref_stages);
      }
    return;
  }
  registers_increase<232>();
  float policy[64], reference[64];
  for (int t = blockIdx.x; t < n_tiles; t += gridDim.x) {
    const int row = SumsOfThread::row(t % tiles_m * Tile::kTileM + group * 64);
    RowOfPair rows[2];
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      rows[h] = RowOfPair{0.f, 0.f, 0.f, 0.f};
      if (row + 8 * h >= pair.n_rows) continue;
      const size_t n = mapped(pair.index, row + 8 * h);
      rows[h] = RowOfPair{pair.lse[n], pair.ref_lse[n], d_kl ? d_kl[n] : 0.f, kl ? kl[n] : 0.f};
    }
    tile.multiply(policy, group, n_stages);
    tile.multiply(reference, group, ref_stages);
    use(policy, reference, rows, row, first + t / tiles_m * Tile::kTileN);
  }
}

__device__ __forceinline__ void kl_parts(float* part, const Pair& pair, int vocab) {
  const int col = SumsOfThread::col(), n_parts = (vocab + PairTile::kTileN - 1) / PairTile::kTileN;
  for_each_pair_of_tiles(
      pair, nullptr, nullptr, 0, vocab,
      [&](const float(&policy)[64], const float(&reference)[64], const RowOfPair(&rows)[2], int row, int n0) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          float sum = 0.f;
#pragma unroll
          for (int j = 0; j < 16; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              const int e = 4 * j + 2 * h + i;
              const float logp = fmaf(policy[e], pair.inverse_temperature, -rows[h].lse);
              const float logq = fmaf(reference[e], pair.inverse_temperature, -rows[h].ref_lse);
              if (n0 + col + 8 * j + i < vocab) sum = fmaf(exp_approximate(logp), logp - logq, sum);
            }
          sum += __shfl_xor_sync(0xffffffffu, sum, 1);
          sum += __shfl_xor_sync(0xffffffffu, sum, 2);
          const int r = row + 8 * h;
          if (col == 0 && r < pair.n_rows) part[(size_t)r * n_parts + n0 / PairTile::kTileN] = sum;
        }
      });
}

__device__ __forceinline__ void kl_d_logits(bf16* slab, const Pair& pair, const float* d_kl, const float* kl, int first,
                                            int last, int ld) {
  for_each_pair_of_tiles(
      pair, d_kl, kl, first, last,
      [&](const float(&policy)[64], const float(&reference)[64], const RowOfPair(&rows)[2], int row, int n0) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int r = row + 8 * h;
          const float scale = rows[h].d_kl * pair.inverse_temperature;
#pragma unroll
          for (int j0 = 0; j0 < 16; j0 += 4) {
            u32 pairs[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
              float d[2];
#pragma unroll
              for (int i = 0; i < 2; ++i) {
                const int e = 4 * (j0 + j) + 2 * h + i;
                const float logp = fmaf(policy[e], pair.inverse_temperature, -rows[h].lse);
                const float logq = fmaf(reference[e], pair.inverse_temperature, -rows[h].ref_lse);
                d[i] = scale * exp_approximate(logp) * (logp - logq - rows[h].kl);
              }
              pairs[j] = pack_bf16x2(d[0], d[1]);
            }
            // What lies beyond the slab's tokens is written as well: the slab has whole strips.
            write_32_columns(slab + (size_t)r * ld + (n0 - first) + 8 * j0, pairs, r < pair.n_rows);
          }
        }
      });
}

extern "C" __global__ void __launch_bounds__(384, 1) linear_kl_parts_sm90a_bf16(
    float* part, const __grid_constant__ TensorMap hidden, const __grid_constant__ TensorMap head, const float* lse,
    const __grid_constant__ TensorMap ref_hidden, const __grid_constant__ TensorMap ref_head, const float* ref_lse,
    const u32* index, int n_rows, int vocab, int c, int ref_c, float inverse_temperature) {
  const Pair pair{&hidden, &head, &ref_hidden, &ref_head, lse, ref_lse, index, n_rows, c, ref_c, inverse_temperature};
  kl_parts(part, pair, vocab);
}
EXPORT_KERNEL(linear_kl_parts_sm90a_bf16)

extern "C" __global__ void __launch_bounds__(384, 1) linear_kl_d_logits_sm90a_bf16(
    bf16* slab, const __grid_constant__ TensorMap hidden, const __grid_constant__ TensorMap head, const float* lse,
    const __grid_constant__ TensorMap ref_hidden, const __grid_constant__ TensorMap ref_head, const float* ref_lse,
    const u32* index, const float* d_kl, const float* kl, int n_rows, int first, int last, int ld, int c, int ref_c,
    float inverse_temperature) {
  const Pair pair{&hidden, &head, &ref_hidden, &ref_head, lse, ref_lse, index, n_rows, c, ref_c, inverse_temperature};
  kl_d_logits(slab, pair, d_kl, kl, first, last, ld);
}
EXPORT_KERNEL(linear_kl_d_logits_sm90a_bf16)
