// Drawing a token a row from logits, with temperature, top-k, top-p and min-p.
//
// Formula   w[v] = exp((z[v] - max z) / temperature); kept = the likeliest top_k, of them the fewest that hold top_p of
//           their weight, of them those with w >= min_p; token: inversion of the cumulative weights of the kept tokens,
//           likeliest first (in order of the vocabulary where nothing is truncated), at uniforms[n]
// Shapes    logits (N, V) f32 or bf16 | filters (N) | uniforms (N) f32 | out (N)
// Bytes     DRAM floor size * N*V; a row is read 3 times without truncation, 2 times and twice for each filter and the
//           draw with, from L2 after the first
// Flops     an exponential in f64 for each weight above 2^-47 of the largest: once without truncation, once for each
//           filter and the draw with
// Launch    grid (N), block (512): a block a row
// Numerics  weights are f64, summed as integers (2^-bits of the largest, 44 bits at V = 2^18): sums do not depend on
//           the order, so neither does the result. Equal logits: the smaller token first.
// Source    order of the filters as in Hugging Face transformers; selection by histograms instead of a sort
#include "row_weights.cuh"

#define PLACES 4                  // of the list, a thread
#define LISTED (PLACES * THREADS)

struct RowFilter {
  float temperature;
  u32 top_k;       // 0 keeps all
  float top_p, min_p;
};
struct Drawn {
  u32 token;
  float logprob, sampling_logprob, lse;
};

// How far to go through the kept tokens, likeliest first: to a number of them or to a weight.
struct Goal {
  u64 count;       // 0: any number
  double share;    // of the weight of all kept tokens: at least so much, or more than that
  bool above;
  __device__ __forceinline__ u64 weight(u64 total) const {
    if (count) return ~(u64)0;
    const double goal = share * (double)total;
    return above ? min((u64)goal + 1, total) : (u64)ceil(goal);
  }
  __device__ __forceinline__ bool reached(u64 n, u64 sum, u64 weight) const {
    return (count && n >= count) || sum >= weight;
  }
};

struct Found {
  u64 order;       // of the token found
  u64 total;       // weight of all kept tokens
};

struct Shared {
  u32 counts[BINS];
  u32 low[BINS], high[BINS];                             // of the weights: shared memory adds 32 bits at once, not 64
  u64 list[LISTED];
  u64 sums[WARPS];
  u32 listed;
  int digit, place;
  u64 before_count, before_weight;                       // of the tokens that come before all those of the digit
  u64 total, weight;                                     // of the kept tokens, and how much of it is the goal
  Found found;
};

// Adds a token, or several, to a bin.
__device__ __forceinline__ void count(Shared& s, int bin, u32 tokens, u64 weight) {
  atomicAdd(&s.counts[bin], tokens);
  const u32 low = (u32)weight, before = low ? atomicAdd(&s.low[bin], low) : 0;
  const u32 high = (u32)(weight >> 32) + (before + low < low ? 1 : 0);
  if (high) atomicAdd(&s.high[bin], high);
}
__device__ __forceinline__ u64 weight_of(const Shared& s, int bin) { return (u64)s.high[bin] << 32 | s.low[bin]; }

// The first warp: the bin in which the goal is reached, the last with a token if in none; eight bins a lane.
__device__ __forceinline__ void find_digit(const Goal& goal, bool first, Shared& s) {
  constexpr int OWN = BINS / 32;
  const int lane = threadIdx.x;
  u64 n = 0, sum = 0;
#pragma unroll
  for (int b = lane * OWN; b < (lane + 1) * OWN; ++b) n += s.counts[b], sum += weight_of(s, b);
  const u64 n_up = running_sum(n), sum_up = running_sum(sum);
  const u64 total = first ? __shfl_sync(0xffffffffu, sum_up, 31) : s.total;
  const u64 weight = first ? goal.weight(total) : s.weight;
  n = s.before_count + n_up - n;
  sum = s.before_weight + sum_up - sum;
  int digit = -1;
  u64 before_n = n, before_sum = sum;
  bool reached = false;
  for (int b = lane * OWN; b < (lane + 1) * OWN && !reached; ++b) {
    if (!s.counts[b]) continue;
    digit = b; before_n = n; before_sum = sum;
    n += s.counts[b]; sum += weight_of(s, b);
    reached = goal.reached(n, sum, weight);
  }
  const u32 reach = __ballot_sync(0xffffffffu, reached), filled = __ballot_sync(0xffffffffu, digit >= 0);
  __syncwarp();                                          // all lanes have read what the next lines write
  if (lane == (reach ? __ffs(reach) - 1 : 31 - __clz(filled))) {
    s.digit = digit; s.before_count = before_n; s.before_weight = before_sum;
    s.total = total; s.weight = weight; s.listed = 0;
  }
}

// Sorts the list, largest first.
__device__ __forceinline__ void sort_list(Shared& s, int n) {
  int size = 2;
  while (size < n) size *= 2;
  for (int i = n + threadIdx.x; i < size; i += THREADS) s.list[i] = 0;
  for (int width = 2; width <= size; width *= 2)         // bitonic
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
}

