// Drawing a token a row from logits, with temperature, top-k, top-p and min-p.
//
// Formula   w[v] = exp((z[v] - max z) / temperature); kept = the likeliest top_k, of them the fewest that hold top_p of
//           their weight, of them those with w >= min_p; token: inversion of the cumulative weights of the kept tokens,
//           likeliest first (in order of the vocabulary where nothing is truncated), at uniforms[n]
// Shapes    logits (N, V) f32 or bf16 | filters (N) | uniforms (N) f32 | out (N)
// Bytes     DRAM floor size * N*V; a row is read 3 times without truncation, 2 to 8 times with, from L2 after the first
// Flops     an exponential in f64 a pass for each weight above 2^-47 of the largest
// Launch    grid (N), block (512): a block a row
// Numerics  weights are f64, summed as integers (2^-bits of the largest, 44 bits at V = 2^18): sums do not depend on
//           the order, so neither does the result. Equal logits: the smaller token first.
// Source    order of the filters as in Hugging Face transformers; selection by histograms instead of a sort
#include "prelude.cuh"

#define THREADS 512
#define BINS 256
#define LISTED 1024

struct RowFilter {
  float temperature;
  u32 top_k;       // 0 keeps all
  float top_p, min_p;
};
struct Drawn {
  u32 token;
  float logprob, sampling_logprob, lse;
};

