// Attention of new rows to sequences in a paged cache, bf16 on tensor cores, head sizes 64 and 128, pages of 32.
//
// Formula   as in attention_cached.cu, which also writes the cache and merges partial results.
// Shapes    qkv (N, (H + 2K) D) | out (N, H D) | keys (blocks, K D, 32), transposed | values (blocks, 32, K D), all
//           bf16
// Bytes     4 D a position and key-value head, once for each tile that reads it; a tile holds the query heads of all
//           rows that share the pages (8 rollouts of 2 heads fill the 16 rows of a product).
// Flops     4 D for each row, head and visible position.
// Launch    _small: up to 16 flat query rows a tile; the four warps take every fourth page, each with buffers of its
//           own, and add up at the end. _large: up to 128, 32 a warp, two pages at a time. Grid (tiles at most, K),
//           block (128).
// Numerics  f32 statistics and sums, weights by ex2.approx and rounded to bf16; bound against f64:
//           simt/tests/attention_cached.rs.
// Source    as attention_cached.cu.
#include "attention_flash_cached.cuh"

namespace attention {

// x, in a way that the compiler cannot see through: addresses that come of it are computed where they are used, rather
// than kept in registers across a loop that has none to spare.
__device__ __forceinline__ int opaque(int x) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(x));
#endif
  return x;
}

// sums (M x 16 rows, N x 8 columns) = a b over D; `b` has D rows of N x 8 columns, of N * 8 + 8 elements.
template <int D, int M, int N>
__device__ __forceinline__ void multiply(float (&sums)[M][N][4], const bf16* a, int row, const bf16* b) {
  clear(sums);
#pragma unroll
  for (int k = 0; k < D; k += 16) {
    u32 left[M][4];
#pragma unroll
    for (int i = 0; i < M; ++i) left_fragment(left[i], a, D + 8, row + i * 16, k);
#pragma unroll
    for (int n = 0; n < N; n += 2) {
      u32 right[2][2];
      right_fragment_trans(right, b, N * 8 + 8, k, n * 8);
#pragma unroll
      for (int i = 0; i < M; ++i) {
        mma_m16n8k16_bf16(sums[i][n], left[i], right[0]);
        mma_m16n8k16_bf16(sums[i][n + 1], left[i], right[1]);
      }
    }
  }
}

// What both kernels read and write.
template <int D> struct PagedTile : PagedPlaces<D> {
  using PagedPlaces<D>::tile, PagedPlaces<D>::heads, PagedPlaces<D>::kv_head;
  const bf16* keys;
  const bf16* values;

  // N_PAGES pages side by side; behind the last page it is copied again, and masked. A thread has the same chunk of
  // every row, so it looks up one page, and its places are constants apart.
  template <int N_PAGES, int THREADS>
  __device__ __forceinline__ void load_keys(bf16* to, int thread, u32 first_page) const {
    constexpr int CHUNKS = N_PAGES * PAGE / 8, STEP = THREADS / CHUNKS;
    static_assert(D % STEP == 0, "each thread copies as many rows");
    thread = opaque(thread);
    const int chunk = thread % CHUNKS, d = thread / CHUNKS;
    const u64 page = this->block(min(first_page + chunk / 4, this->last_page()));
    const bf16* from = keys + (page * heads.kv_width() + kv_head * D + d) * PAGE + chunk % 4 * 8;
    bf16* at = to + d * (N_PAGES * PAGE + 8) + chunk * 8;
#pragma unroll
    for (int i = 0; i < D; i += STEP) cp_async16(at + i * (N_PAGES * PAGE + 8), from + i * PAGE);
  }
  // Behind the last position there are zeros: what a page holds there may be no number.
  template <int N_PAGES, int THREADS>
  __device__ __forceinline__ void load_values(bf16* to, int thread, u32 first_page) const {
    constexpr int CHUNKS = D / 8, STEP = THREADS / CHUNKS;
    static_assert(PAGE % STEP == 0, "each thread copies as many rows of a page");
    thread = opaque(thread);
    const int chunk = thread % CHUNKS, row = thread / CHUNKS;
    const u64 width = opaque((int)heads.kv_width());
#pragma unroll 1
    for (int n = 0; n < N_PAGES; ++n) {
      const u64 page = this->block(min(first_page + n, this->last_page()));
      const bf16* from = values + (page * PAGE + row) * width + kv_head * D + chunk * 8;
      bf16* at = to + (n * PAGE + row) * (D + 8) + chunk * 8;
      const int n_rows = (int)tile.p1 - (int)((first_page + n) * PAGE);
#pragma unroll
      for (int i = 0; i < PAGE; i += STEP)
        cp_async16_zfill(at + i * (D + 8), from + i * width, row + i < n_rows ? 16 : 0);
    }
  }
};

