// Tiles of matrix products whose results are used in registers: logits that become statistics or gradients at once.
//
// `tile.run(...)` leaves sum_k a(row, k) b(col, k) in the registers of a block; `tile.at(i, j)` is the element of this
// thread at row `tile.row(i)` and column `tile.col(j)` of the tile. `MmaTile` multiplies bf16 on tensor cores,
// `SimtTile` f32 with fused multiply-adds; an epilogue is written once for both.
// Numerics  f32 sums in ascending k, an element by the same instructions whatever the tile's height or its neighbours:
//           so a row's logits do not depend on the batch.
#pragma once
#include "logits.cuh"
#include "mma.cuh"
#include "pairs.cuh"
#include "prelude.cuh"

// One factor of a product: element (r, k), r < rows, k < depth, at base[r * ld + k], or at base[k * ld + r] where the
// tile reads it transposed. `index`, if given, maps r (transposed: k) to the row of `base`. Less than 2^35 elements.
template <class T> struct Operand {
  const T* base;
  const u32* index;
  int rows, depth;
  int ld;
};

// ---- bf16 -----------------------------------------------------------------------------------------------------
// Copies tiles of R rows and 32 steps of k into shared memory, in pieces of 16 bytes. Steps of k outside are 0; rows
// outside hold anything, for what they give is not used.
//   k along the row  [R][32]: piece p of row r stands in place p ^ (r / 2 % 4)
//   transposed       [32][R + 8]
// Either way the eight rows that an ldmatrix reads, and the eight pieces that eight threads write, lie in eight different
// groups of banks.
template <int R, bool TRANSPOSED, int THREADS> struct MmaStage {
  static constexpr int LD = TRANSPOSED ? R + 8 : 32;
  static constexpr int SIZE = TRANSPOSED ? 32 * LD : R * LD;
  static constexpr int PER_LINE = TRANSPOSED ? R / 8 : 4;              // pieces of a row as stored
  static constexpr int STEP = THREADS / PER_LINE;                      // rows from one piece of a thread to its next
  static constexpr int PIECES = (R * 4 + THREADS - 1) / THREADS;       // of a thread
  static_assert(THREADS % PER_LINE == 0 && (TRANSPOSED || STEP % 8 == 0), "a thread's pieces have one place in their rows");
  u32 at[PIECES];  // the thread's pieces of rows r0.. at k = 0, in pieces from `base` on; not used if transposed
  bool whole;      // all pieces of the rows are pieces of memory at multiples of 16 bytes

  static __device__ __forceinline__ int line() { return (int)threadIdx.x / PER_LINE; }
  static __device__ __forceinline__ int piece() { return (int)threadIdx.x % PER_LINE; }
  static __device__ __forceinline__ bool exists(int i) {
    return R * 4 % THREADS == 0 || (int)threadIdx.x + i * THREADS < R * 4;
  }
  static __device__ __forceinline__ int place(int line, int piece) {
    return line * LD + (TRANSPOSED ? piece : piece ^ (line >> 1 & 3)) * 8;
  }
  // Before the first copy of rows r0.. : finds them once for all of k.
  __device__ __forceinline__ void aim(const Operand<bf16>& op, int r0) {
    whole = op.ld % 8 == 0 && (size_t)op.base % 16 == 0 && (!TRANSPOSED || op.rows % 8 == 0);
#pragma unroll
    for (int i = 0; i < (TRANSPOSED ? 0 : PIECES); ++i) {
      const int r = min(r0 + line() + i * STEP, op.rows - 1);
      at[i] = (u32)(mapped(op.index, r) * (u32)(op.ld / 8)) + piece();  // 2^32 pieces are 64 GiB
    }
  }
  __device__ __forceinline__ void copy(bf16* smem, const Operand<bf16>& op, int r0, int k0) const {
    if (!whole || k0 + 32 > op.depth) {
      copy_ragged(smem, op, r0, k0);
      return;
    }
    bf16* to = smem + place(line(), piece());
#pragma unroll
    for (int i = 0; i < PIECES; ++i) {
      if (!exists(i)) continue;
      const bf16* from;
      if (TRANSPOSED)
        from = op.base + mapped(op.index, k0 + line() + i * STEP) * op.ld + min(r0 + piece() * 8, op.rows - 8);
      else from = op.base + (size_t)(at[i] + k0 / 8) * 8;
      cp_async16(to + i * STEP * LD, from);
    }
  }
  // A tile that ends within a piece, or whose rows do not begin at multiples of 16 bytes.
  static __device__ __forceinline__ void copy_ragged(bf16* smem, const Operand<bf16>& op, int r0, int k0) {
    const bool aligned = op.ld % 8 == 0 && (size_t)op.base % 16 == 0;
#pragma unroll 1
    for (int c = threadIdx.x; c < R * 4; c += THREADS) {
      const int line = c / PER_LINE, q = c % PER_LINE * 8;
      const int outer = (TRANSPOSED ? k0 : r0) + line, inner = (TRANSPOSED ? r0 : k0) + q;
      const int n_outer = TRANSPOSED ? op.depth : op.rows, n_inner = TRANSPOSED ? op.rows : op.depth;
      bf16* to = smem + place(line, q / 8);
      const bf16* from = outer < n_outer ? op.base + mapped(op.index, outer) * op.ld + inner : op.base;
      if (aligned && outer < n_outer && inner + 8 <= n_inner) {
        cp_async16(to, from);
      } else {
#pragma unroll 1
        for (int e = 0; e < 8; ++e) to[e] = outer < n_outer && inner + e < n_inner ? from[e] : to_bf16(0.f);
      }
    }
  }
};

