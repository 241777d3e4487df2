// Drawing a token from the softmax of logits that are never stored.
//
// Formula   tokens[n] = first v with uniforms[n] < sum_{w <= v} p[n, w], p = softmax(hidden[n] . head^T / temperature);
//           greedy: the first v of the largest logit. logprobs[n] = z[n, v] - lse[n].
// Shapes    hidden (N, C), head (V, C) bf16 or f32 | uniforms, logprobs, lse (N) f32 | tokens (N) u32 |
//           part (R, n_strips): statistics of strips of 256 tokens, by linear_logprob_parts_*
// Bytes     parts: see linear_logprob_forward.cu; then size * 256*C a row: the head's rows of one strip
// Flops     2*256*C a row
// Launch    strip: grid (ceil(R/8)), block (256), a warp a row; token: grid (R), block (256; bf16: 128), dynamic shared
//           memory of the tile; sets: grid (R), block (128)
// Numerics  the strip is found from its statistics, its logits are computed again by the same instructions as before:
//           log-probabilities equal those of linear_logprob_forward to the bit. Cumulative sums are f64. Where the
//           statistics are those of linear_logprob_forward_sm90a.cu, so is the token: linear_sample_sm90a.cu.
// Source    inversion of the cumulative distribution, in two levels
#include "product_tile.cuh"
#include "reduce.cuh"
#include "strip_token.cuh"

// Finds the strip in which each row's token lies, and what is left of its uniform number there.
extern "C" __global__ void __launch_bounds__(256) linear_sample_strip(
    u32* strip,               // (R)
    double* rest,             // (R)
    const float4* part,       // (R, n_strips)
    const float* lse,         // (N)
    const float* uniforms,    // (N)
    const u32* index,         // (R) or null
    int n_rows, int n_strips, int greedy) {
  const int r = blockIdx.x * 8 + (int)(threadIdx.x >> 5), lane = threadIdx.x & 31;
  if (r >= n_rows) return;                               // a whole warp
  const float4* mine = part + (size_t)r * n_strips;
  const size_t n = mapped(index, r);
  if (greedy) {
    float top = -3.402823466e38f;
    for (int s = lane; s < n_strips; s += 32) top = fmaxf(top, mine[s].x);
    top = warp_max(top);
    for (int s0 = 0; s0 < n_strips; s0 += 32) {
      const u32 found = __ballot_sync(0xffffffffu, s0 + lane < n_strips && mine[s0 + lane].x == top);
      if (found) {
        if (lane == 0) { strip[r] = s0 + __ffs((int)found) - 1; rest[r] = 0.0; }
        return;
      }
    }
    if (lane == 0) { strip[r] = 0; rest[r] = 0.0; }      // no number equals the largest: NaN
    return;
  }
  const double goal = (double)uniforms[n];
  double before = 0.0, last_before = 0.0;
  int last = 0;                                          // the last strip with a probability, should rounding miss all
  for (int s0 = 0; s0 < n_strips; s0 += 32) {
    const int s = s0 + lane;
    const double p = s < n_strips ? exp((double)mine[s].x - (double)lse[n]) * (double)mine[s].y : 0.0;
    double sum = p;                                      // inclusive sum over the lanes up to this one
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
      const double other = __shfl_up_sync(0xffffffffu, sum, o);
      if (lane >= o) sum += other;
    }
    const double start = before + (sum - p);
    const u32 found = __ballot_sync(0xffffffffu, p > 0.0 && goal < before + sum);
    if (found) {
      if (lane == __ffs((int)found) - 1) { strip[r] = s; rest[r] = goal - start; }
      return;
    }
    const u32 some = __ballot_sync(0xffffffffu, p > 0.0);
    if (some) {
      const int lane_of_last = 31 - __clz((int)some);
      last = s0 + lane_of_last;
      last_before = __shfl_sync(0xffffffffu, start, lane_of_last);
    }
    before += __shfl_sync(0xffffffffu, sum, 31);
  }
  if (lane == 0) { strip[r] = last; rest[r] = goal - last_before; }
}
EXPORT_KERNEL(linear_sample_strip)