template <int D> struct FlashPaged : PagedTile<D> {
  static constexpr int BN = 2 * PAGE, KEY_ELEMENTS = D * (BN + 8);
  __device__ __forceinline__ explicit FlashPaged(const PagedTile<D>& places) : PagedTile<D>(places) {}
  __device__ __forceinline__ int n_tiles() const { return (int)((this->tile.p1 - this->tile.p0 + BN - 1) / BN); }
  __device__ __forceinline__ u32 begin(int t) const { return this->tile.p0 + t * BN; }
  __device__ __forceinline__ void load_keys(bf16* to, int t) const {
    PagedTile<D>::template load_keys<2, FLASH_THREADS>(to, threadIdx.x, begin(t) / PAGE);
  }
  __device__ __forceinline__ void load_values(bf16* to, int t) const {
    PagedTile<D>::template load_values<2, FLASH_THREADS>(to, threadIdx.x, begin(t) / PAGE);
  }
  __device__ __forceinline__ void scores(float (&sums)[2][BN / 8][4], const bf16* q, int first,
                                         const bf16* keys) const {
    multiply<D, 2, BN / 8>(sums, q, first, keys);
  }
  __device__ __forceinline__ bool is_full(int t) const {
    return begin(t) + BN <= min(this->tile.p_full, this->tile.p1);
  }
  __device__ __forceinline__ ColumnRange range(int m, int t) const {
    return columns(begin(t), this->n_seen(m), this->tile.p1, begin(t));
  }
  __device__ __forceinline__ void write(const float (&acc)[2][D / 8][4], const Softmax<2>& softmax, bf16* stage,
                                        int first, float scale_log2) const {
    const int len = (int)this->tile.len;
    if (this->tile.slot == NONE) {
      write_rows<D>(acc, stage, first, len, [&](int m) { return this->result(m); });
      return;
    }
    const int lane = lane_id(), g = lane >> 2, t2 = (lane & 3) * 2;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int m = first + i * 16 + half * 8 + g;
        if (m >= len) continue;
        const u64 part = this->part(m);
        if (t2 == 0) this->partials.lse[part] = softmax.lse(i, half, scale_log2);
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
          *reinterpret_cast<float2*>(this->partials.out + part * D + n * 8 + t2) =
              make_float2(acc[i][n][2 * half], acc[i][n][2 * half + 1]);
      }
  }
};

// A warp's pages of a small tile, and after the loop its sums.
template <int D> struct __align__(16) WarpBuffer {
  union {
    bf16 keys[D][PAGE + 8];
    float acc[16][D + 8];   // a step of eight banks from row to row: four lane groups store side by side
  };
  bf16 values[PAGE][D + 8];
};
template <int D> struct __align__(16) SmallBuffer {
  bf16 q[16][D + 8];
  float top[4][16], total[4][16];   // of a warp and row, in units of log2
  WarpBuffer<D> warps[4];
};

