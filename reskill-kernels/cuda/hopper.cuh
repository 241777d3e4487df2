// Hopper's asynchronous building blocks (sm_90a): barriers that count bytes, tensor memory copies, warpgroup products.
//
// Source: PTX ISA 8.x, "mbarrier", "cp.async.bulk.tensor", "Asynchronous warpgroup level matrix instructions" (with the
// layouts of its matrix descriptors). In the simulator all three are emulated from the same text.
#pragma once
#include "mma.cuh"

// How the hardware copies boxes of one matrix (CUtensorMap), made by the host.
struct __align__(128) TensorMap {
  u64 opaque[16];
};

#if defined(RESKILL_SIMT)
__device__ __forceinline__ u32 shared_address(const void* p) { return simt::shared_offset(p); }
#endif

// An mbarrier in shared memory: a phase ends when `count` threads have arrived and all announced bytes have come.
__device__ __forceinline__ void mbarrier_init(u64* barrier, u32 count) {
#if defined(RESKILL_SIMT)
  simt::mbarrier_init(barrier, count);
#else
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
#endif
}
// Makes initialised barriers known to the copy engine; a __syncthreads follows.
__device__ __forceinline__ void mbarrier_init_fence() {
#if !defined(RESKILL_SIMT)
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
__device__ __forceinline__ void mbarrier_arrive(u64* barrier) {
#if defined(RESKILL_SIMT)
  simt::mbarrier_arrive(barrier, 0);
#else
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}
// Arrives and announces bytes that copies will bring in this phase.
__device__ __forceinline__ void mbarrier_arrive_expect(u64* barrier, u32 bytes) {
#if defined(RESKILL_SIMT)
  simt::mbarrier_arrive(barrier, bytes);
#else
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
#endif
}
// Waits until the phase of this parity has ended. On a fresh barrier the phase of parity 1 counts as ended.
__device__ __forceinline__ void mbarrier_wait(u64* barrier, u32 parity) {
#if defined(RESKILL_SIMT)
  simt::mbarrier_wait(barrier, parity);
#else
  asm volatile(
      "{\n.reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@done bra over;\n"
      "bra again;\n"
      "over:\n}" ::"r"(shared_address(barrier)), "r"(parity) : "memory");
#endif
}

// Copies the map's box at (column, row) of its matrix to shared memory, swizzled as the map says (by 128 bytes: aligned to
// 1024 bytes; by 64: to 512), and brings its bytes to the barrier. What lies outside of the matrix, also in front of it,
// becomes zero and counts as brought.
__device__ __forceinline__ void tma_load(void* shared, const TensorMap* map, int column, int row, u64* barrier) {
#if defined(RESKILL_SIMT)
  simt::tma_load(shared, map, column, row, barrier);
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(column), "r"(row)
      : "memory");
#endif
}

// Copies a box from shared memory (1024-byte aligned, swizzled by 128 bytes) to the map's matrix at (column, row). What
// lies outside of the matrix is left out. The copy belongs to the group that this thread's next commit closes.
__device__ __forceinline__ void tma_store(const void* shared, const TensorMap* map, int column, int row) {
#if defined(RESKILL_SIMT)
  simt::tma_store(shared, map, column, row);
#else
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map),
               "r"(shared_address(shared)), "r"(column), "r"(row)
               : "memory");
#endif
}
__device__ __forceinline__ void bulk_commit() {
#if defined(RESKILL_SIMT)
  simt::bulk_commit();
#else
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}
// Waits until all but the newest N groups of this thread have read shared memory.
template <int N>
__device__ __forceinline__ void bulk_wait_read() {
#if defined(RESKILL_SIMT)
  simt::bulk_wait_read(N);
#else
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
#endif
}
// Makes this thread's writes to shared memory visible to the copy engine; a barrier with the thread that copies follows.
__device__ __forceinline__ void fence_async_shared() {
#if !defined(RESKILL_SIMT)
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// This block's number in its cluster of neighbouring blocks.
__device__ __forceinline__ u32 cluster_rank() {
#if defined(RESKILL_SIMT)
  return simt::cluster_rank();
#else
  u32 rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
#endif
}
// A barrier of all threads of the cluster, also for their shared memory.
__device__ __forceinline__ void cluster_barrier() {
#if defined(RESKILL_SIMT)
  simt::cluster_barrier();
#else
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
#endif
}
// What block `rank` of the cluster holds where this block has `p` (shared memory, 16-byte aligned).
__device__ __forceinline__ float4 load_of_block(const float4* p, u32 rank) {
#if defined(RESKILL_SIMT)
  return *static_cast<const float4*>(simt::shared_of(p, rank));
#else
  float4 v;
  asm volatile(
      "{\n.reg .u32 there;\nmapa.shared::cluster.u32 there, %4, %5;\n"
      "ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [there];\n}"
      : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
      : "r"(shared_address(p)), "r"(rank)
      : "memory");
  return v;
#endif
}

// Four 8x8 matrices of 16-bit elements to shared memory: the inverse of ldmatrix_x4.
__device__ __forceinline__ void stmatrix_x4(void* row, const u32 (&r)[4]) {
#if defined(RESKILL_SIMT)
  simt::stmatrix_x4(row, r);
#else
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(row)), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#endif
}

