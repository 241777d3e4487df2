// Shared memory and asynchronous copies.
#include "memory.h"

#include <stdlib.h>

#include <atomic>

#include "block.h"
#include "counters.h"
#include "race.h"
#include "requests.h"

namespace simt {

int new_shared_slot() {
  static std::atomic<int> next{0};
  return next++;
}

void* shared_memory(int slot, size_t bytes, size_t align) {
  Block& b = running_block();
  for (const SharedVariable& v : b.shared)
    if (v.slot == slot) return v.address;
  align = align < 16 ? 16 : align;
  b.shared_bytes += (bytes + align - 1) / align * align;
  if (b.shared_bytes > (48u << 10))
    fail("%zu bytes of static shared memory, at most 49152 are possible", b.shared_bytes);
  if (b.shared_bytes + b.dynamic_bytes > b.shared_limit)
    fail("%zu static and %zu dynamic bytes of shared memory, the device has %zu", b.shared_bytes, b.dynamic_bytes,
         b.shared_limit);
  void* p = nullptr;
  if (posix_memalign(&p, align, bytes) != 0) fail("no host memory for %zu bytes of shared memory", bytes);
  memset(p, 0xff, bytes);
  b.shared.push_back({slot, static_cast<unsigned char*>(p)});
  race_variable(p, bytes);
  return p;
}

void release_shared(Block& b) {
  for (const SharedVariable& v : b.shared) free(v.address);
  b.shared.clear();
  b.shared_bytes = 0;
}

void require_aligned(const void* address, size_t bytes, const char* what) {
  if (reinterpret_cast<uintptr_t>(address) % bytes)
    fail("%s: address %p is not aligned to %zu bytes", what, address, bytes);
}

void copy_async(void* shared, const void* global, size_t bytes, size_t valid) {
  require_aligned(shared, bytes, "cp.async destination");
  require_aligned(global, bytes, "cp.async source");
  if (valid > bytes) fail("cp.async: %zu valid bytes of %zu", valid, bytes);
  memset(shared, 0xff, bytes);
  trace_write(shared, bytes);
#if defined(SIMT_TRACE)
  request_access(__builtin_return_address(0), global, valid, false);
  request_access(static_cast<const char*>(__builtin_return_address(0)) + 1, shared, bytes, true);
#endif
  Fiber& f = running_fiber();
  f.copies.push_back({shared, global, bytes, valid, f.copy_group});
}

void copy_async_commit() { ++running_fiber().copy_group; }

void copy_async_wait(int groups_left) {
  Fiber& f = running_fiber();
  size_t kept = 0;
  for (const AsyncCopy& c : f.copies) {
    if (c.group >= f.copy_group - groups_left) {
      f.copies[kept++] = c;
      continue;
    }
    trace_read(c.global, c.valid);
    memcpy(c.shared, c.global, c.valid);
    memset(static_cast<unsigned char*>(c.shared) + c.valid, 0, c.bytes - c.valid);
    trace_write(c.shared, c.bytes);
  }
  f.copies.resize(kept);
}

void read_rows(unsigned* words, const void* const* rows, int n) {
  for (int i = 0; i < n; ++i) {
    trace_read(rows[i], 16);
    memcpy(words + 4 * i, rows[i], 16);
  }
#if defined(SIMT_TRACE)
  request_rows(__builtin_return_address(0), rows, n, false);
#endif
}

void write_rows(void* const* rows, const unsigned* words, int n) {
  for (int i = 0; i < n; ++i) {
    trace_write(rows[i], 16);
    memcpy(rows[i], words + 4 * i, 16);
  }
#if defined(SIMT_TRACE)
  request_rows(__builtin_return_address(0), rows, n, true);
#endif
}

void count_mma(unsigned long long multiply_adds) { counters().multiply_adds += multiply_adds; }

}  // namespace simt