// The first kept token, likeliest first, at which the goal is reached; the last one if there is none. Narrows down by
// digits until a list holds what is left.
template <class T>
__device__ __forceinline__ Found select(const Row<T>& row, const Goal& goal, Shared& s) {
  const int own = threadIdx.x, warp = own >> 5, lane = own & 31;
  u64 prefix = 0;
  int bin = -1, shift = 64;                              // bin unknown; the digits of the order above `shift` are known
  if (own == 0) s.before_count = s.before_weight = 0;
  for (;;) {
    const bool first = bin < 0;
    auto inside = [&](float z, u64 order) {
      return (first || (row.bin(z) == bin && (shift == 64 || order >> shift == prefix))) && row.kept(z, order);
    };
    auto digit_of = [&](float z, u64 order) {
      return first ? row.bin(z) : BINS - 1 - (int)(order >> (shift - 8) & 255);
    };
    if (own < BINS) s.counts[own] = s.low[own] = s.high[own] = 0;
    __syncthreads();                                     // the histogram is empty
    u32 rest = 0;                                        // tokens of the last bin, where nearly all of a peaked row are
    u64 rest_weight = 0;
    for_tokens(row.logits, 0, row.vocab, own, THREADS, [&](int v, float z) {
      const u64 order = row.order(z, v);
      if (!inside(z, order)) return;
      const int digit = digit_of(z, order);
      const u64 w = row.fixed(z);
      if (digit == BINS - 1) ++rest, rest_weight += w;
      else count(s, digit, 1, w);
    });
    rest = warp_sum(rest);
    rest_weight = warp_sum(rest_weight);
    if (lane == 0 && rest) count(s, BINS - 1, rest, rest_weight);
    __syncthreads();                                     // the histogram is complete
    if (warp == 0) find_digit(goal, first, s);
    __syncthreads();                                     // the digit is known
    const int digit = s.digit;
    if (s.counts[digit] <= LISTED) {
      for_tokens(row.logits, 0, row.vocab, own, THREADS, [&](int v, float z) {
        const u64 order = row.order(z, v);
        if (inside(z, order) && digit_of(z, order) == digit) s.list[atomicAdd(&s.listed, 1u)] = order;
      });
      break;
    }
    if (first) bin = digit;
    else { prefix = prefix << 8 | (u64)(BINS - 1 - digit); shift -= 8; }
    __syncthreads();                                     // all have read the digit
  }
  __syncthreads();                                       // the list is complete, in any order
  const int n = (int)s.listed;
  sort_list(s, n);
  u64 orders[PLACES], weights[PLACES], sum = 0;
#pragma unroll
  for (int k = 0; k < PLACES; ++k) {
    orders[k] = own * PLACES + k < n ? s.list[own * PLACES + k] : 0;
    weights[k] = orders[k] ? row.fixed(logit_of(orders[k])) : 0;
    sum += weights[k];
  }
  const u64 up_to = running_sum(sum);
  if (lane == 31) s.sums[warp] = up_to;
  if (own == 0) s.place = n - 1;
  __syncthreads();                                       // the warps' sums are there
  u64 before = s.before_weight + up_to - sum;
  for (int w = 0; w < warp; ++w) before += s.sums[w];
#pragma unroll
  for (int k = 0; k < PLACES; ++k) {
    const int place = own * PLACES + k;
    before += weights[k];
    if (orders[k] && goal.reached(s.before_count + place + 1, before, s.weight)) atomicMin(&s.place, place);
  }
  __syncthreads();                                       // the place is known
  if (own == 0) s.found = Found{s.list[s.place], s.total};
  __syncthreads();                                       // the token is known to all
  return s.found;                                        // the next call overwrites it behind barriers of its own
}

template <class T>
__device__ __forceinline__ void draw(Drawn* out, const T* all_logits, const RowFilter* filters, const float* uniforms,
                                     int vocab, int bits) {
  const double scale = (double)((u64)1 << bits);
  SHARED(Shared, s, [1]);
  const int n = blockIdx.x;
  Row<T> row{all_logits + (size_t)n * vocab, vocab, 0.f, 1.0, scale, 1.f, 0, 0.0, 0.f};
  float best;
  int token;
  find_best(row.logits, vocab, best, token);
  // Log-sum-exp of the logits themselves.
  double sum = 0.0;
  for_tokens(row.logits, 0, vocab, (int)threadIdx.x, THREADS, [&](int, float z) { sum += (double)expf(z - best); });
  sum = block_sum(sum);
  const float lse = (float)((double)best + log(sum));
  const RowFilter filter = filters[n];
  float sampling_logprob = 0.f;
  // A row without a finite log-sum-exp is refused by the caller.
  if (lse - lse == 0.f && filter.temperature > 0.f) {
    row.best = best;
    row.per_nat = 1.0 / (double)filter.temperature;
    row.inverse = fminf(1.f / filter.temperature, 3.402823466e38f);
    const bool by_count = filter.top_k > 0 && filter.top_k < (u32)vocab, by_weight = filter.top_p < 1.f;
    u64 total = 0;
    if (by_count || by_weight || filter.min_p > 0.f) {
#pragma unroll 1
      for (int stage = by_count ? 0 : by_weight ? 1 : 2; stage < 3; ++stage) {
        if (stage == 1 && !by_weight) continue;
        Goal goal{stage == 0 ? filter.top_k : 0, (double)(stage == 1 ? filter.top_p : uniforms[n]), stage == 2};
        if (stage == 2) {
          row.min_weight = (double)filter.min_p;
          row.least = logf(filter.min_p) - 1.f;          // minus infinity without a bound
        }
        const Found found = select(row, goal, s[0]);
        row.cut = found.order;
        total = found.total;
      }
      token = (int)~(u32)row.cut;
    } else {
      token = draw_in_order(row, uniforms[n], total);
    }
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