// What is known of a row.
template <class T> struct Row {
  const T* logits;
  int vocab;
  float best;              // the largest logit
  double temperature, scale;
  float inverse;           // 1 / temperature, or the largest number
  u64 cut;                 // tokens of smaller order are not kept
  double min_weight;       // nor are those of smaller weight
  float least;             // and none whose `nats` are below this has that weight

  __device__ __forceinline__ float z(int v) const { return to_f32(logits[v]); }
  __device__ __forceinline__ double weight(float z) const { return exp((double)(z - best) / temperature); }
  // Logarithm of the weight in f32, off by less than a 2^-21 of itself, or too large if the temperature is below 2^-127:
  // for bounds with room to spare, which keep most tokens of a peaked row from arithmetic in f64.
  __device__ __forceinline__ float nats(float z) const { return (z - best) * inverse; }
  // Weight as an integer; what is below 2^-46 of the largest counts nothing.
  __device__ __forceinline__ u64 fixed(float z) const {
    if (nats(z) < -33.f) return 0;
    const double x = (double)(z - best) / temperature;
    return x < -32.0 ? 0 : (u64)(exp(x) * scale + 0.5);
  }
  // Larger logits first, then smaller tokens: all orders differ.
  __device__ __forceinline__ u64 order(float z, int v) const {
    const u32 bits = __float_as_uint(z);
    return (u64)(bits & 0x80000000u ? ~bits : bits | 0x80000000u) << 32 | (u32)~v;
  }
  __device__ __forceinline__ bool kept(float z, u64 order) const {
    if (order < cut) return false;
    return min_weight == 0.0 || (nats(z) >= least && weight(z) >= min_weight);
  }
  // An eighth of a nat a bin, likeliest first, and all the rest.
  __device__ __forceinline__ int bin(float z) const {
    const float x = (best - z) * (float)(8.0 / temperature);
    return x < (float)(BINS - 1) ? (int)x : BINS - 1;
  }
};
__device__ __forceinline__ float logit_of(u64 order) {
  const u32 key = (u32)(order >> 32);
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

struct Found {
  u64 order;          // of the token found
  u64 weight;         // of all kept tokens before it
};

struct Shared {
  u32 counts[BINS];
  u64 weights[BINS];
  u64 list[LISTED];
  u32 listed;
  int digit, last_digit;
  u64 before_count, before_weight;
  Found found;
};

// The first kept token, likeliest first, at which the number of tokens reaches `count` or their weight reaches
// `weight`; the last one if there is none. Narrows down by digits until a list holds what is left.
template <class T>
__device__ __forceinline__ Found select(const Row<T>& row, u64 count, u64 weight, Shared& s) {
  u64 prefix = 0;
  int bin = -1, shift = 64;                              // bin unknown; the digits of the order above `shift` are known
  if (threadIdx.x == 0) s.before_count = s.before_weight = 0;
  for (;;) {
    auto inside = [&](float z, u64 order) {
      return bin < 0 || (row.bin(z) == bin && (shift == 64 || order >> shift == prefix));
    };
    auto digit_of = [&](float z, u64 order) {
      return bin < 0 ? row.bin(z) : BINS - 1 - (int)(order >> (shift - 8) & 255);
    };
    for (int b = threadIdx.x; b < BINS; b += THREADS) { s.counts[b] = 0; s.weights[b] = 0; }
    __syncthreads();                                     // the histogram is empty
    for (int v = threadIdx.x; v < row.vocab; v += THREADS) {
      const float z = row.z(v);
      const u64 order = row.order(z, v);
      if (!inside(z, order) || !row.kept(z, order)) continue;
      atomicAdd(&s.counts[digit_of(z, order)], 1u);
      const u64 w = row.fixed(z);
      if (w) atomicAdd(&s.weights[digit_of(z, order)], w);
    }
    __syncthreads();                                     // the histogram is complete
    if (threadIdx.x == 0) {
      u64 n = s.before_count, sum = s.before_weight, last_n = n, last_sum = sum;
      int b = 0, last = 0;
      for (; b < BINS; ++b) {
        if (!s.counts[b]) continue;
        last = b; last_n = n; last_sum = sum;
        n += s.counts[b]; sum += s.weights[b];
        if (n >= count || sum >= weight) break;
      }
      s.digit = last; s.before_count = last_n; s.before_weight = last_sum; s.listed = 0;
    }
    __syncthreads();                                     // the digit is known
    const bool short_list = s.counts[s.digit] <= LISTED;
    const int digit = s.digit;
    if (short_list) {
      for (int v = threadIdx.x; v < row.vocab; v += THREADS) {
        const float z = row.z(v);
        const u64 order = row.order(z, v);
        if (inside(z, order) && row.kept(z, order) && digit_of(z, order) == digit)
          s.list[atomicAdd(&s.listed, 1u)] = order;
      }
      break;
    }
    if (bin < 0) bin = digit;
    else { prefix = prefix << 8 | (u64)(BINS - 1 - digit); shift -= 8; }
    __syncthreads();                                     // all have read the digit
  }
  __syncthreads();                                       // the list is complete, in any order
  const int n = (int)s.listed;
  int size = 2;
  while (size < n) size *= 2;
  for (int i = n + threadIdx.x; i < size; i += THREADS) s.list[i] = 0;
  for (int width = 2; width <= size; width *= 2)         // bitonic sort, largest first
    for (int step = width / 2; step > 0; step /= 2) {
      __syncthreads();                                   // the last exchange is done
      for (int i = threadIdx.x; i < size; i += THREADS) {
        const int j = i ^ step;
        if (j > i && (s.list[i] < s.list[j]) == ((i & width) == 0)) {
          const u64 x = s.list[i];
          s.list[i] = s.list[j];
          s.list[j] = x;
        }
      }
    }
  __syncthreads();                                       // the list is sorted
  if (threadIdx.x == 0) {
    u64 number = s.before_count, sum = s.before_weight;
    for (int i = 0; i < n; ++i) {
      s.found = Found{s.list[i], sum};
      ++number; sum += row.fixed(logit_of(s.list[i]));
      if (number >= count || sum >= weight) break;
    }
  }
  __syncthreads();                                       // the token is known to all
  return s.found;                                        // the next call overwrites it behind barriers of its own
}

// Sum over the block of an integer, known to all. Two calls are apart by a barrier: that of `select`.
__device__ __forceinline__ u64 sum_of_block(u64 x, u64* shared) {
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) x += __shfl_xor_sync(0xffffffffu, x, o);
  if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5] = x;
  __syncthreads();                                       // all warps' sums are there
  u64 total = 0;
  for (int w = 0; w < THREADS / 32; ++w) total += shared[w];
  return total;
}

// The first token at which the weight of the vocabulary up to it reaches `goal`: the range is cut in 16, a warp a part,
// until few are left.
template <class T> __device__ __forceinline__ int in_order(const Row<T>& row, u64 goal, u64* shared) {
  int begin = 0, end = row.vocab;
  u64 before = 0;
  const int warp = (int)threadIdx.x >> 5, lane = threadIdx.x & 31;
  while (end - begin > 64) {
    const int part = (end - begin + 15) / 16, from = begin + warp * part, to = from + part < end ? from + part : end;
    u64 sum = 0;
    for (int v = from + lane; v < to; v += 32) sum += row.fixed(row.z(v));
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
    __syncthreads();                                     // the last level's sums are read
    if (lane == 0) shared[warp] = sum;
    __syncthreads();                                     // all parts' sums are there
    int w = 0;
    while (w < 15 && before + shared[w] < goal) before += shared[w++];
    begin = begin + w * part;
    end = begin + part < end ? begin + part : end;
  }
  int v = begin;
  for (; v < end - 1; ++v) {
    before += row.fixed(row.z(v));
    if (before >= goal) break;
  }
  return v;
}