// A tile of BM rows and BN columns for WARPS_M x WARPS_N warps.
template <int BM_, int BN_, int WARPS_M, int WARPS_N_, bool A_TRANSPOSED, bool B_TRANSPOSED> struct MmaTile {
  typedef bf16 T;
  static constexpr int BM = BM_, BN = BN_, BK = 32, STAGES = 3;
  static constexpr int WARPS_N = WARPS_N_, THREADS = 32 * WARPS_M * WARPS_N, WM = BM / WARPS_M, WN = BN / WARPS_N,
                       MI = WM / 16, NJ = WN / 8;
  static constexpr int ROWS = MI * 2, COLS = NJ * 2;     // elements of a thread
  static constexpr int ROW_LANES = 4;                    // neighbouring lanes that share a row
  static constexpr int NEIGHBOURS = 2;                   // columns j and j + 1, j even, are beside each other
  typedef MmaStage<BM, A_TRANSPOSED, THREADS> A;
  typedef MmaStage<BN, B_TRANSPOSED, THREADS> B;
  static constexpr int SMEM = STAGES * (A::SIZE + B::SIZE) * 2;   // bytes
  float acc[MI][NJ][4];

  __device__ __forceinline__ int warp_n() const { return (int)(threadIdx.x >> 5) % WARPS_N; }
  __device__ __forceinline__ int row(int i) const {
    return (int)(threadIdx.x >> 5) / WARPS_N * WM + (i >> 1) * 16 + (i & 1) * 8 + (int)(threadIdx.x >> 2 & 7);
  }
  __device__ __forceinline__ int col(int j) const {
    return warp_n() * WN + (j >> 1) * 8 + (int)(threadIdx.x & 3) * 2 + (j & 1);
  }
  __device__ __forceinline__ float at(int i, int j) const { return acc[i >> 1][j >> 1][(i & 1) * 2 + (j & 1)]; }
  static __device__ __forceinline__ float exp(float x) { return exp_approximate(x); }

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int i = 0; i < MI; ++i)
#pragma unroll
      for (int j = 0; j < NJ; ++j)
