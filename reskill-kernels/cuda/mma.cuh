// Tensor-core building blocks for sm_80 and later: mma.sync, ldmatrix, cp.async.
//
// Source: PTX ISA 8.x, "Warp-level matrix instructions" and "cp.async". On the device inline PTX, in the simulator
// whole-warp emulation.
#pragma once
#include "prelude.cuh"

#if !defined(RESKILL_SIMT)
__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
#endif

// D (16x8, f32) += A (16x16, row-major, bf16) * B (16x8, column-major, bf16), by all 32 lanes. With g = lane / 4 and
// t = 2 * (lane % 4):
//   a[0..4]  rows g, g+8, g, g+8; columns t, t+1 (a[0], a[1]) and t+8, t+9 (a[2], a[3])
//   b[0..2]  rows t, t+1 and t+8, t+9; column g
//   d[0..4]  row g, columns t, t+1; row g+8, columns t, t+1
__device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#if defined(RESKILL_SIMT)
  simt::mma_m16n8k16_bf16(d, a, b);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Four 8x8 matrices of 16-bit elements from shared memory. Lane i gives the 16-byte aligned address of row i % 8 of
// matrix i / 8; lane l receives in r[j] of matrix j row l / 4, columns 2 * (l % 4) and the next.
__device__ __forceinline__ void ldmatrix_x4(u32 (&r)[4], const void* row) {
#if defined(RESKILL_SIMT)
  simt::ldmatrix<4, false>(r, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
#endif
}

// As ldmatrix_x4, transposed: column l / 4, rows 2 * (l % 4) and the next.
__device__ __forceinline__ void ldmatrix_x4_trans(u32 (&r)[4], const void* row) {
#if defined(RESKILL_SIMT)
  simt::ldmatrix<4, true>(r, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(shared_address(row)) : "memory");
#endif
}

// Two matrices; lanes 0 to 15 give the addresses.
__device__ __forceinline__ void ldmatrix_x2(u32 (&r)[2], const void* row) {
#if defined(RESKILL_SIMT)
  simt::ldmatrix<2, false>(r, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
#endif
}
__device__ __forceinline__ void ldmatrix_x2_trans(u32 (&r)[2], const void* row) {
#if defined(RESKILL_SIMT)
  simt::ldmatrix<2, true>(r, row);
#else
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1]) : "r"(shared_address(row)) : "memory");
#endif
}

// Asynchronous copies from global to shared memory, both addresses aligned to the size. A copy belongs to the group
// that the next commit closes; after cp_async_wait<N> all but the newest N groups of this thread are there, for other
// threads after a barrier as well.
__device__ __forceinline__ void cp_async16(void* shared, const void* global) {
#if defined(RESKILL_SIMT)
  simt::copy_async(shared, global, 16, 16);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared_address(shared)), "l"(global) : "memory");
#endif
}
// 16 bytes of which `valid` (0 to 16) come from memory and the rest are zeros. With 0 the address is not read.
__device__ __forceinline__ void cp_async16_zfill(void* shared, const void* global, u32 valid) {
#if defined(RESKILL_SIMT)
  simt::copy_async(shared, global, 16, valid);
#else
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)), "l"(global), "r"(valid)
               : "memory");
#endif
}
// 4 bytes of which `valid` (0 to 4) come from memory.
__device__ __forceinline__ void cp_async4_zfill(void* shared, const void* global, u32 valid) {
#if defined(RESKILL_SIMT)
  simt::copy_async(shared, global, 4, valid);
#else
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(shared)), "l"(global), "r"(valid)
               : "memory");
#endif
}
__device__ __forceinline__ void cp_async_commit() {
#if defined(RESKILL_SIMT)
  simt::copy_async_commit();
#else
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}
template <int N>
__device__ __forceinline__ void cp_async_wait() {
#if defined(RESKILL_SIMT)
  simt::copy_async_wait(N);
#else
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
#endif
}
