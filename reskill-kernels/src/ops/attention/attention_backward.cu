// Attention over a packed batch, backward, f32 arithmetic, any head size up to 256.
//
// Formula   p_ij = exp(scale q_i . k_j - lse_i),  delta_i = d_out_i . out_i,  d_s_ij = p_ij (d_out_i . v_j - delta_i)
//           d_q_i = scale sum_j d_s_ij k_j,  d_k_j = scale sum_i d_s_ij q_i,  d_v_j = sum_i p_ij d_out_i
// Shapes    qkv, d_qkv (N, (H + 2K) D) | out, d_out (N, H D) of the same type | lse, delta (N, H) f32
// Bytes     floor: qkv, out, d_out, lse read and d_qkv written once.
// Flops     14 D for each visible pair: scores and d_out . v once for d_q and once more for d_k and d_v (7 products of
//           2 D). No sum depends on the order in which blocks run, so two runs give the same bits.
// Launch    delta: a thread for 8 elements of a head, or a warp a head (cuda/head.cuh), block (256). d_q: grid (query
//           tiles * K), d_k and d_v: grid (key tiles * K), block (256), dynamic shared memory: host,
//           attention/cuda/kernels.rs. sum: grid (sums * K), block (256).
// Numerics  f32; bound against finite differences in f64: simt/tests/attention_backward.rs.
// Source    Dao 2023, arXiv:2307.08691, algorithm 2.
#include "attention_plain.cuh"
#include "head.cuh"

namespace attention {

// delta[i, h] = d_out[i, h] . out[i, h] of `n` heads; lanes as in head.cuh.
template <class T>
__device__ __forceinline__ void backward_delta(float* delta, const T* d_out, const T* out, int head_dim, u64 n) {
  const bool wide = is_wide_head(head_dim);
  const int lanes = wide ? head_dim / 8 : 32, lane = threadIdx.x % lanes;
  const u64 index = (u64)blockIdx.x * (blockDim.x / lanes) + threadIdx.x / lanes;
  float sum = 0.f;
  if (index < n && wide) {
    float a[8], b[8];
    load8(a, d_out + index * head_dim + lane * 8);
    load8(b, out + index * head_dim + lane * 8);
#pragma unroll
    for (int k = 0; k < 8; ++k) sum = fmaf(a[k], b[k], sum);
  } else if (index < n) {
    for (int c = lane; c < head_dim; c += 32)
      sum = fmaf(to_f32(d_out[index * head_dim + c]), to_f32(out[index * head_dim + c]), sum);
  }
  sum = head_sum(sum, lanes);
  if (lane == 0 && index < n) delta[index] = sum;
}

template <class T, int R, int CHUNKS>
__device__ __forceinline__ void backward_query(T* d_qkv, const Saved<T>& saved, const QueryTile& tile, float* shared) {
  constexpr int TILE = 16 * R, WEIGHTS = (16 * R + 1);
  const int D = saved.at.heads.head_dim, tx = threadIdx.x & 15, ty = threadIdx.x >> 4, len = (int)tile.len;
  float* q = shared;                    // [TILE][D + 1]
  float* d_out = q + TILE * (D + 1);    // [TILE][D + 1]
  float* k = d_out + TILE * (D + 1);    // [TILE][D + 1]
  float* v = k + TILE * (D + 1);        // [TILE][D + 1]
  float* d_s = v + TILE * (D + 1);      // [TILE][TILE + 1]
  plain_fill<R>(q, len, D, [&](int m, int c) { return to_f32(saved.qkv[saved.at.query(tile.first + m) + c]); });
  plain_fill<R>(d_out, len, D, [&](int m, int c) { return to_f32(saved.d_out[saved.at.out(tile.first + m) + c]); });
  RowView view[R];
  float lse[R], delta[R], acc[R][CHUNKS];
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const u32 flat = tile.first + min(ty + 16 * r, len - 1);
    view[r] = saved.views[saved.at.row(flat)];
    lse[r] = saved.lse[saved.at.statistic(flat)], delta[r] = saved.delta[saved.at.statistic(flat)];
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) acc[r][c] = 0.f;
  }
  for (int run = 0; run < 2; ++run) {
    const u32 end = run == 0 ? tile.a1 : tile.b1;
    for (u32 first = run == 0 ? tile.a0 : tile.b0; first < end; first += TILE) {
      const int n_keys = (int)min((u32)TILE, end - first);
      __syncthreads();   // keys and d_s of the tile before have been read
      plain_fill<R>(k, n_keys, D, [&](int j, int c) { return to_f32(saved.qkv[saved.at.key(first + j) + c]); });
      plain_fill<R>(v, n_keys, D, [&](int j, int c) { return to_f32(saved.qkv[saved.at.value(first + j) + c]); });
      __syncthreads();   // keys and values (and queries, d_out) are there
      float scores[R][R], d_p[R][R];
      plain_dots<R>(scores, q, k, D);
      plain_dots<R>(d_p, d_out, v, D);
#pragma unroll
      for (int r = 0; r < R; ++r)
#pragma unroll
        for (int c = 0; c < R; ++c) {
          const int j = tx + 16 * c;
          const bool seen = j < n_keys && (run == 0 ? view[r].in_prefix(first + j) : view[r].in_own(first + j));
          const float p = seen ? expf(scores[r][c] * saved.at.heads.scale - lse[r]) : 0.f;
          d_s[(ty + 16 * r) * WEIGHTS + j] = seen ? p * (d_p[r][c] - delta[r]) : 0.f;
        }
      __syncthreads();   // d_s is written
      plain_accumulate<R, CHUNKS>(acc, d_s, k, D);
    }
  }
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c)
      if (ty + 16 * r < len && tx + 16 * c < D)
        d_qkv[saved.at.query(tile.first + ty + 16 * r) + tx + 16 * c] = from_f32<T>(acc[r][c] * saved.at.heads.scale);
}