template <int D>
__device__ __forceinline__ void flash_small(const PagedTile<D>& places, SmallBuffer<D>& shared) {
  const int len = (int)places.tile.len, warp = warp_id(), lane = lane_id(), g = lane >> 2, t2 = (lane & 3) * 2;
  const float scale_log2 = places.heads.scale * LOG2_E;
  WarpBuffer<D>& buffer = shared.warps[warp];
  const u32 n_pages = places.last_page() + 1;
  u32 page = places.tile.p0 / PAGE + warp;
  copy_rows<D, 16, FLASH_THREADS>(&shared.q[0][0], threadIdx.x, [&](int m) { return places.query(min(m, len - 1)); });
  if (page < n_pages) places.template load_keys<1, 32>(&buffer.keys[0][0], lane, page);
  cp_async_commit();
  const u32 n_seen[2] = {places.n_seen(min(g, len - 1)), places.n_seen(min(g + 8, len - 1))};
  float acc[1][D / 8][4];
  Softmax<1> softmax;
  clear(acc);
  softmax.start();
  cp_async_wait<0>();
  __syncthreads();   // queries are there (and the first keys)
  for (; page < n_pages; page += 4) {
    cp_async_wait<0>();
    __syncwarp();   // keys are there, values of the page before have been read
    places.template load_values<1, 32>(&buffer.values[0][0], lane, page);
    cp_async_commit();
    float scores[1][PAGE / 8][4];
    multiply<D, 1, PAGE / 8>(scores, &shared.q[0][0], 0, &buffer.keys[0][0]);
    cp_async_wait<0>();
    __syncwarp();   // values are there, keys have been read
    if (page + 4 < n_pages) places.template load_keys<1, 32>(&buffer.keys[0][0], lane, page + 4);
    cp_async_commit();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const ColumnRange seen = columns(page * PAGE, n_seen[half], places.tile.p1, page * PAGE);
#pragma unroll
      for (int n = 0; n < PAGE / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e)
          if (!seen.contains(n * 8 + t2 + e)) scores[0][n][2 * half + e] = minus_infinity();
    }
    softmax.update(scores, acc, scale_log2);
    accumulate<D, 1, PAGE / 8>(acc, scores, &buffer.values[0][0]);
  }
  // The keys' memory is free: nothing is on its way to it, and the warp has read the last keys before it waited for the
  // last values.
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = lanes_sum<4>(softmax.total[0][half]);
    if (t2 == 0)
      shared.top[warp][g + half * 8] = softmax.top[0][half] * scale_log2, shared.total[warp][g + half * 8] = total;
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
      *reinterpret_cast<float2*>(&buffer.acc[g + half * 8][n * 8 + t2]) =
          make_float2(acc[0][n][2 * half], acc[0][n][2 * half + 1]);
  }
  __syncthreads();   // sums of all warps are there
  for (int index = threadIdx.x; index < len * D; index += FLASH_THREADS) {
    const int m = index / D, c = index % D;
    float top = minus_infinity(), total = 0.f, sum = 0.f;
#pragma unroll
    for (int w = 0; w < 4; ++w) top = fmaxf(top, shared.top[w][m]);
    const float base = top == minus_infinity() ? 0.f : top;
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const float weight = fast_exp2(shared.top[w][m] - base);
      total = fmaf(weight, shared.total[w][m], total);
      sum = fmaf(weight, shared.warps[w].acc[m][c], sum);
    }
    const float x = total == 0.f ? 0.f : sum / total;
    if (places.tile.slot == NONE) {
      places.result(m)[c] = to_bf16(x);
    } else {
      const u64 part = places.part(m);
      places.partials.out[part * D + c] = x;
      if (c == 0) places.partials.lse[part] = total == 0.f ? minus_infinity() : (top + log2f(total)) * LN_2;
    }
  }
}

}  // namespace attention

#define ATTENTION_FLASH_CACHED_PARAMETERS                                                                            \
  bf16 *__restrict__ out, float *partial_out, float *partial_lse, const bf16 *__restrict__ qkv,                      \
      const bf16 *__restrict__ keys, const bf16 *__restrict__ values, const u32 *count,                              \
      const attention::SpanTile *tiles, const u32 *rows, const u32 *pages, const u32 *n_seen,                        \
      ATTENTION_HEADS_PARAMETERS
#define ATTENTION_FLASH_CACHED(D)                                                                                    \
  extern "C" __global__ void __launch_bounds__(128)                                                                  \
      attention_flash_cached_small_bf16_##D(ATTENTION_FLASH_CACHED_PARAMETERS) {                                     \
    DYN_SHARED(attention::SmallBuffer<D>, shared);                                                                   \
    if (blockIdx.x >= *count) return;                                                                                \
    const attention::PagedTile<D> places{ATTENTION_FLASH_CACHED_PLACES(D, blockIdx.x, blockIdx.y), keys, values};    \
    attention::flash_small<D>(places, *shared);                                                                      \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_flash_cached_small_bf16_##D)                                                               \
  extern "C" __global__ void __launch_bounds__(128)                                                                  \
      attention_flash_cached_large_bf16_##D(ATTENTION_FLASH_CACHED_PARAMETERS) {                                     \
    DYN_SHARED(bf16, shared);                                                                                        \
    if (blockIdx.x >= *count) return;                                                                                \
    const attention::PagedTile<D> places{ATTENTION_FLASH_CACHED_PLACES(D, blockIdx.x, blockIdx.y), keys, values};    \
    const attention::FlashPaged<D> problem(places);                                                                  \
    attention::flash_forward<D, 64>(problem, (int)problem.tile.len, scale, shared);                                  \
  }                                                                                                                  \
  EXPORT_KERNEL(attention_flash_cached_large_bf16_##D)

ATTENTION_FLASH_CACHED(64)
ATTENTION_FLASH_CACHED(128)
