// The two products of a slab of gradients of logits.
//
// Formula   d_hidden[n, c] (+)= sum_v d_logits[n, v] head[v, c];  d_head[v, c] += sum_n d_logits[n, v] hidden[n, c]
// Shapes    d_logits (R, ld), hidden (N, C), head (V, C), d_hidden (N, C) bf16 or f32 | d_head (V, C) f32
//           partial (R, C) f32: d_hidden over the slabs so far, unless one slab holds the whole vocabulary (by warpgroups: always)
// Bytes     d_hidden: size * (R*S + S*C) + 8*R*C; d_head: size * (R*S + R*C) + 8*S*C
// Flops     2*R*S*C each
// Launch    grid (ceil(C/BN), ceil(rows/BM)), block (256), dynamic shared memory of the tile; the rows
//           of d_hidden in bf16 behind the last slab: grid (rows), block (128)
// Numerics  f32 sums in ascending n or v, slab after slab: the same bits whatever else is in the batch (d_hidden) and
//           without atomics. With a filter, blocks of 128 rows x 256 tokens that do not matter are left out.
// Source    the chain rule
#include "product_tile.cuh"

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
      float* so_far = partial + (size_t)r * c;
#pragma unroll
      for (int j = 0; j < Tile::COLS; j += Tile::NEIGHBOURS) {
        const int x = n0 + tile.col(j);
        if (Tile::NEIGHBOURS == 2 && c % 2 == 0) {       // so pairs are aligned, and inside or outside as a whole
          if (x >= end) continue;
          float2 sum = flags & 1 ? make_float2(0.f, 0.f) : read_two(so_far + x);
          sum.x += tile.at(i, j);
          sum.y += tile.at(i, j + Tile::NEIGHBOURS - 1);
          if (!(flags & 2)) {
            write_two(so_far + x, sum.x, sum.y);
            continue;
          }
          const float2 old = flags & 4 ? read_two(out + x) : make_float2(0.f, 0.f);
          write_two(out + x, old.x + sum.x, old.y + sum.y);
        } else {
#pragma unroll
          for (int e = 0; e < Tile::NEIGHBOURS; ++e) {
            if (x + e >= end) continue;
            const float sum = (flags & 1 ? 0.f : so_far[x + e]) + tile.at(i, j + e);
            if (!(flags & 2)) so_far[x + e] = sum;
            else out[x + e] = from_f32<T>((flags & 4 ? to_f32(out[x + e]) : 0.f) + sum);
          }
        }
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
          for (int j = 0; j < Tile::COLS; j += Tile::NEIGHBOURS) {
            const int x = n0 + tile.col(j);
            if (x >= end) continue;
            float* out = d_head + (size_t)v * c + x;     // 64-bit: V*C passes 2^31 at C = 14135, V = 151936
            if (Tile::NEIGHBOURS == 2 && c % 2 == 0) {   // so pairs are aligned, and inside or outside as a whole
              const float2 old = read_two(out);
              write_two(out, old.x + tile.at(i, j), old.y + tile.at(i, j + Tile::NEIGHBOURS - 1));
            } else {
#pragma unroll
              for (int e = 0; e < Tile::NEIGHBOURS; ++e)
                if (x + e < end) out[e] += tile.at(i, j + e);
            }
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

// After the last slab where warpgroups add up the slabs in `partial`: d_hidden[index[r]] (+)= partial[r]. C is a multiple
// of 8.
extern "C" __global__ void __launch_bounds__(128) linear_logprob_d_hidden_rows_bf16(
    bf16* d_hidden,             // (N, C)
    const float* partial,       // (R, C)
    const u32* index,           // (R) or null
    int n_rows, int c, int accumulate) {
  const int r = blockIdx.x;
  if (r >= n_rows) return;
  bf16* out = d_hidden + mapped(index, r) * c;
  const float* from = partial + (size_t)r * c;
  for (int x = threadIdx.x * 8; x < c; x += 128 * 8) {
    float v[8];
    load8(v, from + x);
    if (accumulate) {
      float old[8];
      load8(old, out + x);
#pragma unroll
      for (int k = 0; k < 8; ++k) v[k] = old[k] + v[k];
    }
    store8(out + x, v);
  }
}
EXPORT_KERNEL(linear_logprob_d_hidden_rows_bf16)
