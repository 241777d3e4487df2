// Rows that allow a set of tokens only: a block a row, a warp a token.
//
// Formula   as in linear_logprob_forward.cu and _backward.cu and in linear_kl, over the tokens of the row's set
// Shapes    hidden (N, C), head (V, C) bf16 or f32 | offsets (N + 1), ids (E) u32: row n owns ids[offsets[n]..] |
//           rows (R) u32: the rows that have a set | logits, d_logits (E) f32 | the columns (N) f32
// Bytes     DRAM floor size * (R*C + distinct tokens * C) + 4*E + 20*N forward: the head's rows repeat and are served from L2
// Flops     2*E*C forward, 6*E*C backward, which computes the logits again: bound by memory
// Launch    logits, statistics, gradients, d_hidden: grid (R), block (128); d_head: grid (segments), block (128),
//           join: grid (tokens of several segments), block (128)
// Numerics  a dot product's 32 lanes (of eight neighbours each, or of one) in ascending order, then a tree: the same for
//           every batch. d_head adds the rows of a token in ascending order, in segments of at most 256 that are joined
//           in order: no atomics.
#include "prelude.cuh"
#include "reduce.cuh"
#include "row.cuh"

// The dot product of two rows, in every lane: a lane has W neighbouring columns of every 32 W.
template <int W, class T> __device__ __forceinline__ float dot(const T* a, const T* b, int c) {
  float sum = 0.f;
#pragma unroll 2
  for (int x = (threadIdx.x & 31) * W; x < c; x += 32 * W) {
    float u[W], v[W];
    load(u, a + x);
    load(v, b + x);
#pragma unroll
    for (int k = 0; k < W; ++k) sum = fmaf(u[k], v[k], sum);
  }
  return warp_sum(sum);
}

// Logits of the sets.
template <class T>
__device__ __forceinline__ void set_logits(float* logits, const T* hidden, const T* head, const u32* rows,
                                           const u32* offsets, const u32* ids, int c, float inverse_temperature) {
  const u32 n = rows[blockIdx.x];
  const int lane = threadIdx.x & 31;
  const T* h = hidden + (size_t)n * c;
  for (u32 e = offsets[n] + (threadIdx.x >> 5); e < offsets[n + 1]; e += 4) {
    const T* w = head + (size_t)ids[e] * c;
    const float sum = c % 8 == 0 ? dot<8>(h, w, c) : dot<1>(h, w, c);
    if (lane == 0) logits[e] = sum * inverse_temperature;
  }
}
extern "C" __global__ void __launch_bounds__(128)
    linear_logprob_set_logits_bf16(float* logits, const bf16* hidden, const bf16* head, const u32* rows,
                                   const u32* offsets, const u32* ids, int c, float inverse_temperature) {
  set_logits<bf16>(logits, hidden, head, rows, offsets, ids, c, inverse_temperature);
}
EXPORT_KERNEL(linear_logprob_set_logits_bf16)
extern "C" __global__ void __launch_bounds__(128)
    linear_logprob_set_logits_f32(float* logits, const float* hidden, const float* head, const u32* rows,
                                  const u32* offsets, const u32* ids, int c, float inverse_temperature) {
  set_logits<float>(logits, hidden, head, rows, offsets, ids, c, inverse_temperature);
}
EXPORT_KERNEL(linear_logprob_set_logits_f32)

// Statistics of the sets; with `targets` null only lse.
extern "C" __global__ void __launch_bounds__(128) linear_logprob_set_statistics(
    float* logprobs, float* entropy, float* lse,                        // (N) each
    const float* logits, const u32* rows, const u32* offsets, const u32* ids, const u32* targets) {
  const u32 n = rows[blockIdx.x], begin = offsets[n], end = offsets[n + 1];
  float top = -3.402823466e38f;
  for (u32 e = begin + threadIdx.x; e < end; e += 128) top = fmaxf(top, logits[e]);
  if (targets && threadIdx.x == 0) logprobs[n] = __int_as_float(0x7fffffff);   // a target outside its set has no logit
  top = block_max(top);
  float total = 0.f, weighted = 0.f;
  for (u32 e = begin + threadIdx.x; e < end; e += 128) {
    const float shift = logits[e] - top, p = expf(shift);
    total += p;
    weighted = fmaf(p, shift, weighted);
  }
  total = block_sum(total);
  weighted = block_sum(weighted);
  const float ln_total = logf(total), l = top + ln_total;
  if (threadIdx.x == 0) lse[n] = l;
  if (!targets) return;
  if (threadIdx.x == 0) entropy[n] = ln_total - weighted / total;
  // A token that stands in its set twice has the same logit twice.
  for (u32 e = begin + threadIdx.x; e < end; e += 128)
    if (ids[e] == targets[n]) logprobs[n] = logits[e] - l;
}
EXPORT_KERNEL(linear_logprob_set_statistics)

