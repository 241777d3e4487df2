// Embedding: a row of a table for each token, and the sum of gradients over the rows of a token.
//
// Formula   forward: out[n] = table[tokens[n]]        backward: d_table[tokens[n]] += d_out[n]
// Shapes    out, d_out (N, C) T row-major | table (V, C) T | d_table (V, C) f32 | tokens (N) u32;  T = f32 or bf16
// Bytes     s = size of T, U different tokens. forward: s (N C + U C) + 4 N.  backward: s N C + 8 U C + 8 V (the table
//           of ends, set and read) + 8 N, and 8 for each token of several rows.
// Flops     backward N C additions; both are judged in GB/s.
// Launch    forward: grid (N), block (32..256).  backward: `ends` grid (ceil(N / 256)), block (256); `once` grid (ceil(N /
//           8)), block (256), a warp a row: it adds the row of a token that has no other, and lists the tokens that have;
//           then any grid, block (256), a block a token of the list: it looks at the tokens from the first to the last
//           row of its own, again for every 1,024 columns (128 if C is not a multiple of 8).
// Numerics  backward: rows of a token are added in f32: each warp those of every eighth run of 256 rows in their order,
//           then the eight warps. The same bits every time, since nothing depends on which block comes first (the
//           smallest row wins by atomicMin; the list has any order, and each of its tokens a row of its own).
// Guards    a token that is not below V gets a row of NaN, and its gradient goes nowhere: the host does not read tokens
//           back.
#include "prelude.cuh"
#include "row.cuh"

template <int W, class T>
__device__ __forceinline__ void copy_row(T* out, const T* table, const u32* tokens, int c, u32 vocab) {
  const u32 token = tokens[blockIdx.x];
  // 64-bit: V * C passes 2^31 at 151,936 x 16,384.
  const size_t from = (size_t)token * c, to = (size_t)blockIdx.x * c;
  float v[W];
#pragma unroll
  for (int k = 0; k < W; ++k) v[k] = __int_as_float(0x7fffffff);
  for (int i = threadIdx.x * W; i < c; i += blockDim.x * W) {
    if (token < vocab) load(v, table + from + i);
    store(out + to + i, v);
  }
}

template <class T>
__device__ __forceinline__ void forward(T* out, const T* table, const u32* tokens, int c, u32 vocab) {
  if (c % 8 == 0) copy_row<8>(out, table, tokens, c, vocab);
  else copy_row<1>(out, table, tokens, c, vocab);
}

extern "C" __global__ void __launch_bounds__(256)
embedding_forward_f32(float* __restrict__ out /* (N, C) */, const float* __restrict__ table /* (V, C) */,
                      const u32* __restrict__ tokens /* (N) */, int c, u32 vocab) {
  forward(out, table, tokens, c, vocab);
}
EXPORT_KERNEL(embedding_forward_f32)

extern "C" __global__ void __launch_bounds__(256)
embedding_forward_bf16(bf16* __restrict__ out /* (N, C) */, const bf16* __restrict__ table /* (V, C) */,
                       const u32* __restrict__ tokens /* (N) */, int c, u32 vocab) {
  forward(out, table, tokens, c, vocab);
}
EXPORT_KERNEL(embedding_forward_bf16)

// ends[token] = the first row of the token, ends[V + token] = the bits of its last row, inverted, ends[2 V] = the tokens in the
// list less one; the host has set all to 0xffffffff.
extern "C" __global__ void __launch_bounds__(256)
    embedding_ends_u32(u32* __restrict__ ends /* (2 V + 1) */, const u32* __restrict__ tokens /* (N) */, int n,
                       u32 vocab) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= n || tokens[row] >= vocab) return;
  atomicMin(ends + tokens[row], (u32)row);
  atomicMin(ends + (size_t)vocab + tokens[row], ~(u32)row);
}
EXPORT_KERNEL(embedding_ends_u32)

template <int W, class T>
__device__ __forceinline__ void add_row(float* to, const T* from, int c) {
#pragma unroll 2
  for (int i = (threadIdx.x & 31) * W; i < c; i += 32 * W) {
    float sum[W], d[W];
    load(sum, to + i);
    load(d, from + i);
#pragma unroll
    for (int k = 0; k < W; ++k) sum[k] += d[k];
    store(to + i, sum);
  }
}

