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

#define STRIP 256

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
  tile.run(a, b, m0, begin, end, AllWanted(), [&](int n0) {
#pragma unroll
    for (int i = 0; i < Tile::ROWS; ++i) {
      const int r = m0 + tile.row(i);
      if (r >= n_rows) continue;
      const size_t n = mapped(index, r);
      const float by_logprob = d_logprobs[n], by_entropy = d_entropy[n], h = entropy[n], l = lse[n];
      const int target = (int)targets[n];
      typename Tile::T* out = slab + (size_t)r * ld;
#pragma unroll
      for (int j = 0; j < Tile::COLS; ++j) {
        const int v = n0 + tile.col(j);
        if (v >= end) continue;
        const float logprob = tile.at(i, j) * inverse_temperature - l, p = Tile::exp(logprob);
        const float of_logprob = v == target ? -expm1f(logprob) : -p;
        out[v - first] = from_f32<typename Tile::T>((by_logprob * of_logprob - by_entropy * p * (logprob + h)) *
                                                    inverse_temperature);
        any |= v == target || logprob >= log_filter;
      }
    }
  });
  // Every block of the same rows and tokens that finds something writes the same word.
  if (matters && any) matters[(size_t)(m0 / 128) * (ld / STRIP) + blockIdx.y] = 1u;
}

#define D_LOGITS(name, ...)                                                                                           \
  extern "C" __global__ void __launch_bounds__(256) name(                                                             \
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
