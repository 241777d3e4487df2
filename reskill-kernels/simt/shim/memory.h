// Shared memory, asynchronous copies and checked matrix loads.
#pragma once
#include "warp.h"

namespace simt {

// A number for each SHARED declaration of the program.
int new_shared_slot();
// The block's copy of that variable: fresh memory of NaN patterns on the first use in a block.
void* shared_memory(int slot, size_t bytes, size_t align);

void require_aligned(const void* address, size_t bytes, const char* what);
// Copies that become visible at the wait; until then the destination is poisoned. `valid` bytes come from `source`,
// the rest are zeros.
void copy_async(void* shared, const void* global, size_t bytes, size_t valid);
void copy_async_commit();
// The `n` rows of 16 bytes that a matrix load reads, into words.
void read_rows(unsigned* words, const void* const* rows, int n);
// The `n` rows of 16 bytes that a matrix store writes.
void write_rows(void* const* rows, const unsigned* words, int n);
void copy_async_wait(int groups_left);

// Statistics of the launches since they were last read (reskill_simt::counters in Rust).
void count_mma(unsigned long long multiply_adds);
// Accesses that the library makes on behalf of a kernel; only the tracing build looks at them.
#if defined(SIMT_TRACE)
void trace_read(const void* address, size_t bytes);
void trace_write(void* address, size_t bytes);
void trace_atomic(void* address, size_t bytes);
#else
inline void trace_read(const void*, size_t) {}
inline void trace_write(void*, size_t) {}
#endif

template <class T>
struct Deref;
template <class T>
struct Deref<T*> { typedef T type; };

}  // namespace simt

// `SHARED(float, tile, [16][17])` is `__shared__ float tile[16][17]`.
#define SHARED(T, name, dims)                                                                    \
  using name##_type_ = typename simt::Deref<T(*) dims>::type;                                    \
  static const int name##_slot_ = simt::new_shared_slot();                                       \
  auto& name = *static_cast<name##_type_*>(                                                      \
      simt::shared_memory(name##_slot_, sizeof(name##_type_), alignof(name##_type_)))
#define DYN_SHARED(T, name) T* name = reinterpret_cast<T*>(simt::g_block->dynamic)
