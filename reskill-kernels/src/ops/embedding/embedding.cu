// Embedding: a row of a table for each token, and the sum of gradients over the rows of a token.
//
// Formula   forward: out[n] = table[tokens[n]]        backward: d_table[tokens[n]] += d_out[n]
// Shapes    out, d_out (N, C) T row-major | table (V, C) T | d_table (V, C) f32 | tokens (N) u32;  T = f32 or bf16
// Bytes     s = size of T, U different tokens. forward: s (N C + U C) + 4 N.  backward: s N C + 8 U C + 4 V (the table
//           of first rows, set and read) + 8 N.
// Flops     backward N C additions; both are judged in GB/s.
// Launch    forward: grid (N), block (32..256).  backward: `first_rows` grid (ceil(N / 256)), block (256); then grid
//           (N), block (256), of which one block a different token works.
// Numerics  backward: rows of a token are added in f32 in their order, summed first within each run of 256 rows: the
//           same bits every time, since nothing depends on which block comes first (the smallest row wins by
//           atomicMin).
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

// first[token] = the smallest row with that token; the host has set all to 0xffffffff.
extern "C" __global__ void __launch_bounds__(256)
    embedding_first_rows_u32(u32* __restrict__ first /* (V) */, const u32* __restrict__ tokens /* (N) */, int n,
                             u32 vocab) {
  const int row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row < n && tokens[row] < vocab) atomicMin(first + tokens[row], (u32)row);
}
EXPORT_KERNEL(embedding_first_rows_u32)

// The block of a token's first row adds up all rows of the token; the others leave.
template <class T>
__device__ __forceinline__ void backward(float* d_table, const T* d_out, const u32* tokens, const u32* first, int n,
                                         int c, u32 vocab) {
  SHARED(int, rows, [256]);
  SHARED(int, counts, [8]);
  const int own = blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const u32 token = tokens[own];
  if (token >= vocab || first[token] != (u32)own) return;
  float* to = d_table + (size_t)token * c;
  for (int base = own; base < n; base += 256) {
    const int row = base + threadIdx.x;
    const bool hit = row < n && tokens[row] == token;
    const u32 hits = __ballot_sync(0xffffffffu, hit);
    if (lane == 0) counts[warp] = __popc(hits);
    __syncthreads();  // the counts of all warps are there, and the rows of the last run have been read
    int before = 0, total = 0;
    for (int w = 0; w < 8; ++w) {
      before += w < warp ? counts[w] : 0;
      total += counts[w];
    }
    if (hit) rows[before + __popc(hits & ((1u << lane) - 1u))] = row;
    __syncthreads();  // the list is complete, and the counts have been read
    if (total == 0) continue;
    for (int i = threadIdx.x; i < c; i += 256) {
      float sum = 0.0f;
      for (int k = 0; k < total; ++k) sum += to_f32(d_out[(size_t)rows[k] * c + i]);
      to[i] += sum;
    }
  }
}

extern "C" __global__ void __launch_bounds__(256)
embedding_backward_f32(float* __restrict__ d_table /* (V, C) */, const float* __restrict__ d_out /* (N, C) */,
                       const u32* __restrict__ tokens /* (N) */, const u32* __restrict__ first /* (V) */, int n, int c,
                       u32 vocab) {
  backward(d_table, d_out, tokens, first, n, c, vocab);
}
EXPORT_KERNEL(embedding_backward_f32)

extern "C" __global__ void __launch_bounds__(256)
embedding_backward_bf16(float* __restrict__ d_table /* (V, C) */, const bf16* __restrict__ d_out /* (N, C) */,
                        const u32* __restrict__ tokens /* (N) */, const u32* __restrict__ first /* (V) */, int n, int c,
                        u32 vocab) {
  backward(d_table, d_out, tokens, first, n, c, vocab);
}
EXPORT_KERNEL(embedding_backward_bf16)