// Turns logits into their gradients, in place.
extern "C" __global__ void __launch_bounds__(128) linear_logprob_set_d_logits(
    float* logits, const u32* rows, const u32* offsets, const u32* ids, const u32* targets, const float* d_logprobs,
    const float* d_entropy, const float* entropy, const float* lse, float inverse_temperature) {
  SHARED(u32, first_target, [1]);
  const u32 n = rows[blockIdx.x], begin = offsets[n], end = offsets[n + 1];
  if (threadIdx.x == 0) {  // a token that stands twice is the target where it stands first
    u32 e = begin;
    while (e < end && ids[e] != targets[n]) ++e;
    first_target[0] = e;
  }
  __syncthreads();                                       // the target is found
  for (u32 e = begin + threadIdx.x; e < end; e += 128) {
    const float logprob = logits[e] - lse[n], p = expf(logprob);
    const float of_logprob = e == first_target[0] ? -expm1f(logprob) : -p;
    logits[e] = (d_logprobs[n] * of_logprob - d_entropy[n] * p * (logprob + entropy[n])) * inverse_temperature;
  }
}
EXPORT_KERNEL(linear_logprob_set_d_logits)

// Divergence over the sets.
extern "C" __global__ void __launch_bounds__(128) linear_kl_set_forward(
    float* kl, const float* logits, const float* ref_logits, const float* lse, const float* ref_lse, const u32* rows,
    const u32* offsets) {
  const u32 n = rows[blockIdx.x];
  float sum = 0.f;
  for (u32 e = offsets[n] + threadIdx.x; e < offsets[n + 1]; e += 128) {
    const float logp = logits[e] - lse[n];
    sum = fmaf(expf(logp), logp - (ref_logits[e] - ref_lse[n]), sum);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) kl[n] = sum;
}
EXPORT_KERNEL(linear_kl_set_forward)

extern "C" __global__ void __launch_bounds__(128) linear_kl_set_d_logits(
    float* logits, const float* ref_logits, const float* lse, const float* ref_lse, const float* d_kl, const float* kl,
    const u32* rows, const u32* offsets, float inverse_temperature) {
  const u32 n = rows[blockIdx.x];
  for (u32 e = offsets[n] + threadIdx.x; e < offsets[n + 1]; e += 128) {
    const float logp = logits[e] - lse[n];
    logits[e] = d_kl[n] * inverse_temperature * expf(logp) * (logp - (ref_logits[e] - ref_lse[n]) - kl[n]);
  }
}
EXPORT_KERNEL(linear_kl_set_d_logits)

// sum[k] += d_logits[place(i)] * table[row(i), x + k] for i from begin to end - 1 in that order.
template <int W, class T, class Place, class Of>
__device__ __forceinline__ void add_rows(float (&sum)[W], const float* d_logits, const T* table, int c, int x,
                                         u32 begin, u32 end, Place place, Of row) {
#pragma unroll 4
  for (u32 i = begin; i < end; ++i) {
    const float d = d_logits[place(i)];
    float v[W];
    load(v, table + (size_t)row(i) * c + x);
#pragma unroll
    for (int k = 0; k < W; ++k) sum[k] = fmaf(d, v[k], sum[k]);
  }
}

