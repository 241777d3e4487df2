// Hopper's asynchronous instructions: mbarriers, tensor memory copies, warpgroup products.
//
// Written from the PTX ISA's description of layouts, as the kernels are: it shows whether a kernel's pipeline, indices
// and descriptors agree with that description, not whether the description was read rightly.
#pragma once
#include "intrinsics.h"
#include "memory.h"

namespace simt {

// Offset in the block's dynamic shared memory, which is aligned to 1024 bytes.
unsigned shared_offset(const void* p);

// Word of an mbarrier: bits 0-15 threads still to arrive, 16-31 threads a phase, 32-62 bytes still to come (biased by
// 2^30), 63 parity of the running phase.
void mbarrier_init(unsigned long long* barrier, unsigned count);
void mbarrier_arrive(unsigned long long* barrier, unsigned expected_bytes);
void mbarrier_wait(unsigned long long* barrier, unsigned parity);

// The copy arrives when somebody waits for its barrier; until then the destination is poisoned.
void tma_load(void* shared, const void* map, int column, int row, unsigned long long* barrier);

// The box is read from shared memory when the thread waits for the group, as late as hardware may, and a thread must not
// end before. What lies outside of the matrix is left out.
void tma_store(const void* shared, const void* map, int column, int row);
void bulk_commit();
void bulk_wait_read(int groups_left);

// D (64 x n) = A * B (+ D), computed when the group is waited for. `d` holds n / 2 values of this thread.
void wgmma(float* d, int n, unsigned long long a, int turned_a, unsigned long long b, int turned_b, int keep);
// The same with 64 x 16 of A in registers: a[i] holds row lane/4 + 8*(i&1), columns 2*(lane%4) + 8*(i>>1) and the next of
// the warp's 16 rows. The registers are looked at again when the group is waited for: until then they must not change.
void wgmma_registers(float* d, int n, const unsigned (&a)[4], unsigned long long b, int turned_b, int keep);
void wgmma_commit();
void wgmma_wait(int groups_left);

// bar.sync of barrier 1 to 15 with as many threads.
void named_barrier(int id, int threads);

// Clusters: neighbouring blocks that run together. The barrier is of all their threads that have not ended.
unsigned cluster_rank();
void cluster_barrier();
// What block `rank` of the cluster has at the place in dynamic shared memory where this block has `p`.
const void* shared_of(const void* p, unsigned rank);

}  // namespace simt