#pragma unroll
        for (int e = 0; e < 4; ++e) acc[i][j][e] = 0.f;
  }
  // Adds the 32 steps of k in one stage of shared memory.
  __device__ __forceinline__ void multiply(const bf16* as, const bf16* bs) {
    const int lane = threadIdx.x & 31, m0 = (int)(threadIdx.x >> 5) / WARPS_N * WM, n0 = warp_n() * WN;
    const int turn = lane >> 1 & 3;                      // of a lane's row, whose number is that of the lane modulo 8
#pragma unroll
    for (int k = 0; k < BK; k += 16) {
      u32 b[NJ][2];
#pragma unroll
      for (int j = 0; j < NJ; j += 2) {
        u32 r[4];
        if (B_TRANSPOSED)
          ldmatrix_x4_trans(r, bs + (k + (lane & 7) + (lane >> 3 & 1) * 8) * B::LD + n0 + j * 8 + (lane >> 4) * 8);
        else
          ldmatrix_x4(r, bs + (n0 + j * 8 + (lane >> 4) * 8 + (lane & 7)) * B::LD +
                             ((k / 8 + (lane >> 3 & 1)) ^ turn) * 8);
        b[j][0] = r[0]; b[j][1] = r[1]; b[j + 1][0] = r[2]; b[j + 1][1] = r[3];
      }
#pragma unroll
      for (int i = 0; i < MI; ++i) {
        u32 a[4];
        if (A_TRANSPOSED)
          ldmatrix_x4_trans(a, as + (k + (lane & 7) + (lane >> 4) * 8) * A::LD + m0 + i * 16 + (lane >> 3 & 1) * 8);
        else ldmatrix_x4(a, as + (m0 + i * 16 + (lane & 15)) * A::LD + ((k / 8 + (lane >> 4)) ^ turn) * 8);
#pragma unroll
        for (int j = 0; j < NJ; ++j) mma_m16n8k16_bf16(acc[i][j], a, b[j]);
      }
    }
  }
  // Walks columns n_begin, n_begin + BN, ... below n_end in one pipeline over all of them, which copies two steps
  // ahead; `epilogue(n0)` is called with each tile complete, and a barrier follows the last. `wanted(n0, k0)` false: the step is left out (its factors
  // are zero).
  template <class Wanted, class Epilogue>
  __device__ __forceinline__ void run(const Operand<bf16>& a, const Operand<bf16>& b, int m0, int n_begin, int n_end,
                                      Wanted wanted, Epilogue epilogue) {
    DYN_SHARED(bf16, smem);
    int load_n = n_begin, load_k = 0, stage = 0, load_stage = 0;
    A a_stage;
    B b_stage;
    a_stage.aim(a, m0);
    b_stage.aim(b, n_begin);
    auto skip = [&] {                                    // to the next step that is wanted, or past the last column
      while (load_n < n_end) {
        while (load_k < a.depth && !wanted(load_n, load_k)) load_k += BK;
        if (load_k < a.depth) return;
        load_k = 0; load_n += BN;
        if (load_n < n_end) b_stage.aim(b, load_n);
      }
    };
    auto load = [&] {
      if (load_n < n_end) {
        bf16* to = smem + load_stage * (A::SIZE + B::SIZE);
        a_stage.copy(to, a, m0, load_k);
        b_stage.copy(to + A::SIZE, b, load_n, load_k);
        load_k += BK;
        skip();
      }
      load_stage = load_stage + 1 == STAGES ? 0 : load_stage + 1;
      cp_async_commit();
    };
    skip();
    for (int s = 0; s < STAGES - 1; ++s) load();
    for (int n0 = n_begin; n0 < n_end; n0 += BN) {
      clear();
      for (int k0 = 0; k0 < a.depth; k0 += BK) {
        if (!wanted(n0, k0)) continue;
        cp_async_wait<STAGES - 2>();
        __syncthreads();                                 // the stage is there for all, and the one before is read
        load();
        const bf16* as = smem + stage * (A::SIZE + B::SIZE);
        multiply(as, as + A::SIZE);
        stage = stage + 1 == STAGES ? 0 : stage + 1;
      }
      epilogue(n0);
    }
    // Nothing is on its way: every step that was asked for has been waited for.
    __syncthreads();                                     // shared memory is free again; what epilogues wrote is there
  }
};