template <class T, int R, int CHUNKS>
__device__ __forceinline__ void backward_key_value(T* d_qkv, float* sums, const Saved<T>& saved, const KeyTile& tile,
                                                   const QueryRun* runs, float* shared) {
  constexpr int TILE = 16 * R, WEIGHTS = (16 * R + 1);
  const int D = saved.at.heads.head_dim, tx = threadIdx.x & 15, ty = threadIdx.x >> 4, n_keys = (int)tile.len;
  float* k = shared;                    // [TILE][D + 1]
  float* v = k + TILE * (D + 1);        // [TILE][D + 1]
  float* q = v + TILE * (D + 1);        // [TILE][D + 1]
  float* d_out = q + TILE * (D + 1);    // [TILE][D + 1]
  float* p = d_out + TILE * (D + 1);    // [TILE][TILE + 1], a row for each key
  float* d_s = p + TILE * WEIGHTS;      // [TILE][TILE + 1], likewise
  plain_fill<R>(k, n_keys, D, [&](int j, int c) { return to_f32(saved.qkv[saved.at.key(tile.first + j) + c]); });
  plain_fill<R>(v, n_keys, D, [&](int j, int c) { return to_f32(saved.qkv[saved.at.value(tile.first + j) + c]); });
  float d_key[R][CHUNKS], d_value[R][CHUNKS];
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) d_key[r][c] = d_value[r][c] = 0.f;
  for (u32 entry = tile.begin; entry < tile.end; ++entry) {
    const QueryRun run = runs[entry];
    const int len = (int)run.len;
    __syncthreads();   // queries, d_out, p and d_s of the run before have been read
    plain_fill<R>(q, len, D, [&](int m, int c) { return to_f32(saved.qkv[saved.at.query(run.first + m) + c]); });
    plain_fill<R>(d_out, len, D, [&](int m, int c) { return to_f32(saved.d_out[saved.at.out(run.first + m) + c]); });
    __syncthreads();   // queries and d_out (and keys, values) are there
    float scores[R][R], d_p[R][R];
    plain_dots<R>(scores, k, q, D);
    plain_dots<R>(d_p, v, d_out, D);
#pragma unroll
    for (int c = 0; c < R; ++c) {
      const int m = tx + 16 * c;
      const u32 flat = run.first + min(m, len - 1);
      const RowView view = saved.views[saved.at.row(flat)];
      const float lse = saved.lse[saved.at.statistic(flat)], delta = saved.delta[saved.at.statistic(flat)];
#pragma unroll
      for (int r = 0; r < R; ++r) {
        const u32 j = tile.first + ty + 16 * r;
        const bool seen = m < len && ty + 16 * r < n_keys && (view.in_prefix(j) || view.in_own(j));
        const float weight = seen ? expf(scores[r][c] * saved.at.heads.scale - lse) : 0.f;
        p[(ty + 16 * r) * WEIGHTS + m] = weight;
        d_s[(ty + 16 * r) * WEIGHTS + m] = seen ? weight * (d_p[r][c] - delta) : 0.f;
      }
    }
    __syncthreads();   // p and d_s are written
    plain_accumulate<R, CHUNKS>(d_key, d_s, q, D);
    plain_accumulate<R, CHUNKS>(d_value, p, d_out, D);
  }
  const u64 slot = ((u64)tile.slot * saved.at.heads.n_kv_heads + saved.at.kv_head) * 2 * TILE * D;
#pragma unroll
  for (int r = 0; r < R; ++r)
#pragma unroll
    for (int c = 0; c < CHUNKS; ++c) {
      const int j = ty + 16 * r, x = tx + 16 * c;
      if (j >= n_keys || x >= D) continue;
      const float key = d_key[r][c] * saved.at.heads.scale, value = d_value[r][c];
      if (tile.slot == NONE) {
        d_qkv[saved.at.key(tile.first + j) + x] = from_f32<T>(key);
        d_qkv[saved.at.value(tile.first + j) + x] = from_f32<T>(value);
      } else {
        sums[slot + (u64)j * D + x] = key;
        sums[slot + (u64)(TILE + j) * D + x] = value;
      }
    }
}

