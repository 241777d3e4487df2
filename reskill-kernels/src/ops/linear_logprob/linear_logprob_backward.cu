// Gradients of the logits by slabs: logits are computed again, turned into their gradients in registers and written as
// a slab of rows x tokens, which two products read: d_hidden (linear_logprob_products.cu) and d_head.
//
// Formula   d_z[n, v] = (d_logprobs[n] ([v = target] - p) - d_entropy[n] p (log p + entropy[n])) / temperature,
//           p = exp(z - lse[n]); for the target 1 - p is -expm1(log p), which keeps its digits where p is near 1
// Shapes    hidden (N, C), head (V, C), slab (R, ld) bf16 or f32 | d_logprobs, d_entropy, entropy, lse (N) f32
// Bytes     of a slab of S tokens: size * (R*C + S*C + R*S) + 20*R
// Flops     2*R*S*C, and R*S exponentials
// Launch    grid (ceil(R/BM), ceil(S/256)), block (256), dynamic shared memory of the tile
// Numerics  logits as in the forward pass, to the bit; the slab is rounded to the storage of `hidden`
// Source    recomputation by slabs as in Liger (Hsu et al. 2024, arXiv:2410.10989); the filter: arXiv:2411.09009, 4.3
#include "product_tile.cuh"

template <class Tile>
__device__ __forceinline__ void d_logits(typename Tile::T* slab,      // (R, ld), column 0 is token `first`
                                         u32* matters,                // (ceil(R/128), ld/256) or null: no filter
                                         const typename Tile::T* hidden, const typename Tile::T* head,
                                         const u32* index,            // (R) or null
                                         const u32* targets, const float* d_logprobs, const float* d_entropy,
                                         const float* entropy, const float* lse,   // (N) each
                                         int n_rows, int first, int last, int ld, int c, float inverse_temperature,
                                         float log_filter) {
  const int m0 = blockIdx.x * Tile::BM, begin = first + blockIdx.y * STRIP;
  const int end = begin + STRIP < last ? begin + STRIP : last;
  const Operand<typename Tile::T> a{hidden, index, n_rows, c, c}, b{head, nullptr, last, c, c};
  bool any = false;
  Tile tile;
  // Writes a tile's gradients; `whole`: all of its tokens are in the slab.
  auto write = [&](int n0, auto whole) {
#pragma unroll
    for (int i = 0; i < Tile::ROWS; ++i) {
      const int r = m0 + tile.row(i);
      if (r >= n_rows) continue;
      const size_t n = mapped(index, r);
      const float by_logprob = d_logprobs[n], by_entropy = d_entropy[n], h = entropy[n], l = lse[n];
      const u32 target = targets[n] - (u32)n0;           // its column in this tile, if it has one
      float at_target = __int_as_float(0x7fffffff);      // NaN: not a column of this thread
      typename Tile::T* out = slab + (size_t)r * ld + (n0 - first);
      auto gradient = [&](float logprob, float p, float of_logprob) {
        return (by_logprob * of_logprob - by_entropy * p * (logprob + h)) * inverse_temperature;
      };
#pragma unroll
      for (int j = 0; j < Tile::COLS; j += Tile::NEIGHBOURS) {
        const int x = tile.col(j), n_inside = whole.value ? Tile::NEIGHBOURS : end - n0 - x;
        float d[Tile::NEIGHBOURS];
#pragma unroll
        for (int e = 0; e < Tile::NEIGHBOURS; ++e) {
          const float logprob = tile.at(i, j + e) * inverse_temperature - l, p = Tile::exp(logprob);
          d[e] = gradient(logprob, p, -p);
          if (e < n_inside) {
            if ((u32)(x + e) == target) at_target = logprob;
            any |= logprob >= log_filter;
          }
        }
        // Slabs begin, and their rows are apart, at multiples of 256.
        if (Tile::NEIGHBOURS == 2 && n_inside >= 2) write_two(out + x, d[0], d[Tile::NEIGHBOURS - 1]);
        else if (n_inside >= 1) out[x] = from_f32<typename Tile::T>(d[0]);
      }
      if (at_target == at_target) {
        out[target] = from_f32<typename Tile::T>(gradient(at_target, Tile::exp(at_target), -expm1f(at_target)));
        any = true;
      }
    }
  };
  tile.run(a, b, m0, begin, end, AllWanted(), [&](int n0) {
    if (n0 + Tile::BN <= end) write(n0, Whole<true>());
    else write(n0, Whole<false>());
  });
  // Every block of the same rows and tokens that finds something writes the same word.
  if (matters && any) matters[(size_t)(m0 / 128) * (ld / STRIP) + blockIdx.y] = 1u;
}

#define D_LOGITS(name, ...)                                                                                           \
  extern "C" __global__ void __launch_bounds__(256, 2) name(                                                          \
      __VA_ARGS__::T* slab, u32* matters, const __VA_ARGS__::T* hidden, const __VA_ARGS__::T* head, const u32* index, \
      const u32* targets, const float* d_logprobs, const float* d_entropy, const float* entropy, const float* lse,    \
      int n_rows, int first, int last, int ld, int c, float inverse_temperature, float log_filter) {                  \
    d_logits<__VA_ARGS__>(slab, matters, hidden, head, index, targets, d_logprobs, d_entropy, entropy, lse, n_rows,   \
                          first, last, ld, c, inverse_temperature, log_filter);                                       \
  }                                                                                                                   \
  EXPORT_KERNEL(name)

typedef MmaTile<128, 128, 2, 4, false, false> TileBf16;
typedef SimtTile<64, false, false> TileF32;
D_LOGITS(linear_logprob_d_logits_bf16, TileBf16)
D_LOGITS(linear_logprob_d_logits_f32, TileF32)
