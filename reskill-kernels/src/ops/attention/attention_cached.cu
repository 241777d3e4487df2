// Attention of new rows to sequences in a paged cache, f32 arithmetic, any head size up to 256 and any page length;
// writing of new rows into the cache; merging of partial results.
//
// Formula   out[r, h] = sum_p w_p v_p over the positions p < n_seen[r] of the row's sequence, w the softmax of scale q
//           . k_p. Partial results over parts of the positions merge exactly: lse = log sum_i exp(lse_i), out = sum_i
//           exp(lse_i - lse) out_i.
// Shapes    qkv (N, (H + 2K) D) | out (N, H D) | keys (blocks, K D, P), transposed | values (blocks, P, K D), all of
//           one type | partial_out (slots, H, D) f32 | partial_lse (slots, H) f32 | n_seen (N), 0 for a row that is
//           padding
// Bytes     keys and values of each tile of rows once; rows that share pages share a tile.
// Flops     4 D for each row, head and visible position: decoding is bound by the bytes of the cache.
// Launch    cached: grid (n tiles at most, K), blocks behind counts[which] end at once: the launch does not depend on
//           the batch, so a captured graph may be replayed with other tables. append: grid
//           (ceil(N / 32), ceil(K D / 64)), block (256). merge: grid (ceil(N H / 8)), block (256), a warp for a row and
//           head.
// Numerics  f32; bound against f64: simt/tests/attention_cached.rs.
// Source    paged caches: Kwon et al. 2023, arXiv:2309.06180; merging: Dao et al. 2023, "Flash-Decoding";
//           shared prefixes: Juravsky et al. 2024, arXiv:2402.05099.
#include "attention_plain.cuh"

namespace attention {

template <class T> struct PagedPlain {
  using View = u32;
  static constexpr int RUNS = 1;
  const T* qkv;
  const T* keys;
  const T* values;
  CachedTables tables;
  SpanTile tile;
  Heads heads;
  int kv_head, page;
  T* out;
  Partials partials;

  __device__ __forceinline__ SpanRow row(int m) const { return span_row(tables, tile, heads, kv_head, m); }
  __device__ __forceinline__ float query(int m, int c) const {
    const SpanRow at = row(m);
    return to_f32(qkv[at.row * heads.width() + at.head * heads.head_dim + c]);
  }
  __device__ __forceinline__ u64 block(u32 p) const { return tables.pages[tile.pages_first + p / page]; }
  __device__ __forceinline__ float key(u32 p, int c) const {
    return to_f32(keys[(block(p) * heads.kv_width() + kv_head * heads.head_dim + c) * page + p % page]);
  }
  __device__ __forceinline__ float value(u32 p, int c) const {
    return to_f32(values[(block(p) * page + p % page) * heads.kv_width() + kv_head * heads.head_dim + c]);
  }
  __device__ __forceinline__ View view(int m) const { return tables.n_seen[row(m).row]; }
  __device__ __forceinline__ bool visible(View n_seen, int, u32 p) const { return p < n_seen; }
  __device__ __forceinline__ u32 begin(int) const { return tile.p0; }
  __device__ __forceinline__ u32 end(int) const { return tile.p1; }
  __device__ __forceinline__ void store(int m, int c, float x) const {
    const SpanRow at = row(m);
    if (tile.slot == NONE) out[at.row * heads.out_width() + at.head * heads.head_dim + c] = from_f32<T>(x);
    else partials.out[((u64)at.slot * heads.n_heads + at.head) * heads.head_dim + c] = x;
  }
  __device__ __forceinline__ void store_lse(int m, float x) const {
    const SpanRow at = row(m);
    if (tile.slot != NONE) partials.lse[(u64)at.slot * heads.n_heads + at.head] = x;
  }
};

// A tile of 32 rows and 64 columns of keys and values. Keys go through shared memory: they are stored column by column,
// where rows of one page lie side by side.
template <class T>
__device__ __forceinline__ void cache_append(T* keys, T* values, const T* qkv, const u32* places, int page, Heads heads,
                                             int n) {
  constexpr int ROWS = 32, COLUMNS = 64;
  SHARED(T, tile, [ROWS][COLUMNS + 4 / sizeof(T)]);   // one bank further from row to row
  const int first = blockIdx.x * ROWS, first_column = blockIdx.y * COLUMNS, lane = threadIdx.x & 31;
  const u64 width = heads.kv_width();
  const int n_columns = (int)min((u64)COLUMNS, width - first_column);
  for (int index = threadIdx.x; index < ROWS * COLUMNS; index += blockDim.x) {
    const int r = index / COLUMNS, c = index % COLUMNS;
    if (first + r >= n || c >= n_columns) continue;
    const u32 place = places[first + r];
    if (place == NONE) continue;
    const T* key = qkv + (first + r) * heads.width() + heads.out_width() + first_column + c;
    tile[r][c] = key[0];
    values[place * width + first_column + c] = key[width];
  }
  __syncthreads();   // the keys are there
  const u32 place = first + lane < n ? places[first + lane] : NONE;
  if (place == NONE) return;
  const u64 block = place / page, at = place % page;
  for (int c = threadIdx.x >> 5; c < n_columns; c += blockDim.x >> 5)
    keys[(block * width + first_column + c) * page + at] = tile[lane][c];
}

template <class T>
__device__ __forceinline__ void merge(T* out, const Partials& partials, const u32* n_seen, const u32* part_offsets,
                                      const u32* parts, const Heads& heads, u64 n) {
  const u64 index = (u64)blockIdx.x * 8 + (threadIdx.x >> 5);
  if (index >= n) return;
  const u32 row = (u32)(index / heads.n_heads), head = (u32)(index % heads.n_heads);
  const u32 first = part_offsets[row], end = part_offsets[row + 1];
  if (first == end && n_seen[row] != 0) return;   // written by the only tile of the row
  float top = minus_infinity(), total = 0.f;
  for (u32 part = first; part < end; ++part)
    top = fmaxf(top, partials.lse[(u64)parts[part] * heads.n_heads + head]);
  for (u32 part = first; part < end; ++part)
    total += expf(partials.lse[(u64)parts[part] * heads.n_heads + head] - top);
  for (int c = threadIdx.x & 31; c < heads.head_dim; c += 32) {
    float sum = 0.f;
    for (u32 part = first; part < end; ++part) {
      const u64 at = (u64)parts[part] * heads.n_heads + head;
      sum = fmaf(expf(partials.lse[at] - top), partials.out[at * heads.head_dim + c], sum);
    }
    out[row * heads.out_width() + head * heads.head_dim + c] = from_f32<T>(first == end ? 0.f : sum / total);
  }
}

}  // namespace attention

