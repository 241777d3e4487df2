// The tracing build: which bytes of device memory a launch reads and writes.
//
// Kernels are compiled with -fsanitize=thread, which puts a call before every access; the calls lead here instead of to
// ThreadSanitizer. Accesses that the simulator makes for a kernel (copies, matrix loads) are reported by it.
#if defined(SIMT_TRACE)
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <map>
#include <vector>

#include "block.h"
#include "counters.h"
#include "driver.h"
#include "memory.h"
#include "order.h"
#include "race.h"
#include "requests.h"

namespace simt {

namespace {

constexpr unsigned char kRead = 1, kWritten = 2;

// What the running launch did to one allocation, a byte for each of its bytes.
struct Touched {
  uintptr_t begin = 0, end = 0;
  std::vector<unsigned char> how;
};
thread_local std::map<uintptr_t, Touched> g_touched;
thread_local Touched* g_last = nullptr;
thread_local bool g_tracing = false;

Touched* find(uintptr_t address) {
  if (g_last && address >= g_last->begin && address < g_last->end) return g_last;
  driver::DevicePtr begin;
  size_t bytes;
  if (!driver::find_allocation(address, &begin, &bytes)) return nullptr;
  Touched& t = g_touched[begin];
  if (t.how.empty()) {
    t.begin = begin;
    t.end = begin + bytes;
    t.how.resize(bytes);
  }
  return g_last = &t;
}

void touch(const void* p, size_t bytes, unsigned char how) {
  if (!g_tracing) return;
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  Touched* t = find(address);
  if (!t) return;  // shared memory, local variables
  const size_t first = address - t->begin, last = std::min(first + bytes, t->how.size());
  for (size_t i = first; i < last; ++i) t->how[i] |= how;
}

}  // namespace

void trace_read(const void* p, size_t bytes) {
  touch(p, bytes, kRead);
  race_access(p, bytes, false);
}
void trace_write(void* p, size_t bytes) {
  touch(p, bytes, kWritten);
  race_access(p, bytes, true);
}

void trace_atomic(void* p, size_t bytes) { touch(p, bytes, kRead | kWritten); }

void trace_launch_begin() {
  g_touched.clear();
  g_last = nullptr;
  g_tracing = true;
}
void trace_launch_end() {
  g_tracing = false;
  for (const auto& [begin, t] : g_touched) {
    (void)begin;
    for (unsigned char how : t.how) {
      counters().read_bytes += (how & kRead) != 0;
      counters().written_bytes += (how & kWritten) != 0;
    }
  }
  g_touched.clear();
  g_last = nullptr;
}

}  // namespace simt

#define ENTRY(name) extern "C" void name
#define READ(p, bytes)                                                              \
  simt::trace_read(p, bytes), simt::request_access(__builtin_return_address(0), p, bytes, false)
#define WRITE(p, bytes)                                                             \
  simt::trace_write(p, bytes), simt::request_access(__builtin_return_address(0), p, bytes, true)
#define ACCESS(size)                                                      \
  ENTRY(__tsan_read##size)(void* p) { READ(p, size); }                    \
  ENTRY(__tsan_write##size)(void* p) { WRITE(p, size); }                  \
  ENTRY(__tsan_unaligned_read##size)(void* p) { READ(p, size); }          \
  ENTRY(__tsan_unaligned_write##size)(void* p) { WRITE(p, size); }        \
  ENTRY(__tsan_volatile_read##size)(void* p) { READ(p, size); }           \
  ENTRY(__tsan_volatile_write##size)(void* p) { WRITE(p, size); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
ENTRY(__tsan_read_range)(void* p, size_t bytes) { READ(p, bytes); }
ENTRY(__tsan_write_range)(void* p, size_t bytes) { WRITE(p, bytes); }
ENTRY(__tsan_init)() {}
ENTRY(__tsan_func_entry)(void*) {}
ENTRY(__tsan_func_exit)() {}
ENTRY(__tsan_vptr_update)(void**, void*) {}
// Guards of function-local statics.
extern "C" unsigned char __tsan_atomic8_load(const volatile unsigned char* p, int) { return *p; }
#endif
