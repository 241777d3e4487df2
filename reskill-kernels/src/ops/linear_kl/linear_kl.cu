// Kullback-Leibler divergence of a policy from a reference straight from hidden states: rows that allow everything.
//
// Formula   kl[n] = sum_v p (log p - log q), log p = z - lse, log q = y - ref_lse, z and y logits over the temperature
//           d_z[n, v] = d_kl[n] p (log p - log q - kl[n]) / temperature
// Shapes    hidden (N, C), head (V, C), ref_hidden (N, C'), ref_head (V, C') bf16 or f32 | lse, ref_lse, kl (N) f32
//           part (R, ceil(V/256)) f32 | slab (R, ld) as `hidden`: gradients of the logits of `last - first` tokens
// Bytes     forward: size * (N + V) * (C + C') + 12*N, and 4 bytes a row and 256 tokens; backward besides size * R*S
// Flops     2*N*V*(C + C') and N*V exponentials
// Launch    parts, d_logits: grid (ceil(R/BM), ceil(V or S / 256)), block (256), dynamic shared memory of the tile;
//           join: grid (ceil(R/256)), block (256)
// Numerics  two tiles of logits side by side in registers; strips of 256 tokens are summed in f64 in ascending order
// Source    the definition; products of the slab: linear_logprob_products.cu
#include "product_tile.cuh"

// The inputs of both passes.
template <class T> struct Pair {
  const T* hidden;       // (N, c)
  const T* head;         // (V, c)
  const float* lse;      // (N)
  const T* ref_hidden;   // (N, ref_c)
  const T* ref_head;     // (V, ref_c)
  const float* ref_lse;  // (N)
  const u32* index;      // (R) or null
  int n_rows, c, ref_c;
  float inverse_temperature;
};

// Calls f(i, row, of_row(n), token, how many, log p, log q) for the elements of this thread in one strip, neighbours at
// once; n is the row's place in the batch, looked up once a tile.
template <class Tile, class OfRow, class F>
__device__ __forceinline__ void for_each_logprob(const Pair<typename Tile::T>& pair, int m0, int begin, int end,
                                                 OfRow of_row, F f) {
  typedef typename Tile::T T;
  const Operand<T> a{pair.hidden, pair.index, pair.n_rows, pair.c, pair.c}, b{pair.head, nullptr, end, pair.c, pair.c};
  const Operand<T> x{pair.ref_hidden, pair.index, pair.n_rows, pair.ref_c, pair.ref_c};
  const Operand<T> y{pair.ref_head, nullptr, end, pair.ref_c, pair.ref_c};
  for (int n0 = begin; n0 < end; n0 += Tile::BN) {
    const int n1 = n0 + Tile::BN < end ? n0 + Tile::BN : end;
    Tile policy, reference;
    policy.run(a, b, m0, n0, n1, AllWanted(), [](int) {});
    reference.run(x, y, m0, n0, n1, AllWanted(), [](int) {});
#pragma unroll
    for (int i = 0; i < Tile::ROWS; ++i) {
      const int r = m0 + policy.row(i);
      if (r >= pair.n_rows) continue;
      const size_t n = mapped(pair.index, r);
      const float lse = pair.lse[n], ref_lse = pair.ref_lse[n];
      const auto row = of_row(n);
#pragma unroll
      for (int j = 0; j < Tile::COLS; j += Tile::NEIGHBOURS) {
        float logp[Tile::NEIGHBOURS], logq[Tile::NEIGHBOURS];
#pragma unroll
        for (int e = 0; e < Tile::NEIGHBOURS; ++e) {
          logp[e] = policy.at(i, j + e) * pair.inverse_temperature - lse;
          logq[e] = reference.at(i, j + e) * pair.inverse_temperature - ref_lse;
        }
        const int v = n0 + policy.col(j);
        if (v < n1) f(i, r, row, v, n1 - v, logp, logq);
      }
    }
  }
}

template <class Tile>
__device__ __forceinline__ void kl_parts(float* part, const Pair<typename Tile::T>& pair, int vocab) {
  const int m0 = blockIdx.x * Tile::BM, begin = blockIdx.y * STRIP;
  const int end = begin + STRIP < vocab ? begin + STRIP : vocab;
  float sum[Tile::ROWS];
#pragma unroll
  for (int i = 0; i < Tile::ROWS; ++i) sum[i] = 0.f;
  for_each_logprob<Tile>(pair, m0, begin, end, [](size_t) { return 0; },
                         [&](int i, int, int, int, int n, const auto& logp, const auto& logq) {
#pragma unroll
                           for (int e = 0; e < Tile::NEIGHBOURS; ++e)
                             if (e < n) sum[i] = fmaf(Tile::exp(logp[e]), logp[e] - logq[e], sum[i]);
                         });
  DYN_SHARED(float, shared);                             // [WARPS_N][BM]
  Tile tile;
#pragma unroll
  for (int i = 0; i < Tile::ROWS; ++i) {
#pragma unroll
    for (int o = 1; o < Tile::ROW_LANES; o <<= 1) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], o);
    if (threadIdx.x % Tile::ROW_LANES == 0) shared[tile.warp_n() * Tile::BM + tile.row(i)] = sum[i];
  }
  __syncthreads();                                       // all warps' sums are there
  for (int r = threadIdx.x; r < Tile::BM && m0 + r < pair.n_rows; r += 256) {
    float total = shared[r];
#pragma unroll
    for (int w = 1; w < Tile::WARPS_N; ++w) total += shared[w * Tile::BM + r];
    part[(size_t)(m0 + r) * gridDim.y + blockIdx.y] = total;
  }
}