// ---- f32 ------------------------------------------------------------------------------------------------------
// A tile of BM rows and 64 columns for 256 threads: thread (x, y) of 16 x 16 holds rows y + 16 i, columns x + 16 j.
template <int BM_, bool A_TRANSPOSED, bool B_TRANSPOSED> struct SimtTile {
  typedef float T;
  static constexpr int BM = BM_, BN = 64, BK = 16, THREADS = 256;
  static constexpr int WARPS_N = 1, ROWS = BM / 16, COLS = 4, ROW_LANES = 16, NEIGHBOURS = 1;
  static constexpr int SMEM = BK * (BM + BN + 2) * 4;    // bytes
  float acc[ROWS][COLS];

  __device__ __forceinline__ int warp_n() const { return 0; }
  __device__ __forceinline__ int row(int i) const { return (int)(threadIdx.x >> 4) + 16 * i; }
  __device__ __forceinline__ int col(int j) const { return (int)(threadIdx.x & 15) + 16 * j; }
  __device__ __forceinline__ float at(int i, int j) const { return acc[i][j]; }
  static __device__ __forceinline__ float exp(float x) { return expf(x); }

  template <int R, bool TRANSPOSED>
  static __device__ __forceinline__ void copy(float* smem, const Operand<float>& op, int r0, int k0) {
    for (int c = threadIdx.x; c < R * BK; c += 256) {
      const int r = TRANSPOSED ? c % R : c / BK, k = TRANSPOSED ? c / R : c % BK;
      const bool inside = r0 + r < op.rows && k0 + k < op.depth;
      const int outer = TRANSPOSED ? k0 + k : r0 + r, inner = TRANSPOSED ? r0 + r : k0 + k;
      smem[k * (R + 1) + r] = inside ? op.base[mapped(op.index, outer) * op.ld + inner] : 0.f;
    }
  }
  template <class Wanted, class Epilogue>
  __device__ __forceinline__ void run(const Operand<float>& a, const Operand<float>& b, int m0, int n_begin, int n_end,
                                      Wanted wanted, Epilogue epilogue) {
    DYN_SHARED(float, smem);
    float* as = smem;
    float* bs = smem + BK * (BM + 1);
    for (int n0 = n_begin; n0 < n_end; n0 += BN) {
#pragma unroll
      for (int i = 0; i < ROWS; ++i)
#pragma unroll
        for (int j = 0; j < COLS; ++j) acc[i][j] = 0.f;
      for (int k0 = 0; k0 < a.depth; k0 += BK) {
        if (!wanted(n0, k0)) continue;
        copy<BM, A_TRANSPOSED>(as, a, m0, k0);
        copy<BN, B_TRANSPOSED>(bs, b, n0, k0);
        __syncthreads();                                 // the tile is there for all
#pragma unroll
        for (int k = 0; k < BK; ++k)
#pragma unroll
          for (int i = 0; i < ROWS; ++i)
#pragma unroll
            for (int j = 0; j < COLS; ++j)
              acc[i][j] = fmaf(as[k * (BM + 1) + row(i)], bs[k * (BN + 1) + col(j)], acc[i][j]);
        __syncthreads();                                 // the tile is read before the next overwrites it
      }
      epilogue(n0);
    }
    __syncthreads();                                     // what the epilogues wrote to shared memory is there
  }
};

struct AllWanted {
  __device__ __forceinline__ bool operator()(int, int) const { return true; }
};

// Whether a tile lies inside of its matrix, as a type.
template <bool VALUE> struct Whole { static constexpr bool value = VALUE; };