// Finds the token within the strip of each row.
template <class Tile>
__device__ __forceinline__ void token_of_strip(u32* tokens, float* logprobs, const typename Tile::T* hidden,
                                               const typename Tile::T* head, const float* lse, const u32* strip,
                                               const double* rest, const u32* index, int vocab, int c,
                                               float inverse_temperature, int greedy) {
  typedef typename Tile::T T;
  SHARED(float, logits, [STRIP]);
  const int r = blockIdx.x, begin = (int)strip[r] * STRIP, end = begin + STRIP < vocab ? begin + STRIP : vocab;
  const size_t n = mapped(index, r);
  const Operand<T> a{hidden + n * c, nullptr, 1, c, c}, b{head, nullptr, vocab, c, c};
  Tile tile;
  tile.run(a, b, 0, begin, end, AllWanted(), [&](int n0) {
#pragma unroll
    for (int i = 0; i < Tile::ROWS; ++i)
#pragma unroll
      for (int j = 0; j < Tile::COLS; ++j)
        if (tile.row(i) == 0 && n0 + tile.col(j) < end)
          logits[place_of_logit(n0 + tile.col(j) - begin)] = __fmul_rn(tile.at(i, j), inverse_temperature);
  });                                                    // ends with a barrier: all logits of the strip are there
  if (threadIdx.x >= 32) return;
  const int found = token_in_strip(logits, end - begin, rest[r], lse[n], greedy);
  if (threadIdx.x != 0) return;
  tokens[n] = begin + found;
  logprobs[n] = logits[place_of_logit(found)] - lse[n];
}

#define TOKEN(name, ...)                                                                                              \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__::THREADS) name(                                             \
      u32* tokens, float* logprobs, const __VA_ARGS__::T* hidden, const __VA_ARGS__::T* head, const float* lse,       \
      const u32* strip, const double* rest, const u32* index, int vocab, int c, float inverse_temperature,            \
      int greedy) {                                                                                                   \
    token_of_strip<__VA_ARGS__>(tokens, logprobs, hidden, head, lse, strip, rest, index, vocab, c,                    \
                                inverse_temperature, greedy);                                                         \
  }                                                                                                                   \
  EXPORT_KERNEL(name)

typedef MmaTile<16, 128, 1, 4, false, false> TileBf16;
typedef SimtTile<16, false, false> TileF32;
TOKEN(linear_sample_token_bf16, TileBf16)
TOKEN(linear_sample_token_f32, TileF32)

// Draws from the logits of sets.
extern "C" __global__ void __launch_bounds__(128) linear_sample_set(
    u32* tokens, float* logprobs,                                      // (N) each
    const float* logits,                                               // (E)
    const float* lse, const float* uniforms,                           // (N) each
    const u32* rows, const u32* offsets, const u32* ids, int greedy) {
  SHARED(float, p, [128]);
  const u32 n = rows[blockIdx.x], begin = offsets[n], end = offsets[n + 1];
  const double goal = (double)uniforms[n];
  double cumulative = 0.0;                               // these four are thread 0's
  u32 found = begin;
  float best = -3.402823466e38f;
  bool done = false;
  for (u32 first = begin; first < end; first += 128) {
    const u32 e = first + threadIdx.x;
    if (e < end) p[threadIdx.x] = greedy ? logits[e] : expf(logits[e] - lse[n]);
    __syncthreads();                                     // 128 probabilities are there
    if (threadIdx.x == 0) {
      const u32 count = end - first < 128 ? end - first : 128;
      for (u32 i = 0; i < count && !done; ++i) {
        if (greedy) {
          if (p[i] > best) { best = p[i]; found = first + i; }
        } else {
          if (p[i] > 0.f) found = first + i;
          cumulative += (double)p[i];
          done = goal < cumulative;
        }
      }
    }
    __syncthreads();                                     // they are read
  }
  if (threadIdx.x == 0) {
    tokens[n] = ids[found];
    logprobs[n] = logits[found] - lse[n];
  }
}
EXPORT_KERNEL(linear_sample_set)
