// Products of bf16 matrices by warpgroup instructions and tensor memory copies (compute capability 9.0 only).
//
// Formula   as matmul_bf16.cu, which stands beside it and is the measure of its results
// Shapes    out (M, N) f32 or bf16, factors bf16, their addresses and strides multiples of 16 bytes
// Bytes     as matmul_bf16.cu. A tile of 128 x 256 takes (128 + 256) * K * 2 bytes for 2 * 128 * 256 * K operations:
//           85 FLOP a byte of L2. Parts of K that several blocks sum are written and read as f32: 8 bytes an element and
//           part; those of a cluster stay in shared memory.
// Flops     2*M*N*K on tensor cores; at 8192^3 on an H200 792 TFLOP/s, cuBLASLt 789 (benchmarks/gpu/h200).
// Launch    grid: as many blocks as run at once, or units if fewer; block 128 + kTileM * 2: one warpgroup copies, the
//           others multiply 64 rows each; dynamic shared memory of kStages stages with their barriers, and behind them
//           4 KiB for each multiplying warp if results leave by the copy engine. A block takes every gridDim.x-th unit: a
//           tile, or one of `splits` parts of K of a tile, which matmul_join_* adds up. The copying thread is stages
//           ahead, also over the end of a unit, so the next one's factors are there when the results of the last are
//           out. Few rows: tiles of 64 x 64, two blocks at a time, and K in parts across a cluster.
// Numerics  sums in f32 inside the tensor core, in order of k by 16; parts of K are added in their order. Tiles of either size sum
//           in the same order.
// Source    PTX ISA 8.x; the schedule of a block is that of CUTLASS' persistent kernels for Hopper.
#include "gemm.cuh"
#include "warpgroup_product.cuh"

constexpr int kBoxBytes = 16 * 128;  // 16 rows of 64 bf16 on their way out

// What a block needs for a tile beyond its stages.
template <class Tile> struct BlockOf {
  static constexpr int kThreads = 128 + 128 * Tile::kWarpgroups;
  static constexpr bool kAlone = Tile::kSharedBytes > 100 << 10;  // on its multiprocessor, or one of two
  static constexpr int kBoxes = Tile::kTileN > 64 ? 2 : 1;        // of a multiplying warp
  static constexpr int kBoxesAt = (Tile::kSharedBytes + 1023) / 1024 * 1024;
};

// Who computes what: tiles in the order of tile_at, the first `whole` by a unit each, the others by `splits` units each.
struct Division {
  int tiles_m, tiles_n, whole, splits, n_stages;
  __device__ __forceinline__ int units() const {
    const int tiles = tiles_m * tiles_n;
    return whole >= tiles ? tiles : whole + (tiles - whole) * splits;
  }
};

// One unit: the tile at (m0, n0), n_stages stages of K from `first` on. `part` numbers the parts of split tiles; -1: whole.
struct Unit {
  int m0, n0, first, n_stages, part;
  template <class Tile>
  static __device__ __forceinline__ Unit of(int index, const Division& d) {
    int tile = index, first = 0, end = d.n_stages, part = -1;
    if (index >= d.whole) {
      // All tiles' first parts come first: units that run at one time share factors.
      const int split_tiles = d.tiles_m * d.tiles_n - d.whole, p = (index - d.whole) / split_tiles,
                at = (index - d.whole) % split_tiles;
      tile = d.whole + at;
      part = at * d.splits + p;
      first = (int)((i64)d.n_stages * p / d.splits);
      end = (int)((i64)d.n_stages * (p + 1) / d.splits);
    }
    int tile_m, tile_n;
    tile_at<16>(tile, d.tiles_m, d.tiles_n, tile_m, tile_n);
    return {tile_m * Tile::kTileM, tile_n * Tile::kTileN, first, end - first, part};
  }
};

// A part of K, kept as the threads hold it: quad q of thread t of T at (part * kTileN / 8 + q) * T + t.
template <class Tile>
__device__ __forceinline__ void write_part(float4* parts, int part, const float (&sum)[Tile::kTileN / 2]) {
  constexpr int kThreads = 128 * Tile::kWarpgroups, kQuads = Tile::kTileN / 8;
  float4* at = parts + (size_t)part * kQuads * kThreads + (threadIdx.x - 128);
#pragma unroll
  for (int q = 0; q < kQuads; ++q)
    at[q * kThreads] = make_float4(sum[4 * q], sum[4 * q + 1], sum[4 * q + 2], sum[4 * q + 3]);
}

