// Attention over a packed batch, backward, bf16 on tensor cores, head sizes 64 and 128.
//
// Formula   as in attention_backward.cu, which also has delta and the sum of slots.
// Shapes    qkv, d_qkv (N, (H + 2K) D) bf16 | d_out (N, H D) bf16 | lse, delta (N, H) f32
// Bytes     floor: qkv, d_out, lse read and d_qkv written once; tiles read the other side again, from L2.
// Flops     14 D for each visible pair (7 products): d_q apart from d_k and d_v, so that no sum depends on the order of
//           blocks.
// Launch    query: grid (query tiles * K), block (128): 128 query rows, 32 a warp, over tiles of BN keys.
//           key_value: grid (key tiles * K), block (128): 64 M keys, 16 M a warp, over runs of BQ query rows; scores
//           are computed transposed, so that weights go from registers into the next product. _1: one buffer for what
//           streams, for devices with little shared memory; _2: two.
// Numerics  f32 sums; weights by ex2.approx, they and d_s rounded to bf16 for the products; bound against f64:
//           simt/tests/attention_backward.rs.
// Source    Dao 2023, arXiv:2307.08691, algorithm 2.
#include "attention_flash.cuh"

namespace attention {

// d_q of a tile of 128 query rows.
template <int D, int BN, int STAGES>
__device__ __forceinline__ void flash_backward_query(bf16* d_qkv, const Saved<bf16>& saved, const QueryTile& tile,
                                                     bf16* shared) {
  constexpr int BM = 128, LD = D + 8, N = BN / 8;
  bf16* q = shared;                 // [BM][D + 8]
  bf16* d_out = q + BM * LD;        // [BM][D + 8]
  bf16* streamed = d_out + BM * LD; // STAGES x keys [BN][D + 8], values [BN][D + 8]
  const int len = (int)tile.len, first = warp_id() * 32, lane = lane_id(), g = lane >> 2, t2 = (lane & 3) * 2;
  const bool active = first < len;
  const float scale_log2 = saved.at.heads.scale * LOG2_E;
  // What every turn asks for, in registers; the rest of the record is read again where it is needed.
  const u32 a0 = tile.a0, a1 = tile.a1, a_full = tile.a_full, b0 = tile.b0, b1 = tile.b1, b_full = tile.b_full;
  const int n_prefix = (int)((a1 - a0 + BN - 1) / BN), n_tiles = n_prefix + (int)((b1 - b0 + BN - 1) / BN);
  auto begin = [&](int t) { return t < n_prefix ? a0 + t * BN : b0 + (t - n_prefix) * BN; };
  auto load = [&](int t) {
    bf16* keys = streamed + (t % STAGES) * 2 * BN * LD;
    const u32 from = begin(t), last = (t < n_prefix ? a1 : b1) - 1;
    stream_rows<D, BN, FLASH_THREADS>(keys, threadIdx.x,
                                      [&](int i) { return saved.qkv + saved.at.key(min(from + i, last)); });
    stream_rows<D, BN, FLASH_THREADS>(keys + BN * LD, threadIdx.x,
                                      [&](int i) { return saved.qkv + saved.at.value(min(from + i, last)); });
    cp_async_commit();
  };
  copy_rows<D, BM, FLASH_THREADS>(q, threadIdx.x,
                                  [&](int m) { return saved.qkv + saved.at.query(tile.first + min(m, len - 1)); });
  copy_rows<D, BM, FLASH_THREADS>(d_out, threadIdx.x,
                                  [&](int m) { return saved.d_out + saved.at.out(tile.first + min(m, len - 1)); });
  load(0);
  float lse[2][2], delta[2][2], acc[2][D / 8][4];
  clear(acc);
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const u64 at = saved.at.statistic(tile.first + min(first + i * 16 + half * 8 + g, len - 1));
      lse[i][half] = saved.lse[at] * LOG2_E, delta[i][half] = saved.delta[at];
    }
  for (int t = 0; t < n_tiles; ++t) {
    if (STAGES == 2 && t + 1 < n_tiles) {
      load(t + 1);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();   // keys and values of this tile (and queries, d_out) are there
    const bf16* keys = streamed + (t % STAGES) * 2 * BN * LD;
    if (active) {
      float p[2][N][4], d_s[2][N][4];
      multiply_trans<D, 2, N>(p, q, first, keys);
      multiply_trans<D, 2, N>(d_s, d_out, first, keys + BN * LD);
      const bool prefix = t < n_prefix, full = begin(t) + BN <= (prefix ? a_full : b_full);
#pragma unroll
      for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          ColumnRange seen{0, BN};
          if (!full) {
            const RowView& view = saved.views[saved.at.row(tile.first + min(first + i * 16 + half * 8 + g, len - 1))];
            seen = prefix ? columns(view.prefix_start, view.prefix_end, a1, begin(t))
                          : columns(view.own_start, view.row + 1, b1, begin(t));
          }
#pragma unroll
          for (int n = 0; n < N; ++n)
#pragma unroll
            for (int e = 2 * half; e < 2 * half + 2; ++e) {
              float weight = fast_exp2(fmaf(p[i][n][e], scale_log2, -lse[i][half]));
              if (!seen.contains(n * 8 + t2 + (e & 1))) weight = 0.f;
              d_s[i][n][e] = weight * (d_s[i][n][e] - delta[i][half]);
            }
        }
      accumulate<D, 2, N>(acc, d_s, keys);
    }
    __syncthreads();   // keys and values of this tile have been read
    if (STAGES == 1 && t + 1 < n_tiles) load(t + 1);
  }
  if (!active) return;
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) acc[i][n][e] *= saved.at.heads.scale;
  write_rows<D>(acc, q + first * LD, first, len, [&](int m) { return d_qkv + saved.at.query(tile.first + m); });
}