// Adds the rows of tokens that occur once; the first rows of the others go into the list.
template <class T>
__device__ __forceinline__ void backward_once(float* d_table, u32* list, u32* ends, const T* d_out, const u32* tokens,
                                              int n, int c, u32 vocab) {
  const int row = blockIdx.x * 8 + (threadIdx.x >> 5);
  if (row >= n) return;
  const u32 token = tokens[row];
  if (token >= vocab) return;
  const u32 first = ends[token], last = ~ends[(size_t)vocab + token];
  if (first != (u32)row) return;
  if (first != last) {
    if ((threadIdx.x & 31) == 0) list[atomicAdd(ends + 2 * (size_t)vocab, 1u) + 1u] = first;
    return;
  }
  // 64-bit: V * C passes 2^31 at 151,936 x 16,384.
  float* to = d_table + (size_t)token * c;
  const T* from = d_out + (size_t)row * c;
  if (c % 8 == 0) add_row<8>(to, from, c);
  else add_row<1>(to, from, c);
}

constexpr int RUN = 256;      // rows that a warp looks at in one go
constexpr int COLUMNS = 1024; // most columns of one pass over the tokens
constexpr int STRIDE = 36;    // floats between sums of neighbouring columns of a lane

// What a block shares: the rows with its token in the run of each warp, and what each warp has added up.
struct Shared {
  int rows[8][RUN];
  float sums[8][COLUMNS / 32 * STRIDE];
  int counts[8];
};

// The tokens of the rows first .. first + 3, `other` from row `end` on. `first` is a multiple of 4.
__device__ __forceinline__ uint4 four_tokens(const u32* tokens, int first, int end, u32 other) {
  if (first + 4 <= end) return *reinterpret_cast<const uint4*>(tokens + first);
  uint4 four = make_uint4(other, other, other, other);
  if (first < end) four.x = tokens[first];
  if (first + 1 < end) four.y = tokens[first + 1];
  if (first + 2 < end) four.z = tokens[first + 2];
  return four;
}

// Appends to the `n` rows in `rows` those of the warp's 128 that have the token, in ascending order; lane l has the
// tokens of the rows first + 4 l + 0 .. 3. Their number then.
__device__ __forceinline__ int list_rows(int (&rows)[RUN], int n, uint4 four, u32 token, int first) {
  const int lane = threadIdx.x & 31;
  const bool hits[4] = {four.x == token, four.y == token, four.z == token, four.w == token};
  int before = n;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const u32 lanes = __ballot_sync(0xffffffffu, hits[k]);
    before += __popc(lanes & ((1u << lane) - 1u));
    n += __popc(lanes);
  }
#pragma unroll
  for (int k = 0; k < 4; ++k)
    if (hits[k]) rows[before++] = first + lane * 4 + k;
  return n;
}

// Neighbouring elements as they lie in memory.
template <int W, class T> struct __align__(W * sizeof(T) < 16 ? W * sizeof(T) : 16) Run { T x[W]; };

// sum += the rows of `rows` in their order: lane l has the columns from base + (32 j + l) W on.
template <int W, int J, class T>
__device__ __forceinline__ void add_rows(float (&sum)[J][W], const T* d_out, const int* rows, int n, int base, int c) {
  constexpr int U = sizeof(T) == 2 ? 3 : 1;  // rows on their way at once
  const int lane = threadIdx.x & 31;
  for (int at = 0; at < n; at += U) {
    Run<W, T> v[U][J];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const T* row = d_out + (size_t)rows[min(at + u, n - 1)] * c;
#pragma unroll
      for (int j = 0; j < J; ++j) {
        const int i = base + (j * 32 + lane) * W;
        if (i < c) v[u][j] = *reinterpret_cast<const Run<W, T>*>(row + i);
      }
    }
#pragma unroll
    for (int u = 0; u < U; ++u)
#pragma unroll
      for (int j = 0; j < J; ++j)
#pragma unroll
        for (int k = 0; k < W; ++k)
          if (at + u < n && base + (j * 32 + lane) * W < c) sum[j][k] += to_f32(v[u][j].x[k]);
  }
}

// Where the sum of a pass's column lies: that of (32 j + l) W + k, the k-th in a row of lane l, at (j W + k) STRIDE + l.
// Neither the lanes that write the k-th of theirs nor those that read columns side by side meet in a bank.
template <int W> __device__ __forceinline__ int place(int column) {
  return column / (32 * W) * (W * STRIDE) + column % W * STRIDE + column / W % 32;
}