// Writes the 16 rows of a warp, 64 columns at a time, by way of its boxes of shared memory.
template <int kTileN, int kBoxes>
__device__ __forceinline__ void write_by_copies(const TensorMap* out, u8* boxes, int row, int col,
                                                const float (&sum)[kTileN / 2], float alpha) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int chunk = 0; chunk < kTileN / 64; ++chunk) {
    u8* box = boxes + chunk % kBoxes * kBoxBytes;
    if (lane == 0) bulk_wait_read<kBoxes - 1>();
    __syncwarp();  // the copy engine has read what was in this box
#pragma unroll
    for (int piece = 0; piece < 8; piece += 2) {
      u32 r[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int at = 4 * (chunk * 8 + piece + (i >> 1)) + 2 * (i & 1);
        r[i] = pack_bf16x2(alpha * sum[at], alpha * sum[at + 1]);
      }
      // Lane l gives row l % 16 of the box, and there the first or the second of two pieces of 16 bytes.
      stmatrix_x4(box + (lane & 15) * 128 + (((piece + (lane >> 4)) ^ (lane & 7)) << 4), r);
    }
    fence_async_shared();
    __syncwarp();  // the box is there for the lane that sends it
    if (lane == 0) {
      tma_store(box, out, col + chunk * 64, row);
      bulk_commit();
    }
  }
}

// Writes the sums of a thread at `out`, its first pair: rows apart by eight, pairs of columns by eight. All are inside.
template <bool kAccumulate, int kPairs, class Out>
__device__ __forceinline__ void write_whole(Out* out, size_t eight_rows, const float (&sum)[4 * kPairs], float alpha) {
  constexpr int kTogether = 8 < kPairs ? 8 : kPairs;  // old values that are asked for at once
#pragma unroll
  for (int h = 0; h < 2; ++h)
#pragma unroll
    for (int j0 = 0; j0 < kPairs; j0 += kTogether) {
      Out* at = out + h * eight_rows + j0 * 8;
      float2 old[kTogether];
#pragma unroll
      for (int j = 0; j < kTogether; ++j) old[j] = kAccumulate ? read_two(at + j * 8) : make_float2(0.f, 0.f);
#pragma unroll
      for (int j = 0; j < kTogether; ++j) {
        const float v = alpha * sum[4 * (j0 + j) + 2 * h], w = alpha * sum[4 * (j0 + j) + 2 * h + 1];
        write_two(at + j * 8, kAccumulate ? v + old[j].x : v, kAccumulate ? w + old[j].y : w);
      }
    }
}

// Two neighbours at (row, col), as far as they are inside.
template <class Out>
__device__ __forceinline__ void write_inside(Out* out, int row, int col, float v, float w, bool pairs,
                                             const GemmShape& s) {
  if (row >= s.m || col >= s.n) return;
  // 64 bits: row * stride exceeds 2^31 from 32768 rows of 65536 on.
  Out* at = out + (size_t)row * s.out_stride + col;
  if (pairs && col + 1 < s.n) {
    write_two(at, s.alpha * v, s.alpha * w, s.accumulate);
  } else {
    write_one(at, s.alpha * v, s.accumulate);
    if (col + 1 < s.n) write_one(at + 1, s.alpha * w, s.accumulate);
  }
}

// Writes the 64 x kTileN sums of a warpgroup by its threads.
template <int kTileN, class Out>
__device__ __forceinline__ void write_by_threads(Out* out, int row, int col, const float (&sum)[kTileN / 2],
                                                 const GemmShape& s) {
  constexpr int kPairs = kTileN / 8;
  const bool pairs = s.out_stride % 2 == 0 && reinterpret_cast<u64>(out) % (2 * sizeof(Out)) == 0;
  const int row0 = row + ((threadIdx.x & 31) >> 2), col0 = col + (threadIdx.x & 3) * 2;
  if (pairs && row + 16 <= s.m && col + kTileN <= s.n) {
    Out* at = out + (size_t)row0 * s.out_stride + col0;
    if (s.accumulate) write_whole<true, kPairs>(at, (size_t)8 * s.out_stride, sum, s.alpha);
    else write_whole<false, kPairs>(at, (size_t)8 * s.out_stride, sum, s.alpha);
    return;
  }
#pragma unroll
  for (int j = 0; j < kPairs; ++j)
#pragma unroll
    for (int h = 0; h < 2; ++h)
      write_inside(out, row0 + h * 8, col0 + j * 8, sum[4 * j + 2 * h], sum[4 * j + 2 * h + 1], pairs, s);
}