#define ATTENTION_CACHED(SUFFIX, T, R, CHUNKS)                                                                        \
  extern "C" __global__ void __launch_bounds__(256, 2) attention_cached_##SUFFIX(                                     \
      T* __restrict__ out, float* partial_out, float* partial_lse, const T* __restrict__ qkv,                        \
      const T* __restrict__ keys, const T* __restrict__ values, const u32* count, const attention::SpanTile* tiles,  \
      const u32* rows, const u32* pages, const u32* n_seen, int page, ATTENTION_HEADS_PARAMETERS) {                  \
    DYN_SHARED(float, shared);                                                                                       \
    if (blockIdx.x >= *count) return;                                                                                \
    const attention::PagedPlain<T> problem{qkv, keys, values, {count, tiles, rows, pages, n_seen}, tiles[blockIdx.x], \
                                           ATTENTION_HEADS, (int)blockIdx.y, page, out, {partial_out, partial_lse}}; \
    attention::plain_forward<R, CHUNKS>(problem, (int)problem.tile.len, head_dim, scale, shared);                    \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_cached_##SUFFIX)

#define ATTENTION_CACHED_TYPE(TYPE, T)                                                                               \
  extern "C" __global__ void __launch_bounds__(256)                                                                  \
      cache_append_##TYPE(T* __restrict__ keys, T* __restrict__ values, const T* __restrict__ qkv,                   \
                          const u32* __restrict__ places, int page, ATTENTION_HEADS_PARAMETERS, int n) {             \
    attention::cache_append<T>(keys, values, qkv, places, page, ATTENTION_HEADS, n);                                 \
  }                                                                                                                  \
  EXPORT_KERNEL(cache_append_##TYPE)                                                                                 \
  extern "C" __global__ void __launch_bounds__(256) attention_cached_merge_##TYPE(                                   \
      T* __restrict__ out, float* partial_out, float* partial_lse, const u32* n_seen, const u32* part_offsets,       \
      const u32* parts, ATTENTION_HEADS_PARAMETERS, int n) {                                                         \
    attention::merge<T>(out, {partial_out, partial_lse}, n_seen, part_offsets, parts, ATTENTION_HEADS, (u64)n);      \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_cached_merge_##TYPE)

ATTENTION_CACHED_TYPE(f32, float)
ATTENTION_CACHED_TYPE(bf16, bf16)
ATTENTION_CACHED(f32_64, float, 2, 4)
ATTENTION_CACHED(f32_128, float, 2, 8)
ATTENTION_CACHED(f32_256, float, 1, 16)
ATTENTION_CACHED(bf16_64, bf16, 2, 4)
ATTENTION_CACHED(bf16_128, bf16, 2, 8)
ATTENTION_CACHED(bf16_256, bf16, 1, 16)