template <class Tile>
__device__ __forceinline__ void kl_d_logits(typename Tile::T* slab, const Pair<typename Tile::T>& pair,
                                            const float* d_kl, const float* kl, int first, int last, int ld) {
  const int m0 = blockIdx.x * Tile::BM, begin = first + blockIdx.y * STRIP;
  const int end = begin + STRIP < last ? begin + STRIP : last;
  for_each_logprob<Tile>(
      pair, m0, begin, end, [&](size_t n) { return make_float2(d_kl[n] * pair.inverse_temperature, kl[n]); },
      [&](int, int r, float2 scale_and_kl, int v, int n, const auto& logp, const auto& logq) {
        typename Tile::T* out = slab + (size_t)r * ld + v - first;
        float d[Tile::NEIGHBOURS];
#pragma unroll
        for (int e = 0; e < Tile::NEIGHBOURS; ++e)
          d[e] = scale_and_kl.x * Tile::exp(logp[e]) * (logp[e] - logq[e] - scale_and_kl.y);
        // Slabs begin, and their rows are apart, at multiples of 256.
        if (Tile::NEIGHBOURS == 2 && n >= 2) write_two(out, d[0], d[Tile::NEIGHBOURS - 1]);
        else *out = from_f32<typename Tile::T>(d[0]);
      });
}

#define KERNELS(suffix, TILE)                                                                                         \
  extern "C" __global__ void __launch_bounds__(256) linear_kl_parts_##suffix(                                         \
      float* part, const TILE::T* hidden, const TILE::T* head, const float* lse, const TILE::T* ref_hidden,           \
      const TILE::T* ref_head, const float* ref_lse, const u32* index, int n_rows, int vocab, int c, int ref_c,       \
      float inverse_temperature) {                                                                                    \
    const Pair<TILE::T> pair{hidden, head, lse, ref_hidden, ref_head, ref_lse, index, n_rows, c, ref_c,               \
                             inverse_temperature};                                                                    \
    kl_parts<TILE>(part, pair, vocab);                                                                                \
  }                                                                                                                   \
  EXPORT_KERNEL(linear_kl_parts_##suffix)                                                                             \
  extern "C" __global__ void __launch_bounds__(256) linear_kl_d_logits_##suffix(                                      \
      TILE::T* slab, const TILE::T* hidden, const TILE::T* head, const float* lse, const TILE::T* ref_hidden,         \
      const TILE::T* ref_head, const float* ref_lse, const u32* index, const float* d_kl, const float* kl,            \
      int n_rows, int first, int last, int ld, int c, int ref_c, float inverse_temperature) {                         \
    const Pair<TILE::T> pair{hidden, head, lse, ref_hidden, ref_head, ref_lse, index, n_rows, c, ref_c,               \
                             inverse_temperature};                                                                    \
    kl_d_logits<TILE>(slab, pair, d_kl, kl, first, last, ld);                                                         \
  }                                                                                                                   \
  EXPORT_KERNEL(linear_kl_d_logits_##suffix)

typedef MmaTile<64, 128, 2, 4, false, false> TileBf16;
typedef SimtTile<64, false, false> TileF32;
KERNELS(bf16, TileBf16)
KERNELS(f32, TileF32)

// Sums the strips of each row.
extern "C" __global__ void __launch_bounds__(256) linear_kl_join(float* kl,          // (N)
                                                                 const float* part,  // (R, n_strips): of 256 tokens, or
                                                                                     // what linear_kl_sm90a.cu takes
                                                                 const u32* index,   // (R) or null
                                                                 int n_rows, int n_strips) {
  const int r = blockIdx.x * 256 + threadIdx.x;
  if (r >= n_rows) return;
  double total = 0.0;
  for (int s = 0; s < n_strips; ++s) total += (double)part[(size_t)r * n_strips + s];
  kl[mapped(index, r)] = (float)total;
}
EXPORT_KERNEL(linear_kl_join)