// Descriptor of a factor in shared memory, swizzled by 128 bytes: rows of 64 bf16, eight of which make an atom of 1024
// bytes.
//   bits 0-13   start address / 16
//   bits 16-29  leading offset / 16: factor stored with K across rows: from 64 columns to the next 64; else unused (1)
//   bits 32-45  stride offset / 16: from one atom to the next, along rows
//   bits 62-63  1: swizzle of 128 bytes; 2: of 64 bytes
__device__ __forceinline__ u64 wgmma_descriptor(const void* shared, u32 leading_bytes) {
  const u64 start = (shared_address(shared) & 0x3ffff) >> 4;
  return start | (u64)(leading_bytes >> 4 & 0x3fff) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}

// Descriptor of a factor in shared memory that is stored with K across rows, swizzled by 64 bytes: rows of 32 bf16, eight of
// which make an atom of 512 bytes. `leading_bytes`: from 32 columns to the next 32.
__device__ __forceinline__ u64 wgmma_descriptor_64(const void* shared, u32 leading_bytes) {
  const u64 start = (shared_address(shared) & 0x3ffff) >> 4;
  return start | (u64)(leading_bytes >> 4 & 0x3fff) << 16 | (u64)(512 >> 4) << 32 | (u64)2 << 62;
}

__device__ __forceinline__ void wgmma_fence() {
#if !defined(RESKILL_SIMT)
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ __forceinline__ void wgmma_commit() {
#if defined(RESKILL_SIMT)
  simt::wgmma_commit();
#else
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
// Waits for all but the newest N groups of products.
template <int N>
__device__ __forceinline__ void wgmma_wait() {
#if defined(RESKILL_SIMT)
  simt::wgmma_wait(N);
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
#endif
}

// Registers a thread of this warpgroup may have.
template <int N>
__device__ __forceinline__ void registers_decrease() {
#if !defined(RESKILL_SIMT)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
#endif
}
template <int N>
__device__ __forceinline__ void registers_increase() {
#if !defined(RESKILL_SIMT)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
#endif
}

// D (64 x N, f32) = A (64 x 16) * B (16 x N) + D, or without D if `keep` is 0: bf16 factors in shared memory, by the
// 128 threads of a warpgroup, asynchronously; N is 2 for each element of `d`. kTurned* says that a factor is stored with
// its own axis contiguous and K across rows.
// Thread t holds, with warp w = t / 32 % 4 and lane l: d[4 j + 2 h + i] = D[16 w + l / 4 + 8 h][8 j + 2 (l % 4) + i].
template <int kTurnedA, int kTurnedB>
__device__ __forceinline__ void wgmma_m64k16(float (&d)[32], u64 a, u64 b, int keep) {
#if defined(RESKILL_SIMT)
  simt::wgmma(d, 64, a, kTurnedA, b, kTurnedB, keep);
#else
  asm volatile(
      "{\n.reg .pred keep;\nsetp.ne.b32 keep, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31}, "
      "%32, %33, keep, 1, 1, %35, %36;\n}"
      :
        "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
      : "l"(a), "l"(b), "r"(keep), "n"(kTurnedA), "n"(kTurnedB));
#endif
}
template <int kTurnedA, int kTurnedB>
__device__ __forceinline__ void wgmma_m64k16(float (&d)[64], u64 a, u64 b, int keep) {
#if defined(RESKILL_SIMT)
  simt::wgmma(d, 128, a, kTurnedA, b, kTurnedB, keep);
#else
  asm volatile(
      "{\n.reg .pred keep;\nsetp.ne.b32 keep, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "
      "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
      "%64, %65, keep, 1, 1, %67, %68;\n}"
      :
        "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),
        "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),
        "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),
        "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
      : "l"(a), "l"(b), "r"(keep), "n"(kTurnedA), "n"(kTurnedB));
#endif
}
template <int kTurnedA, int kTurnedB>
__device__ __forceinline__ void wgmma_m64k16(float (&d)[128], u64 a, u64 b, int keep) {
#if defined(RESKILL_SIMT)
  simt::wgmma(d, 256, a, kTurnedA, b, kTurnedB, keep);
#else
  asm volatile(
      "{\n.reg .pred keep;\nsetp.ne.b32 keep, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, "
      "%24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, "
      "%46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, "
      "%68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, "
      "%90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, "
      "%110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
      "%128, %129, keep, 1, 1, %131, %132;\n}"
      :
        "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]),
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]),
        "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]),
        "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]),
        "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]),
        "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]), "+f"(d[64]),
        "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]), "+f"(d[72]),
        "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]), "+f"(d[80]),
        "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), "+f"(d[88]),
        "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), "+f"(d[96]),
        "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]), "+f"(d[104]),
        "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]),
        "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]),
        "+f"(d[119]), "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]),
        "+f"(d[126]), "+f"(d[127])
      : "l"(a), "l"(b), "r"(keep), "n"(kTurnedA), "n"(kTurnedB));
#endif
}