template <class Tile, class Out>
__device__ __forceinline__ void gemm_units(Out* out, float4* parts, const TensorMap* left, const TensorMap* right,
                                           const TensorMap* out_map, const GemmShape& s, int whole, int splits,
                                           int left_rows) {
  typedef BlockOf<Tile> Block;
  constexpr int kTileN = Tile::kTileN;
  DYN_SHARED(u8, memory);
  Tile tile(memory, left_rows);
  const Division division = {(s.m + Tile::kTileM - 1) / Tile::kTileM, (s.n + kTileN - 1) / kTileN, whole, splits,
                             (s.k + Tile::kDepth - 1) / Tile::kDepth};
  const int n_units = division.units(), group = threadIdx.x >> 7;
  if (group == 0) {
    if (kTileN == 256) registers_decrease<40>();
    if (threadIdx.x != 0) return;
    for (int index = blockIdx.x; index < n_units; index += gridDim.x) {
      const Unit u = Unit::of<Tile>(index, division);
      tile.copy(left, right, u.m0, u.n0, u.n_stages, u.first);
    }
    return;
  }
  if (kTileN == 256) registers_increase<232>();
  const int warp = (threadIdx.x >> 5) - 4;
  u8* boxes = memory + Block::kBoxesAt + warp * Block::kBoxes * kBoxBytes;
  for (int index = blockIdx.x; index < n_units; index += gridDim.x) {
    const Unit u = Unit::of<Tile>(index, division);
    float sum[kTileN / 2];
    tile.multiply(sum, group - 1, u.n_stages);
    const int row = u.m0 + warp * 16;
    if (u.part >= 0) write_part<Tile>(parts, u.part, sum);
    else if (out_map) write_by_copies<kTileN, Block::kBoxes>(out_map, boxes, row, u.n0, sum, s.alpha);
    else write_by_threads<kTileN>(out, row, u.n0, sum, s);
  }
  if (out_map && (threadIdx.x & 31) == 0) bulk_wait_read<0>();
}

// Parameters: out (M, N) | parts (split tiles, splits, kTileN / 8, multiplying threads) | maps of left and right, of out
// if `by_copies` | sizes and stride, see GemmShape | see Division. K is at least 1.
#define GEMM_KERNEL(name, Tile, Out)                                                                                   \
  extern "C" __global__ void __launch_bounds__(BlockOf<Tile>::kThreads, BlockOf<Tile>::kAlone ? 1 : 2)                 \
      name(Out* out, float4* parts, const __grid_constant__ TensorMap left, const __grid_constant__ TensorMap right,   \
           const __grid_constant__ TensorMap out_map, int m, int n, int k, int out_stride, int accumulate,             \
           float alpha, int whole, int splits, int by_copies) {                                                        \
    const GemmShape s = {m, n, k, 0, 0, out_stride, k, accumulate, alpha};                                             \
    const TensorMap* map = sizeof(Out) == 2 && by_copies ? &out_map : nullptr;                                         \
    gemm_units<Tile>(out, parts, &left, &right, map, s, whole, splits, Tile::kTileM);                                                \
  }                                                                                                                    \
  EXPORT_KERNEL(name)

typedef WarpgroupTile<128, 4, 0, 0> TileNt;
typedef WarpgroupTile<128, 4, 0, 1> TileNn;
typedef WarpgroupTile<128, 4, 1, 1> TileTn;
GEMM_KERNEL(matmul_nt_sm90a_bf16, TileNt, bf16)
GEMM_KERNEL(matmul_nt_sm90a_f32, TileNt, float)
GEMM_KERNEL(matmul_nn_sm90a_bf16, TileNn, bf16)
GEMM_KERNEL(matmul_nn_sm90a_f32, TileNn, float)
GEMM_KERNEL(matmul_tn_sm90a_f32, TileTn, float)

