// Kernels that are wrong on purpose, each in one way that the simulator must find.
//
// They are part of the stand-in library only.
#include "mma.cuh"
#include "reduce.cuh"

// simt_reverse without its barrier.
extern "C" __global__ void simt_mistake_no_barrier(float* y, const float* x) {
  SHARED(float, tile, [256]);
  tile[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = tile[255 - threadIdx.x];
}
EXPORT_KERNEL(simt_mistake_no_barrier)

// Overwrites shared memory that others may still have to read.
extern "C" __global__ void simt_mistake_no_second_barrier(float* y, const float* x) {
  SHARED(float, tile, [256]);
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[255 - threadIdx.x];
  tile[threadIdx.x] = 0.0f;
}
EXPORT_KERNEL(simt_mistake_no_second_barrier)

// A lane reads what its neighbour wrote, without __syncwarp.
extern "C" __global__ void simt_mistake_no_syncwarp(float* y, const float* x) {
  SHARED(float, tile, [32]);
  tile[threadIdx.x] = x[threadIdx.x];
  y[threadIdx.x] = tile[threadIdx.x ^ 1];
}
EXPORT_KERNEL(simt_mistake_no_syncwarp)

// Reads an asynchronous copy without waiting for it.
extern "C" __global__ void simt_mistake_no_wait(float* y, const float* x) {
  SHARED(float4, tile, [32]);
  cp_async16(&tile[threadIdx.x], x + 4 * threadIdx.x);
  cp_async_commit();
  y[threadIdx.x] = tile[threadIdx.x].x;
  cp_async_wait<0>();
}
EXPORT_KERNEL(simt_mistake_no_wait)

// Ends with copies under way.
extern "C" __global__ void simt_mistake_abandoned_copy(float*, const float* x) {
  SHARED(float4, tile, [256]);
  cp_async16(&tile[threadIdx.x], x);
  cp_async_commit();
}
EXPORT_KERNEL(simt_mistake_abandoned_copy)

// A barrier that only the first warp reaches.
extern "C" __global__ void simt_mistake_divergent_barrier(float* y, const float*) {
  if (threadIdx.x < 32) __syncthreads();
  y[threadIdx.x] = 0.0f;
}
EXPORT_KERNEL(simt_mistake_divergent_barrier)

// Two different barriers met by the two halves of a block.
extern "C" __global__ void simt_mistake_two_barriers(float* y, const float*) {
  if (threadIdx.x < 128) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[threadIdx.x] = 0.0f;
}
EXPORT_KERNEL(simt_mistake_two_barriers)

// A shuffle with a full mask in a branch that half of the lanes take.
extern "C" __global__ void simt_mistake_divergent_shuffle(float* y, const float* x) {
  float v = x[threadIdx.x];
  if ((threadIdx.x & 1) == 0) v = __shfl_xor_sync(0xffffffffu, v, 2);
  y[threadIdx.x] = v;
}
EXPORT_KERNEL(simt_mistake_divergent_shuffle)

// Reads far outside of every allocation.
extern "C" __global__ void simt_mistake_wild_read(float* y, const float* x) { y[threadIdx.x] = x[(size_t)1 << 40]; }
EXPORT_KERNEL(simt_mistake_wild_read)

// Writes in front of an array.
extern "C" __global__ void simt_mistake_write_in_front(float* y, const float*) {
  if (threadIdx.x == 0) y[-3] = 1.0f;
}
EXPORT_KERNEL(simt_mistake_write_in_front)

// Writes one element past the end.
extern "C" __global__ void simt_mistake_write_past_end(float* y, const float*) { y[threadIdx.x + 1] = 1.0f; }
EXPORT_KERNEL(simt_mistake_write_past_end)

// Copies to an address that is not a multiple of 16.
extern "C" __global__ void simt_mistake_misaligned_copy(float* y, const float* x) {
  SHARED(float, tile, [1032]);
  cp_async16(&tile[threadIdx.x * 4 + 1], x);
  cp_async_commit();
  cp_async_wait<0>();
  y[threadIdx.x] = 0.0f;
}
EXPORT_KERNEL(simt_mistake_misaligned_copy)

// More local variables than a thread's stack holds.
extern "C" __global__ void simt_mistake_deep_stack(float* y, const float* x) {
  volatile float deep[40000];
  for (int i = 0; i < 40000; ++i) deep[i] = x[0];
  y[threadIdx.x] = deep[threadIdx.x];
}
EXPORT_KERNEL(simt_mistake_deep_stack)

// Four floats at once, one float past a multiple of 16 bytes.
extern "C" __global__ void simt_mistake_misaligned_vector(float* y, const float* x) {
  y[threadIdx.x] = reinterpret_cast<const float4*>(x + 1)[threadIdx.x % 32].w;
}
EXPORT_KERNEL(simt_mistake_misaligned_vector)