// Adds up the slots of a key tile, always in the same order.
template <class T>
__device__ __forceinline__ void backward_sum(T* d_qkv, const float* sums, const KeySum* list, int tile_rows,
                                             Heads heads) {
  const int kv_head = blockIdx.x % heads.n_kv_heads, D = heads.head_dim;
  const PackedPlaces at{heads, kv_head};
  const KeySum sum = list[blockIdx.x / heads.n_kv_heads];
  const u64 slot_len = (u64)2 * tile_rows * D, stride = heads.n_kv_heads * slot_len;
  for (u32 index = threadIdx.x; index < 2 * sum.len * D; index += blockDim.x) {
    const u32 row = index / D, c = index - row * D, is_value = row >= sum.len, j = is_value ? row - sum.len : row;
    const float* from = sums + sum.slot * stride + kv_head * slot_len + (u64)(is_value * tile_rows + j) * D + c;
    float total = 0.f;
    for (u32 slot = 0; slot < sum.n_slots; ++slot) total += from[slot * stride];
    d_qkv[(is_value ? at.value(sum.first + j) : at.key(sum.first + j)) + c] = from_f32<T>(total);
  }
}

}  // namespace attention

#define ATTENTION_BACKWARD_TYPE(TYPE, T)                                                                              \
  extern "C" __global__ void __launch_bounds__(256) attention_backward_delta_##TYPE(                                 \
      float* __restrict__ delta, const T* __restrict__ d_out, const T* __restrict__ out, int head_dim, int n) {      \
    attention::backward_delta<T>(delta, d_out, out, head_dim, (u64)n);                                                 \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_backward_delta_##TYPE)                                                                     \
  extern "C" __global__ void __launch_bounds__(256)                                                                  \
      attention_backward_sum_##TYPE(T* __restrict__ d_qkv, const float* __restrict__ sums,                           \
                                    const attention::KeySum* list, int tile_rows, ATTENTION_HEADS_PARAMETERS) {        \
    attention::backward_sum<T>(d_qkv, sums, list, tile_rows, ATTENTION_HEADS);                                         \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_backward_sum_##TYPE)

#define ATTENTION_BACKWARD(SUFFIX, T, R, CHUNKS)                                                                      \
  extern "C" __global__ void __launch_bounds__(256, 2) attention_backward_query_##SUFFIX(                              \
      T* __restrict__ d_qkv, const T* __restrict__ d_out, const float* __restrict__ lse,                             \
      const float* __restrict__ delta, const T* __restrict__ qkv, const attention::RowView* views,                   \
      const attention::QueryTile* tiles, ATTENTION_HEADS_PARAMETERS) {                                                 \
    DYN_SHARED(float, shared);                                                                                       \
    const int kv_head = blockIdx.x % n_kv_heads;                                                               \
    const attention::Saved<T> saved{d_out, lse, delta, qkv, views, {ATTENTION_HEADS, kv_head}};                        \
    attention::backward_query<T, R, CHUNKS>(d_qkv, saved, tiles[blockIdx.x / n_kv_heads], shared);             \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_backward_query_##SUFFIX)                                                                   \
  extern "C" __global__ void __launch_bounds__(256, 2) attention_backward_key_value_##SUFFIX(                          \
      T* __restrict__ d_qkv, float* __restrict__ sums, const T* __restrict__ d_out, const float* __restrict__ lse,   \
      const float* __restrict__ delta, const T* __restrict__ qkv, const attention::RowView* views,                   \
      const attention::KeyTile* tiles, const attention::QueryRun* runs, ATTENTION_HEADS_PARAMETERS) {                  \
    DYN_SHARED(float, shared);                                                                                       \
    const int kv_head = blockIdx.x % n_kv_heads;                                                               \
    const attention::Saved<T> saved{d_out, lse, delta, qkv, views, {ATTENTION_HEADS, kv_head}};                        \
    attention::backward_key_value<T, R, CHUNKS>(d_qkv, sums, saved, tiles[blockIdx.x / n_kv_heads], runs,      \
                                                shared);                                                             \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_backward_key_value_##SUFFIX)

ATTENTION_BACKWARD_TYPE(f32, float)
ATTENTION_BACKWARD_TYPE(bf16, bf16)
ATTENTION_BACKWARD(f32_64, float, 2, 4)
ATTENTION_BACKWARD(f32_128, float, 2, 8)
ATTENTION_BACKWARD(f32_256, float, 1, 16)
ATTENTION_BACKWARD(bf16_64, bf16, 2, 4)
ATTENTION_BACKWARD(bf16_128, bf16, 2, 8)
ATTENTION_BACKWARD(bf16_256, bf16, 1, 16)
