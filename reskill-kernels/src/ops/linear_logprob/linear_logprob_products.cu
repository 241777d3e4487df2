// The two products of a slab of gradients of logits.
//
// Formula   d_hidden[n, c] (+)= sum_v d_logits[n, v] head[v, c];  d_head[v, c] += sum_n d_logits[n, v] hidden[n, c]
// Shapes    d_logits (R, ld), hidden (N, C), head (V, C), d_hidden (N, C) bf16 or f32 | d_head (V, C) f32
//           partial (R, C) f32: d_hidden over the slabs so far, unless one slab holds the whole vocabulary
// Bytes     d_hidden: size * (R*S + S*C) + 8*R*C; d_head: size * (R*S + R*C) + 8*S*C
// Flops     2*R*S*C each
// Launch    grid (ceil(C/BN), ceil(rows/BM)), block (256), dynamic shared memory of the tile
// Numerics  f32 sums in ascending n or v, slab after slab: the same bits whatever else is in the batch (d_hidden) and
//           without atomics. With a filter, blocks of 128 rows x 256 tokens that do not matter are left out.
// Source    the chain rule
#include "product_tile.cuh"

#define STRIP 256

// flags: 1 the first slab, 2 the last, 4 add to d_hidden.
template <class Tile>
__device__ __forceinline__ void d_hidden_of(typename Tile::T* d_hidden, float* partial, const typename Tile::T* slab,
                                            const typename Tile::T* head,    // the slab's rows of the head
                                            const u32* index, const u32* matters, int n_rows, int tokens, int ld, int c,
                                            int flags) {
  typedef typename Tile::T T;
  const int m0 = blockIdx.y * Tile::BM, begin = blockIdx.x * Tile::BN;
  const int end = begin + Tile::BN < c ? begin + Tile::BN : c;
  const Operand<T> a{slab, nullptr, n_rows, tokens, ld}, b{head, nullptr, c, tokens, c};
  const u32* row_matters = matters ? matters + (size_t)(m0 / 128) * (ld / STRIP) : nullptr;
  Tile tile;
  tile.run(a, b, m0, begin, end, [&](int, int k0) { return !row_matters || row_matters[k0 / STRIP]; }, [&](int n0) {
#pragma unroll
    for (int i = 0; i < Tile::ROWS; ++i) {
      const int r = m0 + tile.row(i);
      if (r >= n_rows) continue;
      T* out = d_hidden + mapped(index, r) * c;
#pragma unroll
      for (int j = 0; j < Tile::COLS; ++j) {
        const int x = n0 + tile.col(j);
        if (x >= end) continue;
        float* p = partial + (size_t)r * c + x;
        float sum = flags & 1 ? tile.at(i, j) : *p + tile.at(i, j);
        if (!(flags & 2)) *p = sum;
        else out[x] = from_f32<T>(flags & 4 ? to_f32(out[x]) + sum : sum);
      }
    }
  });
}

template <class Tile>
__device__ __forceinline__ void d_head_of(float* d_head,                      // the slab's rows of the gradient
                                          const typename Tile::T* slab, const typename Tile::T* hidden,
                                          const u32* index, const u32* matters, int n_rows, int tokens, int ld, int c) {
  typedef typename Tile::T T;
  const int m0 = blockIdx.y * Tile::BM, begin = blockIdx.x * Tile::BN;
  const int end = begin + Tile::BN < c ? begin + Tile::BN : c;
  const Operand<T> a{slab, nullptr, tokens, n_rows, ld}, b{hidden, index, c, n_rows, c};
  Tile tile;
  tile.run(
      a, b, m0, begin, end,
      [&](int, int k0) { return !matters || matters[(size_t)(k0 / 128) * (ld / STRIP) + m0 / STRIP]; },
      [&](int n0) {
#pragma unroll
        for (int i = 0; i < Tile::ROWS; ++i) {
          const int v = m0 + tile.row(i);
          if (v >= tokens) continue;
#pragma unroll
          for (int j = 0; j < Tile::COLS; ++j) {
            const int x = n0 + tile.col(j);
            if (x < end)
              d_head[(size_t)v * c + x] += tile.at(i, j);  // 64-bit: V*C passes 2^31 at C = 14135, V = 151936
          }
        }
      });
}

#define PRODUCTS(suffix, HIDDEN_TILE, HEAD_TILE)                                                                      \
  extern "C" __global__ void __launch_bounds__(256) linear_logprob_d_hidden_##suffix(                                 \
      HIDDEN_TILE::T* d_hidden, float* partial, const HIDDEN_TILE::T* slab, const HIDDEN_TILE::T* head,               \
      const u32* index, const u32* matters, int n_rows, int tokens, int ld, int c, int flags) {                       \
    d_hidden_of<HIDDEN_TILE>(d_hidden, partial, slab, head, index, matters, n_rows, tokens, ld, c, flags);            \
  }                                                                                                                   \
  EXPORT_KERNEL(linear_logprob_d_hidden_##suffix)                                                                     \
  extern "C" __global__ void __launch_bounds__(256) linear_logprob_d_head_##suffix(                                   \
      float* d_head, const HEAD_TILE::T* slab, const HEAD_TILE::T* hidden, const u32* index, const u32* matters,      \
      int n_rows, int tokens, int ld, int c) {                                                                        \
    d_head_of<HEAD_TILE>(d_head, slab, hidden, index, matters, n_rows, tokens, ld, c);                                \
  }                                                                                                                   \
  EXPORT_KERNEL(linear_logprob_d_head_##suffix)

typedef MmaTile<128, 128, 2, 4, false, true> HiddenBf16;
typedef MmaTile<128, 128, 2, 4, true, true> HeadBf16;
typedef SimtTile<64, false, true> HiddenF32;
typedef SimtTile<64, true, true> HeadF32;
PRODUCTS(bf16, HiddenBf16, HeadBf16)
PRODUCTS(f32, HiddenF32, HeadF32)