// Queries, d_out and statistics of a run of BQ query rows in shared memory.
template <int D, int BQ> struct __align__(16) QueryBuffer {
  bf16 q[BQ][D + 8];
  bf16 d_out[BQ][D + 8];
  RowView views[BQ];
  float lse[BQ];     // infinity behind the end of the run: weights there are 0
  float delta[BQ];
};

template <int D, int BQ>
__device__ __forceinline__ void load_queries(QueryBuffer<D, BQ>& to, const Saved<bf16>& saved, const QueryRun run) {
  const int len = (int)run.len;
  stream_rows<D, BQ, FLASH_THREADS>(&to.q[0][0], threadIdx.x,
                                    [&](int m) { return saved.qkv + saved.at.query(run.first + min(m, len - 1)); });
  stream_rows<D, BQ, FLASH_THREADS>(&to.d_out[0][0], threadIdx.x,
                                    [&](int m) { return saved.d_out + saved.at.out(run.first + min(m, len - 1)); });
  if (const int m = threadIdx.x; m < BQ) {
    const u32 flat = run.first + min(m, len - 1);
    const u64 at = saved.at.statistic(flat);
    cp_async16(&to.views[m], saved.views + saved.at.row(flat));
    cp_async4_zfill(&to.delta[m], saved.delta + at, m < len ? 4 : 0);
    if (m < len) cp_async4_zfill(&to.lse[m], saved.lse + at, 4);
    else to.lse[m] = infinity();
  }
  cp_async_commit();
}

