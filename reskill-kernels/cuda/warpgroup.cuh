// Warpgroup products with 64 or 128 columns, also with the left factor in registers, and barriers of some warps: what
// kernels need that multiply the result of a product again (sm_90a).
//
// Source: PTX ISA 8.x, "wgmma.mma_async" (register fragments), "bar.sync", "fence.proxy.async". In the
// simulator emulated from the same text.
#pragma once
#include "hopper.cuh"

// Makes what this thread has written to shared memory visible to warpgroup products and tensor copies; a barrier with
// the threads that give these follows.
__device__ __forceinline__ void async_proxy_fence() {
#if !defined(RESKILL_SIMT)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Barrier number `id` (1 to 15; 0 is __syncthreads) of `threads` threads, whole warps.
__device__ __forceinline__ void named_barrier(int id, int threads) {
#if defined(RESKILL_SIMT)
  simt::named_barrier(id, threads);
#else
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

// After a wait: no use of these results moves in front of it, and they are in registers.
template <int N> __device__ __forceinline__ void wgmma_results(float (&d)[N]) {
#if defined(__CUDA_ARCH__)
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

// Operands of the instructions below.
#define WGMMA_0_31                                                                                    \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, " \
  "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define WGMMA_32_63                                                                                     \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, " \
  "%51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define WGMMA_8(d, i)                                                                                          \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define WGMMA_32(d, i) WGMMA_8(d, i), WGMMA_8(d, i + 8), WGMMA_8(d, i + 16), WGMMA_8(d, i + 24)

// D (64 x N, f32) = A (64 x 16) * B (16 x N) + D, or without D if `keep` is 0: both factors in shared memory with K along
// the row. D as wgmma_m64n256k16 has it, N / 2 numbers a thread.
__device__ __forceinline__ void wgmma_trans(float (&d)[32], u64 a, u64 b, int keep) {
#if defined(RESKILL_SIMT)
  simt::wgmma(d, 64, a, 0, b, 0, keep);
#else
  asm volatile(
      "{\n.reg .pred keep;\nsetp.ne.b32 keep, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" WGMMA_0_31 "}, %32, %33, keep, 1, 1, 0, 0;\n}"
      : WGMMA_32(d, 0)
      : "l"(a), "l"(b), "r"(keep));
#endif
}
__device__ __forceinline__ void wgmma_trans(float (&d)[64], u64 a, u64 b, int keep) {
#if defined(RESKILL_SIMT)
  simt::wgmma(d, 128, a, 0, b, 0, keep);
#else
  asm volatile(
      "{\n.reg .pred keep;\nsetp.ne.b32 keep, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WGMMA_0_31 ", " WGMMA_32_63
      "}, %64, %65, keep, 1, 1, 0, 0;\n}"
      : WGMMA_32(d, 0), WGMMA_32(d, 32)
      : "l"(a), "l"(b), "r"(keep));
#endif
}

// D (64 x N, f32) += A (64 x 16) * B (16 x N): A in registers, as the results of two neighbouring blocks of eight columns
// are once they are rounded (a[0], a[1]: columns 2 t and next of rows g and g + 8; a[2], a[3]: columns 2 t + 8 and next);
// B in shared memory with its N along the row. A stays as it is until the product has been waited for.
__device__ __forceinline__ void wgmma_registers(float (&d)[32], const u32 (&a)[4], u64 b) {
#if defined(RESKILL_SIMT)
  simt::wgmma_registers(d, 64, a, b, 1, 1);
#else
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" WGMMA_0_31 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n"
      : WGMMA_32(d, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#endif
}
__device__ __forceinline__ void wgmma_registers(float (&d)[64], const u32 (&a)[4], u64 b) {
#if defined(RESKILL_SIMT)
  simt::wgmma_registers(d, 128, a, b, 1, 1);
#else
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WGMMA_0_31 ", " WGMMA_32_63
      "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"
      : WGMMA_32(d, 0), WGMMA_32(d, 32)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
#endif
}