// ---- few rows --------------------------------------------------------------------------------------------------

// The sums of a tile whose parts of K the blocks of a cluster have: each adds up its share of the elements, in the order
// of the parts, and writes it.
template <class Tile, int kCluster>
__device__ __forceinline__ void write_across_cluster(bf16* out, float4* shared, const float (&sum)[Tile::kTileN / 2],
                                                     int m0, int n0, const GemmShape& s) {
  constexpr int kThreads = 128 * Tile::kWarpgroups, kQuads = Tile::kTileN / 8, kShare = kQuads * kThreads / kCluster;
  const int t = threadIdx.x - 128;
#pragma unroll
  for (int q = 0; q < kQuads; ++q)
    shared[q * kThreads + t] = make_float4(sum[4 * q], sum[4 * q + 1], sum[4 * q + 2], sum[4 * q + 3]);
  cluster_barrier();  // all parts are there
  const bool pairs = s.out_stride % 2 == 0 && reinterpret_cast<u64>(out) % 4 == 0;
  const int begin = cluster_rank() * kShare;
  for (int i = begin + t; i < begin + kShare; i += kThreads) {
    const int thread = i % kThreads, row = m0 + (thread >> 5) * 16 + ((thread & 31) >> 2);
    if (row >= s.m) continue;
    float4 parts[kCluster];
#pragma unroll
    for (int p = 0; p < kCluster; ++p) parts[p] = load_of_block(shared + i, p);
    float4 all = parts[0];
#pragma unroll
    for (int p = 1; p < kCluster; ++p) {
      all.x += parts[p].x;
      all.y += parts[p].y;
      all.z += parts[p].z;
      all.w += parts[p].w;
    }
    const int col = n0 + i / kThreads * 8 + (thread & 3) * 2;
    write_inside(out, row, col, all.x, all.y, pairs, s);
    write_inside(out, row + 8, col, all.z, all.w, pairs, s);
  }
  cluster_barrier();  // all blocks have read this one's part
}

// One unit a block: part `cluster_rank` of K of tile blockIdx.x / kCluster.
template <class Tile, int kCluster>
__device__ __forceinline__ void gemm_in_cluster(bf16* out, const TensorMap* left, const TensorMap* right,
                                                const GemmShape& s, int left_rows) {
  DYN_SHARED(u8, memory);
  Tile tile(memory, left_rows);
  const Division division = {(s.m + Tile::kTileM - 1) / Tile::kTileM, (s.n + Tile::kTileN - 1) / Tile::kTileN, 0,
                             kCluster, (s.k + Tile::kDepth - 1) / Tile::kDepth};
  const int n_tiles = division.tiles_m * division.tiles_n;
  const Unit u = Unit::of<Tile>(cluster_rank() * n_tiles + blockIdx.x / kCluster, division);
  if (threadIdx.x < 128) {
    if (threadIdx.x == 0) tile.copy(left, right, u.m0, u.n0, u.n_stages, u.first);
    cluster_barrier();
    cluster_barrier();
    return;
  }
  float sum[Tile::kTileN / 2];
  tile.multiply(sum, (int)(threadIdx.x >> 7) - 1, u.n_stages);
  float4* shared = reinterpret_cast<float4*>(memory + BlockOf<Tile>::kBoxesAt);
  write_across_cluster<Tile, kCluster>(out, shared, sum, u.m0, u.n0, s);
}

