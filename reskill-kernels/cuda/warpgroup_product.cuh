// Tiles of products by warpgroup instructions: the pipeline of shared memory that they run on.
//
// Of a block one thread copies, and kTileM / 64 warpgroups multiply 64 rows of the tile each:
//
//     WarpgroupTile<128, 4, 0, 0> tile(memory);              // all threads; ends with a barrier
//     the copying thread:       for each tile: tile.copy(left, right, m0, n0, n_stages);
//     a multiplying warpgroup:  for each tile: tile.multiply(sum, half, n_stages); ... sum ...
//
// The copying thread runs ahead of the others by as many stages as there are, also into the next tile: what is done with
// the sums of one tile goes on while the next is copied.
// Numerics  sums in f32 inside the tensor core, in order of k by 16: an element by the same instructions whatever the
//           tile's height or its neighbours.
#pragma once
#include "warpgroup.cuh"

// kTileM rows of the left factor (64 or 128) by kTileN of the right one (64, 128 or 256), kStages stages of 64 of k.
// kTurned* says that a factor is stored with its own axis contiguous and K across rows. Maps have boxes of 64 columns and
// kTileM (left) or kTileN (right) rows, of 64 rows where a factor is turned.
template <int kTileM_, int kStages_, int kTurnedLeft, int kTurnedRight, int kTileN_ = 256> struct WarpgroupTile {
  static constexpr int kTileM = kTileM_, kTileN = kTileN_, kDepth = 64, kStages = kStages_;
  static constexpr int kWarpgroups = kTileM / 64;
  static constexpr int kLeftBytes = kTileM * kDepth * 2, kRightBytes = kTileN * kDepth * 2,
                       kStageBytes = kLeftBytes + kRightBytes;
  static constexpr int kChunkBytes = 64 * kDepth * 2;  // 64 rows of 64: one box of a turned factor
  static constexpr int kSharedBytes = kStages * (kStageBytes + 16);

  u8* stages;
  u64 *full, *empty;  // a barrier for each stage: it holds its factors; all warps have read it
  u32 stage_bytes;    // that come for a stage
  int slot;           // the next stage of this thread
  u32 parity;         // of its phase

  // With less than kTileM rows in a box of the left factor, the sums of the others are undefined.
  __device__ __forceinline__ explicit WarpgroupTile(u8* memory, int left_rows = kTileM)
      : stages(memory), full(reinterpret_cast<u64*>(memory + kStages * kStageBytes)), empty(full + kStages),
        stage_bytes(left_rows * kDepth * 2 + kRightBytes), slot(0), parity(0) {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kStages; ++i) {
        mbarrier_init(&full[i], 1);                 // the copying thread
        mbarrier_init(&empty[i], 4 * kWarpgroups);  // a lane of each multiplying warp
      }
      mbarrier_init_fence();
    }
    __syncthreads();  // the barriers are there
  }

  __device__ __forceinline__ void next() {
    if (++slot == kStages) {
      slot = 0;
      parity ^= 1;
    }
  }

  // The copying thread: fills the stages of the tile at (m0, n0) from stage `first` of K on as they are given back.
  __device__ __forceinline__ void copy(const TensorMap* left, const TensorMap* right, int m0, int n0, int n_stages,
                                       int first = 0) {
    for (int index = 0; index < n_stages; ++index, next()) {
      const int k0 = (first + index) * kDepth;
      // The first round of stages is empty from the beginning: parity 1 of a fresh barrier.
      mbarrier_wait(&empty[slot], parity ^ 1);
      mbarrier_arrive_expect(&full[slot], stage_bytes);
      u8* stage = stages + slot * kStageBytes;
      if (kTurnedLeft) {
        for (int c = 0; c < kTileM / 64; ++c) tma_load(stage + c * kChunkBytes, left, m0 + c * 64, k0, &full[slot]);
      } else {
        tma_load(stage, left, k0, m0, &full[slot]);
      }
      stage += kLeftBytes;
      if (kTurnedRight) {
        for (int c = 0; c < kTileN / 64; ++c) tma_load(stage + c * kChunkBytes, right, n0 + c * 64, k0, &full[slot]);
      } else {
        tma_load(stage, right, k0, n0, &full[slot]);
      }
    }
  }

  // A multiplying warpgroup: rows 64 * half .. of the tile, as wgmma_m64k16 deals them out. n_stages is at least 1.
  __device__ __forceinline__ void multiply(float (&sum)[kTileN / 2], int half, int n_stages) {
    const bool gives_back = (threadIdx.x & 31) == 0;
    int before = 0;
    for (int index = 0; index < n_stages; ++index) {
      mbarrier_wait(&full[slot], parity);
      // 64 rows of the left factor, or one of its chunks of columns; 8192 bytes either way.
      const u8* left = stages + slot * kStageBytes + half * kChunkBytes;
      const u8* right = stages + slot * kStageBytes + kLeftBytes;
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < kDepth; k += 16) {
        // 16 of k are 32 bytes along a row, or 16 rows of 128 bytes.
        const u64 a = wgmma_descriptor(left + (kTurnedLeft ? k * 128 : k * 2), kTurnedLeft ? kChunkBytes : 16);
        const u64 b = wgmma_descriptor(right + (kTurnedRight ? k * 128 : k * 2), kTurnedRight ? kChunkBytes : 16);
        wgmma_m64k16<kTurnedLeft, kTurnedRight>(sum, a, b, index > 0 || k > 0);
      }
      wgmma_commit();
      // All but the products just given are done: the stage before them has been read, by this warp for its 16 rows.
      wgmma_wait<1>();
      if (index > 0 && gives_back) mbarrier_arrive(&empty[before]);
      before = slot;
      next();
    }
    wgmma_wait<0>();
    wgmma_results(sum);
    if (gives_back) mbarrier_arrive(&empty[before]);
  }
};
