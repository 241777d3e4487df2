// The GRPO loss of each token, its gradient by the token's log-probability and entropy, and sums for the log.
//
// Formula   loss[n] = surrogate(log ratio, A) * min(exp(old - sampler), limit) + kl_coef * kl - entropy_coef * entropy;
//           d_logprobs[n] = weights[n] * d loss / d logprob, d_entropy[n] = -weights[n] * entropy_coef
//           (the variants: clip.rs, cispo.rs, sapo.rs, kl.rs, sequence.rs beside this file)
// Shapes    all columns (N) f32, sequences (N) u32 | part (blocks, 9), sums (9) f64 | mean (N) f64, slopes (N) f32
// Bytes     4 * (2 + 5 + optional columns) * N
// Flops     ~60*N, in f32 as on the CPU: a few microseconds, bound by the launch
// Launch    tokens: grid (ceil(N/256)), block (256); sums: grid (1), block (32); sequence passes: grid (ceil(N/256)),
//           block (256), each token looks through all others: N^2 comparisons, 50 us at N = 16384
// Numerics  sums of statistics are f64, in the order of a fixed tree; those of a sequence in the order of its tokens
// Source    Shao et al. 2024, arXiv:2402.03300, eq. 3; the variants name their own
#include "prelude.cuh"

struct LossNumbers {
  int surrogate;              // 0 clip, 1 cispo, 2 sapo, 3 policy gradient
  int kl;                     // 0 k1, 1 k2, 2 k3, 3 full
  int flags;                  // 1 dual clip, 2 log-ratio clamp, 4 k3 clamp, 8 truncation, 16 ratios of sequences
  float clip_low, clip_high, dual_clip, kl_coef, entropy_coef, log_ratio_clamp, k3_clamp, importance_truncation;
};

struct LossTerm {
  float value, by_log_ratio, by_logprob;
  int high, low, dual;
};