// Parameters: out (M, N) | maps of left, of which a box has left_rows rows, and right, of out if `by_copies` | sizes and
// stride, see GemmShape. With kCluster blocks a tile each sums a part of K; there are at least as many stages of K.
#define ROWS_KERNEL(name, Tile, kCluster)                                                                              \
  extern "C" __global__ void __cluster_dims__(kCluster, 1, 1)                                                          \
      __launch_bounds__(BlockOf<Tile>::kThreads, BlockOf<Tile>::kAlone ? 1 : 2)                                        \
      name(bf16* out, const __grid_constant__ TensorMap left, const __grid_constant__ TensorMap right,                 \
           const __grid_constant__ TensorMap out_map, int m, int n, int k, int out_stride, int accumulate,             \
           float alpha, int left_rows, int by_copies) {                                                                \
    const GemmShape s = {m, n, k, 0, 0, out_stride, k, accumulate, alpha};                                             \
    if (kCluster > 1) gemm_in_cluster<Tile, kCluster>(out, &left, &right, s, left_rows);                               \
    else                                                                                                               \
      gemm_units<Tile>(out, nullptr, &left, &right, by_copies ? &out_map : nullptr, s, 1 << 30, 1, left_rows);         \
  }                                                                                                                    \
  EXPORT_CLUSTER_KERNEL(name, kCluster)

typedef WarpgroupTile<64, 6, 0, 0, 64> TileRows;
ROWS_KERNEL(matmul_rows_1_sm90a_bf16, TileRows, 1)
ROWS_KERNEL(matmul_rows_2_sm90a_bf16, TileRows, 2)
ROWS_KERNEL(matmul_rows_4_sm90a_bf16, TileRows, 4)
ROWS_KERNEL(matmul_rows_8_sm90a_bf16, TileRows, 8)

// ---- parts -----------------------------------------------------------------------------------------------------

constexpr int kJoined = 2;  // quads of a thread of join_parts

// Adds up the parts of split tiles in their order: block (tile, kJoined of its quads), a thread for each that multiplied.
template <class Out>
__device__ __forceinline__ void join_parts(Out* out, const float4* parts, const GemmShape& s, int tile_m_rows,
                                           int tile_n_cols, int whole, int splits) {
  const int quads = tile_n_cols / 8, runs = quads / kJoined, q0 = (int)(blockIdx.x % runs) * kJoined;
  const int split_tile = blockIdx.x / runs, n_threads = blockDim.x;
  const float4* at = parts + ((size_t)split_tile * splits * quads + q0) * n_threads + threadIdx.x;
  float4 sum[kJoined];
#pragma unroll
  for (int q = 0; q < kJoined; ++q) sum[q] = at[q * n_threads];
#pragma unroll 4
  for (int p = 1; p < splits; ++p)
#pragma unroll
    for (int q = 0; q < kJoined; ++q) {
      const float4 v = at[((size_t)p * quads + q) * n_threads];
      sum[q].x += v.x;
      sum[q].y += v.y;
      sum[q].z += v.z;
      sum[q].w += v.w;
    }
  int tile_m, tile_n;
  tile_at<16>(whole + split_tile, (s.m + tile_m_rows - 1) / tile_m_rows, (s.n + tile_n_cols - 1) / tile_n_cols, tile_m,
              tile_n);
  const bool pairs = s.out_stride % 2 == 0 && reinterpret_cast<u64>(out) % (2 * sizeof(Out)) == 0;
  const int row = tile_m * tile_m_rows + (threadIdx.x >> 5) * 16 + ((threadIdx.x & 31) >> 2);
  const int col = tile_n * tile_n_cols + q0 * 8 + (threadIdx.x & 3) * 2;
#pragma unroll
  for (int q = 0; q < kJoined; ++q) {
    write_inside(out, row, col + q * 8, sum[q].x, sum[q].y, pairs, s);
    write_inside(out, row + 8, col + q * 8, sum[q].z, sum[q].w, pairs, s);
  }
}

// Parameters: out (M, N) | parts, as above | M, N, stride | rows and columns of a tile | see Division.
#define JOIN_KERNEL(name, Out)                                                                                         \
  extern "C" __global__ void __launch_bounds__(256)                                                                    \
      name(Out* out, const float4* parts, int m, int n, int out_stride, int accumulate, float alpha, int tile_m_rows,  \
           int tile_n_cols, int whole, int splits) {                                                                   \
    const GemmShape s = {m, n, 0, 0, 0, out_stride, 0, accumulate, alpha};                                             \
    join_parts(out, parts, s, tile_m_rows, tile_n_cols, whole, splits);                                                \
  }                                                                                                                    \
  EXPORT_KERNEL(name)

JOIN_KERNEL(matmul_join_sm90a_bf16, bf16)
JOIN_KERNEL(matmul_join_sm90a_f32, float)