// d_table[token] += its rows between `own` and `last`. A warp takes every eighth run of rows and adds whole rows in
// registers; at the end the warps are added up.
template <int W, class T>
__device__ __forceinline__ void add_token(float* d_table, const T* d_out, const u32* tokens, u32 token, int own,
                                          int last, int c, Shared& shared) {
  constexpr int J = 4, STEP = 32 * W * J;  // STEP columns in a pass
  static_assert(STEP <= COLUMNS, "the sums of a pass");
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  for (int base = 0; base < c; base += STEP) {
    float sum[J][W];
#pragma unroll
    for (int j = 0; j < J; ++j)
#pragma unroll
      for (int k = 0; k < W; ++k) sum[j][k] = 0.0f;
    int count = 0;
    for (int first = (own & ~3) + warp * RUN; first <= last; first += 8 * RUN) {
      const uint4 low = four_tokens(tokens, first + lane * 4, last + 1, ~token),
                  high = four_tokens(tokens, first + 128 + lane * 4, last + 1, ~token);
      int n = list_rows(shared.rows[warp], 0, low, token, first);
      n = list_rows(shared.rows[warp], n, high, token, first + 128);
      if (n == 0) continue;
      __syncwarp();  // the list is complete
      add_rows<W, J>(sum, d_out, shared.rows[warp], n, base, c);
      count += n;
      __syncwarp();  // the list has been read
    }
    __syncthreads();  // the sums of the pass before have been read
    if (lane == 0) shared.counts[warp] = count;
    if (count > 0) {
#pragma unroll
      for (int j = 0; j < J; ++j)
#pragma unroll
        for (int k = 0; k < W; ++k) shared.sums[warp][(j * W + k) * STRIDE + lane] = sum[j][k];
    }
    __syncthreads();  // the sums of all warps are there
    for (int i = threadIdx.x; i < min(STEP, c - base); i += 256) {
      float total = 0.0f;
      for (int w = 0; w < 8; ++w)
        if (shared.counts[w] > 0) total += shared.sums[w][place<W>(i)];
      d_table[(size_t)token * c + base + i] += total;
    }
  }
}

// A block adds up all rows of every gridDim.x-th token in the list.
template <int W, class T>
__device__ __forceinline__ void add_listed(float* d_table, const T* d_out, const u32* tokens, const u32* list,
                                           const u32* ends, int c, u32 vocab, Shared& shared) {
  for (u32 at = blockIdx.x; at < ends[2 * (size_t)vocab] + 1u; at += gridDim.x) {
    const u32 own = list[at], token = tokens[own];
    const int last = (int)~ends[(size_t)vocab + token];
    add_token<W>(d_table, d_out, tokens, token, (int)own, last, c, shared);
  }
}

template <class T>
__device__ __forceinline__ void backward(float* d_table, const T* d_out, const u32* tokens, const u32* list,
                                         const u32* ends, int c, u32 vocab) {
  SHARED(Shared, shared, [1]);
  if (c % 8 == 0) add_listed<8>(d_table, d_out, tokens, list, ends, c, vocab, shared[0]);
  else add_listed<1>(d_table, d_out, tokens, list, ends, c, vocab, shared[0]);
}

#define EMBEDDING_BACKWARD(TYPE, T)                                                                                   \
  extern "C" __global__ void __launch_bounds__(256) embedding_backward_once_##TYPE(                                   \
      float* __restrict__ d_table /* (V, C) */, u32* __restrict__ list /* (N) */, u32* __restrict__ ends /* (2 V + 1) */, \
      const T* __restrict__ d_out /* (N, C) */, const u32* __restrict__ tokens /* (N) */, int n, int c, u32 vocab) {  \
    backward_once(d_table, list, ends, d_out, tokens, n, c, vocab);                                                   \
  }                                                                                                                   \
  EXPORT_KERNEL(embedding_backward_once_##TYPE)                                                                       \
  extern "C" __global__ void __launch_bounds__(256, 2) embedding_backward_##TYPE(                                     \
      float* __restrict__ d_table /* (V, C) */, const T* __restrict__ d_out /* (N, C) */,                             \
      const u32* __restrict__ tokens /* (N) */, const u32* __restrict__ list /* (N) */,                               \
      const u32* __restrict__ ends /* (2 V + 1) */, int c, u32 vocab) {                                               \
    backward(d_table, d_out, tokens, list, ends, c, vocab);                                                           \
  }                                                                                                                   \
  EXPORT_KERNEL(embedding_backward_##TYPE)

EMBEDDING_BACKWARD(f32, float)
EMBEDDING_BACKWARD(bf16, bf16)
