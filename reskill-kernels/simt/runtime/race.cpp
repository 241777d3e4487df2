// The tracing build: races on shared memory within a block, or a cluster of them.
//
// Two accesses to a byte by different threads, one of them a write, must have a __syncthreads between them, within a warp
// a __syncwarp, between blocks of a cluster a barrier of the cluster. The order in which fibers happen to run does not
// matter: a missing barrier is found in any. Shuffles and votes are no barriers for memory (CUDA C++ Programming Guide,
// "Warp Shuffle Functions"). Memory that tensor copies bring and warpgroup products use is left to mbarriers and not looked
// at; so are atomics, and a block from its first named barrier or mbarrier that whole warps arrive at: what these hand from
// thread to thread is not followed.
#if defined(SIMT_TRACE)
#include "race.h"

#include <vector>

#include "block.h"

namespace simt {

namespace {

struct Access {
  unsigned thread = 0;  // index + 1; 0 for none
  unsigned cluster_barriers = 0, block_barriers = 0, warp_barriers = 0;
};
struct Cell {
  Access write, read, other_read;  // the newest write, and the newest reads by two threads
};
struct Variable {
  uintptr_t begin, end;
  std::vector<Cell> cells;
};
thread_local std::vector<Variable> g_variables;
thread_local bool g_left = false;

Variable* find(uintptr_t address) {
  for (Variable& v : g_variables)
    if (address >= v.begin && address < v.end) return &v;
  return nullptr;
}

bool concurrent(const Access& before, const Access& now) {
  if (!before.thread || before.thread == now.thread || before.cluster_barriers != now.cluster_barriers) return false;
  const unsigned n = running_block().n;
  if ((before.thread - 1) / n != (now.thread - 1) / n) return true;
  if (before.block_barriers != now.block_barriers) return false;
  const bool one_warp = (before.thread - 1) / 32 == (now.thread - 1) / 32;
  return !one_warp || before.warp_barriers == now.warp_barriers;
}

[[noreturn]] void report(const char* what, const Access& before, const Variable& v, uintptr_t address) {
  fail("race on shared memory: byte %zu of a variable of %zu bytes is %s thread %u without a barrier between",
       address - v.begin, v.end - v.begin, what, before.thread - 1);
}

}  // namespace

void race_block_begin() {
  g_variables.clear();
  g_left = false;
}
void race_leave_block() { g_left = true; }

void race_variable(const void* begin, size_t bytes) {
  const uintptr_t at = reinterpret_cast<uintptr_t>(begin);
  g_variables.push_back({at, at + bytes, std::vector<Cell>(bytes)});
}

void race_access(const void* p, size_t bytes, bool write) {
  if (g_left || g_variables.empty() || is_host()) return;
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  Variable* v = find(address);
  if (!v) return;
  const Fiber& f = running_fiber();
  const Access now = {f.slot + 1, static_cast<unsigned>(first_of_cluster().cluster_generation),
                      static_cast<unsigned>(running_block().generation), f.warp->barriers};
  for (uintptr_t a = address; a < address + bytes && a < v->end; ++a) {
    Cell& c = v->cells[a - v->begin];
    if (concurrent(c.write, now)) report(write ? "written, as was done by" : "read, but written by", c.write, *v, a);
    if (write) {
      if (concurrent(c.read, now)) report("written, but read by", c.read, *v, a);
      if (concurrent(c.other_read, now)) report("written, but read by", c.other_read, *v, a);
      c.write = now;
    } else {
      if (c.read.thread != now.thread) c.other_read = c.read;
      c.read = now;
    }
  }
}

bool race_offset(const void* p, size_t* offset) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  const Variable* v = find(address);
  if (v) *offset = address - v->begin;
  return v;
}

}  // namespace simt
#endif