template <class T>
__device__ __forceinline__ void draw(Drawn* out, const T* all_logits, const RowFilter* filters, const float* uniforms,
                                     int vocab, int bits) {
  const double scale = (double)((u64)1 << bits);
  SHARED(Shared, s, [1]);
  SHARED(float, tops, [THREADS / 32]);
  SHARED(int, tokens, [THREADS / 32]);
  SHARED(double, sums, [THREADS / 32]);
  SHARED(u64, parts, [THREADS / 32]);
  const int n = blockIdx.x, lane = threadIdx.x & 31, warp = (int)threadIdx.x >> 5;
  Row<T> row{all_logits + (size_t)n * vocab, vocab, 0.f, 1.0, scale, 1.f, 0, 0.0, 0.f};
  // The largest logit, and the first token that has it.
  float best = -__int_as_float(0x7f800000);
  int token = vocab;
  for (int v = threadIdx.x; v < vocab; v += THREADS) {
    const float z = row.z(v);
    if (z > best) { best = z; token = v; }
  }
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) {
    const float other = __shfl_xor_sync(0xffffffffu, best, o);
    const int other_token = __shfl_xor_sync(0xffffffffu, token, o);
    if (other > best || (other == best && other_token < token)) { best = other; token = other_token; }
  }
  if (lane == 0) { tops[warp] = best; tokens[warp] = token; }
  __syncthreads();                                       // all warps' maxima are there
  for (int w = 0; w < THREADS / 32; ++w)
    if (tops[w] > best || (tops[w] == best && tokens[w] < token)) { best = tops[w]; token = tokens[w]; }
  // Log-sum-exp of the logits themselves.
  double sum = 0.0;
  for (int v = threadIdx.x; v < vocab; v += THREADS) sum += (double)expf(row.z(v) - best);
#pragma unroll
  for (int o = 16; o > 0; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  if (lane == 0) sums[warp] = sum;
  __syncthreads();                                       // all warps' sums are there
  sum = 0.0;
  for (int w = 0; w < THREADS / 32; ++w) sum += sums[w];
  const float lse = (float)((double)best + log(sum));
  const RowFilter filter = filters[n];
  float sampling_logprob = 0.f;
  // A row without a finite log-sum-exp is refused by the caller.
  if (lse - lse == 0.f && filter.temperature > 0.f) {
    row.best = best;
    row.temperature = (double)filter.temperature;
    row.inverse = fminf(1.f / filter.temperature, 3.402823466e38f);
    const bool by_count = filter.top_k > 0 && filter.top_k < (u32)vocab;
    const bool truncates = by_count || filter.top_p < 1.f || filter.min_p > 0.f;
    const u64 never = ~(u64)0;
    auto total_kept = [&] {
      u64 total = 0;
      for (int v = threadIdx.x; v < vocab; v += THREADS) {
        const float z = row.z(v);
        if (row.kept(z, row.order(z, v))) total += row.fixed(z);
      }
      return sum_of_block(total, parts);
    };
    if (by_count) row.cut = select(row, filter.top_k, never, s[0]).order;
    if (filter.top_p < 1.f) {
      const double goal = (double)filter.top_p * (double)total_kept();
      row.cut = select(row, never, (u64)ceil(goal), s[0]).order;
    }
    row.min_weight = (double)filter.min_p;
    row.least = logf(filter.min_p) - 1.f;                // minus infinity without a bound
    const u64 total = total_kept();
    u64 goal = (u64)((double)uniforms[n] * (double)total) + 1;   // cumulative > uniform * total
    if (goal > total) goal = total;
    token = truncates ? (int)~(u32)select(row, never, goal, s[0]).order : in_order(row, goal, parts);
    sampling_logprob = (float)log(row.weight(row.z(token)) * row.scale / (double)total);
  }
  if (threadIdx.x == 0) out[n] = Drawn{(u32)token, row.z(token < vocab ? token : 0) - lse, sampling_logprob, lse};
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    sample_logits_f32(Drawn* out, const float* logits, const RowFilter* filters, const float* uniforms, int vocab,
                      int bits) {
  draw<float>(out, logits, filters, uniforms, vocab, bits);
}
EXPORT_KERNEL(sample_logits_f32)
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    sample_logits_bf16(Drawn* out, const bf16* logits, const RowFilter* filters, const float* uniforms, int vocab,
                       int bits) {
  draw<bf16>(out, logits, filters, uniforms, vocab, bits);
}
EXPORT_KERNEL(sample_logits_bf16)