__device__ __forceinline__ float within(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
__device__ __forceinline__ bool is_clamped(const LossNumbers& p, float x) {
  return (p.flags & 2) && (x > p.log_ratio_clamp || x < -p.log_ratio_clamp);
}
__device__ __forceinline__ float clamped(const LossNumbers& p, float x) {
  return p.flags & 2 ? within(x, -p.log_ratio_clamp, p.log_ratio_clamp) : x;
}

__device__ __forceinline__ LossTerm clip_term(const LossNumbers& p, float log_ratio, float advantage) {
  LossTerm term{};
  const float ratio = expf(clamped(p, log_ratio));
  const float unclipped = -ratio * advantage;
  const float clipped = -within(ratio, 1.f - p.clip_low, 1.f + p.clip_high) * advantage;
  const float larger = clipped > unclipped ? clipped : unclipped;
  if ((p.flags & 1) && advantage < 0.f && larger > -p.dual_clip * advantage) {
    term.value = -p.dual_clip * advantage;
    term.low = term.dual = 1;
  } else if (clipped > unclipped) {
    term.value = clipped;
    (ratio > 1.f ? term.high : term.low) = 1;
  } else {
    term.value = unclipped;
    term.by_log_ratio = is_clamped(p, log_ratio) ? 0.f : -ratio * advantage;
  }
  return term;
}

__device__ __forceinline__ LossTerm cispo_term(const LossNumbers& p, float log_ratio, float logprob, float advantage) {
  LossTerm term{};
  const float ratio = expf(clamped(p, log_ratio)), low = 1.f - p.clip_low, high = 1.f + p.clip_high;
  term.high = ratio > high;
  term.low = ratio < low;
  term.by_logprob = -within(ratio, low, high) * advantage;
  term.value = term.by_logprob * logprob;
  return term;
}

__device__ __forceinline__ LossTerm sapo_term(const LossNumbers& p, float log_ratio, float advantage) {
  LossTerm term{};
  const double tau = advantage > 0.f ? 1.0 : 1.05, ratio = (double)expf(clamped(p, log_ratio));
  const double gate = 1.0 / (1.0 + exp(-tau * (ratio - 1.0))), open = 4.0 * gate * (1.0 - gate);
  // Where the gate is shut the ratio may be infinite; its derivative is 0 all the same.
  const double slope = open == 0.0 || is_clamped(p, log_ratio) ? 0.0 : open * ratio;
  term.value = -(float)(gate * 4.0 / tau) * advantage;
  term.by_log_ratio = -(float)slope * advantage;
  return term;
}

__device__ __forceinline__ LossTerm surrogate_term(const LossNumbers& p, float log_ratio, float logprob,
                                                   float advantage) {
  if (advantage == 0.f) return LossTerm{};               // an infinite ratio times no advantage is nothing, not NaN
  if (p.surrogate == 0) return clip_term(p, log_ratio, advantage);
  if (p.surrogate == 1) return cispo_term(p, log_ratio, logprob, advantage);
  if (p.surrogate == 2) return sapo_term(p, log_ratio, advantage);
  LossTerm term{};
  term.by_logprob = -advantage;
  term.value = -advantage * logprob;
  return term;
}

// Value of the divergence and its derivative by the log-probability.
__device__ __forceinline__ float2 divergence(const LossNumbers& p, float reference, float logprob) {
  const float d = reference - logprob;
  if (p.kl == 0) return make_float2(-d, 1.f);
  if (p.kl == 1) return make_float2(0.5f * d * d, -d);
  if (p.kl == 3) return make_float2(reference, 0.f);
  const float inner = clamped(p, d), value = expm1f(inner) - inner;
  const bool cut = (p.flags & 4) && value > p.k3_clamp;
  if (is_clamped(p, d) || cut) return make_float2(cut ? p.k3_clamp : value, 0.f);
  return make_float2(value, -expm1f(inner));
}

// Mean log-ratio of each token's sequence, over its tokens of weight other than 0.
extern "C" __global__ void __launch_bounds__(256)
    grpo_loss_sequence_mean(double* mean,  // (N)
                            const float* logprobs, const float* old_logprobs, const float* weights,
                            const u32* sequences, int n) {
  SHARED(u32, ids, [256]);
  SHARED(double, ratios, [256]);
  SHARED(int, counts, [256]);
  const int i = blockIdx.x * 256 + threadIdx.x;
  const u32 mine = i < n ? sequences[i] : 0;
  double total = 0.0;
  int count = 0;
  for (int first = 0; first < n; first += 256) {
    const int m = first + threadIdx.x;
    ids[threadIdx.x] = m < n ? sequences[m] : 0;
    counts[threadIdx.x] = m < n && weights[m] != 0.f;
    ratios[threadIdx.x] = counts[threadIdx.x] ? (double)logprobs[m] - (double)old_logprobs[m] : 0.0;
    __syncthreads();                                     // 256 tokens are there
    for (int k = 0; k < 256; ++k)
      if (counts[k] && ids[k] == mine) { total += ratios[k]; ++count; }
    __syncthreads();                                     // they are read
  }
  if (i < n) mean[i] = count ? total / (double)count : 0.0;
}
EXPORT_KERNEL(grpo_loss_sequence_mean)

// Adds to each token its share of the derivatives by its sequence's log-ratio.
extern "C" __global__ void __launch_bounds__(256)
    grpo_loss_sequence_share(float* d_logprobs,  // (N)
                             const float* slopes,  // (N)
                             const float* weights, const u32* sequences, int n) {
  SHARED(u32, ids, [256]);
  SHARED(float, parts, [256]);
  SHARED(int, counts, [256]);
  const int i = blockIdx.x * 256 + threadIdx.x;
  const u32 mine = i < n ? sequences[i] : 0;
  double total = 0.0;
  int count = 0;
  for (int first = 0; first < n; first += 256) {
    const int m = first + threadIdx.x;
    ids[threadIdx.x] = m < n ? sequences[m] : 0;
    counts[threadIdx.x] = m < n && weights[m] != 0.f;
    parts[threadIdx.x] = counts[threadIdx.x] ? slopes[m] : 0.f;
    __syncthreads();                                     // 256 tokens are there
    for (int k = 0; k < 256; ++k)
      if (counts[k] && ids[k] == mine) { total += (double)parts[k]; ++count; }
    __syncthreads();                                     // they are read
  }
  if (i < n && weights[i] != 0.f) d_logprobs[i] += (float)(total / (double)count);
}
EXPORT_KERNEL(grpo_loss_sequence_share)

// Loss and gradients. With ratios of sequences `mean` is read and `slopes` written.
extern "C" __global__ void __launch_bounds__(256) grpo_loss_tokens(
    float* d_logprobs, float* d_entropy,                                         // (N) each
    double* part,                                                                // (blocks, 9)
    float* slopes,                                                               // (N)
    const float* logprobs, const float* old_logprobs, const float* sampler_logprobs, const float* ref_logprobs,
    const float* entropy, const float* advantages, const float* weights,         // (N) each
    const double* mean,                                                          // (N)
    int surrogate, int kl_kind, int flags, float clip_low, float clip_high, float dual_clip, float kl_coef,
    float entropy_coef, float log_ratio_clamp, float k3_clamp, float importance_truncation, int n) {
  const LossNumbers p{surrogate, kl_kind, flags, clip_low, clip_high, dual_clip, kl_coef, entropy_coef, log_ratio_clamp,
                      k3_clamp, importance_truncation};
  SHARED(double, shared, [8][9]);
  const int i = blockIdx.x * 256 + threadIdx.x;
  const float weight = i < n ? weights[i] : 0.f;
  double sums[9] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0};
  if (i < n && weight == 0.f) { d_logprobs[i] = 0.f; d_entropy[i] = 0.f; }
  if (i < n && weight != 0.f) {
    const bool by_sequence = p.flags & 16;
    const float logprob = logprobs[i], old = old_logprobs[i], token_log_ratio = logprob - old;
    const float log_ratio = by_sequence ? (float)mean[i] : token_log_ratio;
    LossTerm policy = surrogate_term(p, log_ratio, logprob, advantages[i]);
    if (p.flags & 8) {
      const float ratio = expf(old - sampler_logprobs[i]);
      const float correction = ratio > p.importance_truncation ? p.importance_truncation : ratio;
      policy.value *= correction; policy.by_log_ratio *= correction; policy.by_logprob *= correction;
    }
    float2 kl = make_float2(0.f, 0.f);
    if (p.kl_coef != 0.f) kl = divergence(p, ref_logprobs[i], logprob);
    const float value = policy.value + p.kl_coef * kl.x - p.entropy_coef * entropy[i];
    const float own = by_sequence ? policy.by_logprob : policy.by_log_ratio + policy.by_logprob;
    if (by_sequence) slopes[i] = weight * policy.by_log_ratio;
    d_logprobs[i] = weight * (own + p.kl_coef * kl.y);
    d_entropy[i] = -weight * p.entropy_coef;
    const double moved = (double)token_log_ratio;
    sums[0] = (double)weight * (double)value;
    sums[1] = 1.0;
    sums[2] = policy.high; sums[3] = policy.low; sums[4] = policy.dual;
    sums[5] = expm1(moved) - moved;
    sums[6] = (double)kl.x;
    sums[7] = (double)entropy[i];
    sums[8] = fabs(moved);
  }
#pragma unroll
  for (int s = 0; s < 9; ++s) {
#pragma unroll
    for (int o = 16; o > 0; o >>= 1) {
      const double other = __shfl_xor_sync(0xffffffffu, sums[s], o);
      sums[s] = s == 8 ? fmax(sums[s], other) : sums[s] + other;
    }
    if ((threadIdx.x & 31) == 0) shared[threadIdx.x >> 5][s] = sums[s];
  }
  __syncthreads();                                       // the sums of all warps are there
  if (threadIdx.x < 9) {
    double total = shared[0][threadIdx.x];
    for (int w = 1; w < 8; ++w) total = threadIdx.x == 8 ? fmax(total, shared[w][8]) : total + shared[w][threadIdx.x];
    part[(size_t)blockIdx.x * 9 + threadIdx.x] = total;
  }
}
EXPORT_KERNEL(grpo_loss_tokens)

// Adds up the blocks' sums; the last of the nine is a maximum.
extern "C" __global__ void __launch_bounds__(32) grpo_loss_sums(double* sums,        // (9)
                                                                const double* part,  // (blocks, 9)
                                                                int n_blocks) {
  const int s = threadIdx.x;
  if (s >= 9) return;
  double total = 0.0;
  for (int b = 0; b < n_blocks; ++b) {
    const double x = part[(size_t)b * 9 + s];
    total = s == 8 ? fmax(total, x) : total + x;
  }
  sums[s] = total;
}
EXPORT_KERNEL(grpo_loss_sums)
