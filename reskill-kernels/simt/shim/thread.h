// What a kernel sees of its place in the launch: the running thread, its block, and block-wide barriers.
#pragma once
#include "types.h"

namespace simt {

// The visible part of a thread; the scheduler's part is `Fiber` in runtime/block.h.
struct Thread {
  dim3 tid;
  unsigned lane = 0;
};

struct BlockView {
  dim3 grid, block, idx;
  unsigned char* dynamic = nullptr;  // dynamic shared memory, poisoned when the block starts
};

// Plain pointers with the initial-exec model: one load, no call, on each `threadIdx`.
extern __thread Thread* g_thread __attribute__((tls_model("initial-exec")));
extern __thread BlockView* g_block __attribute__((tls_model("initial-exec")));

// Ends the launch: the words go to stderr and become the text of CUDA_ERROR_LAUNCH_FAILED.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// `__syncthreads`: all threads of the block, at one place of the source. Returns how many threads came with `flag`.
unsigned block_barrier(const char* file, int line, bool flag);

}  // namespace simt

#define threadIdx (simt::g_thread->tid)
#define blockIdx (simt::g_block->idx)
#define blockDim (simt::g_block->block)
#define gridDim (simt::g_block->grid)
static const int warpSize = 32;

#define __syncthreads() ((void)simt::block_barrier(__FILE__, __LINE__, false))
#define __syncthreads_count(p) ((int)simt::block_barrier(__FILE__, __LINE__, (p) != 0))
#define __syncthreads_or(p) ((int)(simt::block_barrier(__FILE__, __LINE__, (p) != 0) != 0))
#define __syncthreads_and(p) ((int)(simt::block_barrier(__FILE__, __LINE__, (p) == 0) == 0))
#define __trap() simt::fail("__trap at %s:%d", __FILE__, __LINE__)
static inline void __threadfence() {}
static inline void __threadfence_block() {}