// d_hidden[n] (+)= sum over the set of d_logits * head, W columns a thread.
template <int W, class T>
__device__ __forceinline__ void set_d_hidden(T* d_hidden, const float* d_logits, const T* head, const u32* rows,
                                             const u32* offsets, const u32* ids, int c, int accumulate) {
  const u32 n = rows[blockIdx.x];
  T* out = d_hidden + (size_t)n * c;
  for (int x = threadIdx.x * W; x < c; x += 128 * W) {
    float sum[W];
#pragma unroll
    for (int k = 0; k < W; ++k) sum[k] = 0.f;
    if (accumulate) load(sum, out + x);
    add_rows(sum, d_logits, head, c, x, offsets[n], offsets[n + 1], [](u32 e) { return e; },
             [&](u32 e) { return ids[e]; });
    store(out + x, sum);
  }
}
extern "C" __global__ void __launch_bounds__(128)
    linear_logprob_set_d_hidden_bf16(bf16* d_hidden, const float* d_logits, const bf16* head, const u32* rows,
                                     const u32* offsets, const u32* ids, int c, int accumulate) {
  if (c % 8 == 0) set_d_hidden<8>(d_hidden, d_logits, head, rows, offsets, ids, c, accumulate);
  else set_d_hidden<1>(d_hidden, d_logits, head, rows, offsets, ids, c, accumulate);
}
EXPORT_KERNEL(linear_logprob_set_d_hidden_bf16)
extern "C" __global__ void __launch_bounds__(128)
    linear_logprob_set_d_hidden_f32(float* d_hidden, const float* d_logits, const float* head, const u32* rows,
                                    const u32* offsets, const u32* ids, int c, int accumulate) {
  if (c % 8 == 0) set_d_hidden<8>(d_hidden, d_logits, head, rows, offsets, ids, c, accumulate);
  else set_d_hidden<1>(d_hidden, d_logits, head, rows, offsets, ids, c, accumulate);
}
EXPORT_KERNEL(linear_logprob_set_d_hidden_f32)

// Adds to the head's gradient: segment s holds entries segments[s]..segments[s + 1] of the list of all entries sorted
// by token, then row. A token of one segment adds to the head, one of several writes parts that `_join` adds.
template <int W, class T>
__device__ __forceinline__ void set_d_head(float* d_head, float* part, const float* d_logits, const T* hidden,
                                           const u32* segments,      // (S + 1)
                                           const u32* tokens,        // (S)
                                           const u32* part_of,       // (S): its row of `part` plus 1, or 0
                                           const u32* entries,       // (E): places in d_logits
                                           const u32* entry_rows,    // (E)
                                           int c) {
  const u32 s = blockIdx.x;
  float* out = part_of[s] ? part + (size_t)(part_of[s] - 1) * c : d_head + (size_t)tokens[s] * c;
  for (int x = threadIdx.x * W; x < c; x += 128 * W) {
    float sum[W], before[W];
#pragma unroll
    for (int k = 0; k < W; ++k) sum[k] = before[k] = 0.f;
    add_rows(sum, d_logits, hidden, c, x, segments[s], segments[s + 1], [&](u32 i) { return entries[i]; },
             [&](u32 i) { return entry_rows[i]; });
    if (!part_of[s]) load(before, out + x);
#pragma unroll
    for (int k = 0; k < W; ++k) sum[k] += before[k];
    store(out + x, sum);
  }
}
extern "C" __global__ void __launch_bounds__(128) linear_logprob_set_d_head_bf16(
    float* d_head, float* part, const float* d_logits, const bf16* hidden, const u32* segments, const u32* tokens,
    const u32* part_of, const u32* entries, const u32* entry_rows, int c) {
  if (c % 8 == 0) set_d_head<8>(d_head, part, d_logits, hidden, segments, tokens, part_of, entries, entry_rows, c);
  else set_d_head<1>(d_head, part, d_logits, hidden, segments, tokens, part_of, entries, entry_rows, c);
}
EXPORT_KERNEL(linear_logprob_set_d_head_bf16)
extern "C" __global__ void __launch_bounds__(128) linear_logprob_set_d_head_f32(
    float* d_head, float* part, const float* d_logits, const float* hidden, const u32* segments, const u32* tokens,
    const u32* part_of, const u32* entries, const u32* entry_rows, int c) {
  if (c % 8 == 0) set_d_head<8>(d_head, part, d_logits, hidden, segments, tokens, part_of, entries, entry_rows, c);
  else set_d_head<1>(d_head, part, d_logits, hidden, segments, tokens, part_of, entries, entry_rows, c);
}
EXPORT_KERNEL(linear_logprob_set_d_head_f32)

// Adds the parts joined[t]..joined[t + 1] to the row of token join_tokens[t].
extern "C" __global__ void __launch_bounds__(128) linear_logprob_set_d_head_join(float* d_head, const float* part,
                                                                                 const u32* joined,       // (J + 1)
                                                                                 const u32* join_tokens,  // (J)
                                                                                 int c) {
  float* out = d_head + (size_t)join_tokens[blockIdx.x] * c;
  for (int x = threadIdx.x; x < c; x += 128) {
    float sum = 0.f;
    for (u32 s = joined[blockIdx.x]; s < joined[blockIdx.x + 1]; ++s) sum += part[(size_t)s * c + x];
    out[x] += sum;
  }
}
EXPORT_KERNEL(linear_logprob_set_d_head_join)
