// Kernels that send boxes of shared memory to a matrix by the copy engine, and clusters that read each other's shared memory:
// right ones, and some that are wrong on purpose.
//
// They are part of the stand-in library only.
#include "hopper.cuh"

// A warp's fragments of 16 rows of 64: value 64 * row + column + first.
__device__ __forceinline__ void write_box(u8* box, int first) {
  const int lane = threadIdx.x & 31;
  for (int piece = 0; piece < 8; piece += 2) {
    u32 r[4];
    for (int i = 0; i < 4; ++i) {
      const int row = (lane >> 2) + (i & 1) * 8, col = (piece + (i >> 1)) * 8 + (lane & 3) * 2;
      r[i] = pack_bf16x2((float)(first + 64 * row + col), (float)(first + 64 * row + col + 1));
    }
    stmatrix_x4(box + (lane & 15) * 128 + (((piece + (lane >> 4)) ^ (lane & 7)) << 4), r);
  }
}

// Two boxes of a matrix, at (row, column) and 64 columns on; the second uses the shared memory of the first again.
template <bool kWaitBetween, bool kWaitAtEnd>
__device__ __forceinline__ void send_boxes(const TensorMap* map, int row, int column) {
  DYN_SHARED(u8, box);
  write_box(box, 0);
  for (int i = 0; i < 2; ++i) {
    fence_async_shared();
    __syncwarp();  // the box is whole
    if (threadIdx.x == 0) {
      tma_store(box, map, column + 64 * i, row);
      bulk_commit();
      if (kWaitBetween) bulk_wait_read<0>();
    }
    __syncwarp();  // the box has been read
    if (i == 0) write_box(box, 7);
  }
  if (kWaitAtEnd && threadIdx.x == 0) bulk_wait_read<0>();
}

#define BOX_KERNEL(name, between, end)                                                                           \
  extern "C" __global__ void __launch_bounds__(32) name(const __grid_constant__ TensorMap map, int row, int column) { \
    send_boxes<between, end>(&map, row, column);                                                                 \
  }                                                                                                              \
  EXPORT_KERNEL(name)
BOX_KERNEL(simt_boxes, true, true)
BOX_KERNEL(simt_mistake_overwritten_box, false, true)
BOX_KERNEL(simt_mistake_abandoned_box, false, false)

// Clusters of four blocks of 32: y[b, i] = sum over the blocks r of b's cluster of (r + 1) * x[r, i].
template <bool kBarrierBefore, bool kBarrierAfter>
__device__ __forceinline__ void add_up_cluster(float* y, const float* x) {
  DYN_SHARED(float4, mine);
  const int lane = threadIdx.x, i = blockIdx.x * 32 + lane;
  mine[lane] = make_float4((float)(cluster_rank() + 1) * x[i], 0.0f, 0.0f, 0.0f);
  if (kBarrierBefore) cluster_barrier();
  float sum = 0.0f;
  for (u32 r = 0; r < 4; ++r) sum += load_of_block(mine + lane, r).x;
  if (kBarrierAfter) cluster_barrier();
  y[i] = sum;
}
#define CLUSTER_KERNEL(name, before, after)                                                                      \
  extern "C" __global__ void __cluster_dims__(4, 1, 1) __launch_bounds__(32) name(float* y, const float* x) {     \
    add_up_cluster<before, after>(y, x);                                                                         \
  }                                                                                                              \
  EXPORT_CLUSTER_KERNEL(name, 4)
CLUSTER_KERNEL(simt_clusters, true, true)
CLUSTER_KERNEL(simt_mistake_cluster_reads_early, false, true)
CLUSTER_KERNEL(simt_mistake_cluster_ends_early, true, false)

// Two warps: the first writes 32 numbers to shared memory and its lane 0 announces them, the second then reads them.
template <bool kTogether> __device__ __forceinline__ void announce(float* y) {
  DYN_SHARED(u8, memory);
  u64* ready = reinterpret_cast<u64*>(memory);
  float* numbers = reinterpret_cast<float*>(memory + 16);
  const int lane = threadIdx.x & 31;
  if (threadIdx.x == 0) {
    mbarrier_init(ready, 1);
    mbarrier_init_fence();
  }
  numbers[lane] = 0.0f;
  __syncthreads();
  if (threadIdx.x < 32) {
    numbers[lane] = (float)(lane + 1);
    if (kTogether) __syncwarp();
    if (lane == 0) mbarrier_arrive(ready);
  } else {
    mbarrier_wait(ready, 0);
    y[lane] = numbers[lane];
  }
}
#define ANNOUNCE_KERNEL(name, together)                                               \
  extern "C" __global__ void __launch_bounds__(64) name(float* y) { announce<together>(y); } \
  EXPORT_KERNEL(name)
ANNOUNCE_KERNEL(simt_announced, true)
ANNOUNCE_KERNEL(simt_mistake_announced_early, false)