// d_k and d_v of a tile of 64 M keys.
template <int D, int M, int BQ, int STAGES>
__device__ __forceinline__ void flash_backward_key_value(bf16* d_qkv, float* sums, const Saved<bf16>& saved,
                                                         const KeyTile& tile, const QueryRun* runs, bf16* shared) {
  constexpr int BK = 64 * M, LD = D + 8, N = BQ / 8;
  bf16* keys = shared;              // [BK][D + 8]
  bf16* values = keys + BK * LD;    // [BK][D + 8]
  auto* buffers = reinterpret_cast<QueryBuffer<D, BQ>*>(values + BK * LD);   // STAGES
  const u32 first_key = tile.first, first_run = tile.begin, end = tile.end;   // in registers
  const int n_keys = (int)tile.len, first = warp_id() * 16 * M, lane = lane_id(), g = lane >> 2, t2 = (lane & 3) * 2;
  const bool active = first < n_keys;
  const float scale_log2 = saved.at.heads.scale * LOG2_E;
  copy_rows<D, BK, FLASH_THREADS>(keys, threadIdx.x,
                                  [&](int j) { return saved.qkv + saved.at.key(tile.first + min(j, n_keys - 1)); });
  copy_rows<D, BK, FLASH_THREADS>(values, threadIdx.x,
                                  [&](int j) { return saved.qkv + saved.at.value(tile.first + min(j, n_keys - 1)); });
  load_queries(buffers[0], saved, runs[first_run]);
  float d_key[M][D / 8][4], d_value[M][D / 8][4];
  clear(d_key);
  clear(d_value);
  for (u32 entry = first_run; entry < end; ++entry) {
    const int stage = (int)(entry - first_run) % STAGES;
    if (STAGES == 2 && entry + 1 < end) {
      load_queries(buffers[1 - stage], saved, runs[entry + 1]);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();   // this run (and keys, values) is there
    const QueryBuffer<D, BQ>& run = buffers[stage];
    if (active) {
      float p[M][N][4], d_s[M][N][4];
      multiply_trans<D, M, N>(p, keys, first, &run.q[0][0]);
      const bool full = runs[entry].full != 0;
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int column = 0; column < 2; ++column) {
          const int m = n * 8 + t2 + column;
          const float lse_log2 = run.lse[m] * LOG2_E;
#pragma unroll
          for (int i = 0; i < M; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              float& weight = p[i][n][2 * half + column];
              weight = fast_exp2(fmaf(weight, scale_log2, -lse_log2));
              if (!full) {
                const u32 j = first_key + first + i * 16 + half * 8 + g;
                if (!run.views[m].in_prefix(j) && !run.views[m].in_own(j)) weight = 0.f;
              }
            }
        }
      accumulate<D, M, N>(d_value, p, &run.d_out[0][0]);
      multiply_trans<D, M, N>(d_s, values, first, &run.d_out[0][0]);
#pragma unroll
      for (int n = 0; n < N; ++n)
#pragma unroll
        for (int column = 0; column < 2; ++column) {
          const float delta = run.delta[n * 8 + t2 + column];
#pragma unroll
          for (int i = 0; i < M; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
              const int e = 2 * half + column;
              d_s[i][n][e] = p[i][n][e] * (d_s[i][n][e] - delta);
            }
        }
      accumulate<D, M, N>(d_key, d_s, &run.q[0][0]);
    }
    __syncthreads();   // this run has been read
    if (STAGES == 1 && entry + 1 < end) load_queries(buffers[0], saved, runs[entry + 1]);
  }
  if (!active) return;
  const u64 slot = ((u64)tile.slot * saved.at.heads.n_kv_heads + saved.at.kv_head) * 2 * BK * D;
#pragma unroll
  for (int i = 0; i < M; ++i)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int j = first + i * 16 + half * 8 + g;
      if (j >= n_keys) continue;
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        const int c = n * 8 + t2;
        const float key0 = d_key[i][n][2 * half] * saved.at.heads.scale,
                    key1 = d_key[i][n][2 * half + 1] * saved.at.heads.scale;
        const float value0 = d_value[i][n][2 * half], value1 = d_value[i][n][2 * half + 1];
        if (tile.slot == NONE) {
          *reinterpret_cast<u32*>(d_qkv + saved.at.key(tile.first + j) + c) = pack_bf16x2(key0, key1);
          *reinterpret_cast<u32*>(d_qkv + saved.at.value(tile.first + j) + c) = pack_bf16x2(value0, value1);
        } else {
          *reinterpret_cast<float2*>(sums + slot + (u64)j * D + c) = float2{key0, key1};
          *reinterpret_cast<float2*>(sums + slot + (u64)(BK + j) * D + c) = float2{value0, value1};
        }
      }
    }
}

}  // namespace attention

#define ATTENTION_FLASH_BACKWARD(D, BN, M, BQ, STAGES)                                                                 \
  extern "C" __global__ void __launch_bounds__(128) attention_flash_backward_query_bf16_##D##_##STAGES(              \
      bf16* __restrict__ d_qkv, const bf16* __restrict__ d_out, const float* __restrict__ lse,                       \
      const float* __restrict__ delta, const bf16* __restrict__ qkv, const attention::RowView* views,                \
      const attention::QueryTile* tiles, ATTENTION_HEADS_PARAMETERS) {                                                 \
    DYN_SHARED(bf16, shared);                                                                                        \
    const int kv_head = blockIdx.x % n_kv_heads;                                                               \
    const attention::Saved<bf16> saved{d_out, lse, delta, qkv, views, {ATTENTION_HEADS_OF(D), kv_head}};               \
    attention::flash_backward_query<D, BN, STAGES>(d_qkv, saved, tiles[blockIdx.x / n_kv_heads], shared);      \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_flash_backward_query_bf16_##D##_##STAGES)                                                  \
  extern "C" __global__ void __launch_bounds__(128) attention_flash_backward_key_value_bf16_##D##_##STAGES(          \
      bf16* __restrict__ d_qkv, float* __restrict__ sums, const bf16* __restrict__ d_out,                            \
      const float* __restrict__ lse, const float* __restrict__ delta, const bf16* __restrict__ qkv,                  \
      const attention::RowView* views, const attention::KeyTile* tiles, const attention::QueryRun* runs,             \
      ATTENTION_HEADS_PARAMETERS) {                                                                                    \
    DYN_SHARED(bf16, shared);                                                                                        \
    const int kv_head = blockIdx.x % n_kv_heads;                                                               \
    const attention::Saved<bf16> saved{d_out, lse, delta, qkv, views, {ATTENTION_HEADS_OF(D), kv_head}};               \
    attention::flash_backward_key_value<D, M, BQ, STAGES>(d_qkv, sums, saved, tiles[blockIdx.x / n_kv_heads],      \
                                                      runs, shared);                                                 \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_flash_backward_key_value_bf16_##D##_##STAGES)

ATTENTION_FLASH_BACKWARD(64, 64, 2, 32, 2)
ATTENTION_FLASH_BACKWARD(128, 32, 1, 64, 2)
ATTENTION_FLASH_BACKWARD(128, 32, 1, 32, 1)
