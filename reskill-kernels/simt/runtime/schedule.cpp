// The scheduler: which fiber runs next, the block-wide barrier, and how a thread ends.
//
// A warp runs as far as it gets before another does, which is what makes a missing barrier show.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>

#include "block.h"

namespace simt {

__thread Thread* g_thread = nullptr;
__thread BlockView* g_block = nullptr;

void switch_to(Fiber& to) {
  Fiber& from = running_fiber();
  g_thread = &to;
  g_block = to.block;
  switch_context(from.context, to.context, from.done);
}

void fail(const char* format, ...) {
  char words[1024];
  va_list list;
  va_start(list, format);
  vsnprintf(words, sizeof words, format, list);
  va_end(list);
  if (!g_block) {
    fprintf(stderr, "reskill-simt: %s (outside a launch)\n", words);
    abort();
  }
  Block& b = running_block();
  const Fiber& f = running_fiber();
  char text[1400];
  snprintf(text, sizeof text, "%s: %s (block %u,%u,%u thread %u,%u,%u)", b.kernel->name, words, b.idx.x, b.idx.y,
           b.idx.z, f.tid.x, f.tid.y, f.tid.z);
  fprintf(stderr, "reskill-simt: %s\n", text);
  Block& first = first_of_cluster();
  first.failed = true;
  first.failure = text;
  switch_to(first.host);
  abort();  // a failed block is never continued
}

namespace {

bool runnable(const Fiber& f) { return !f.done && (!f.waits_for || *f.waits_for != f.seen); }

[[noreturn]] void deadlock() {
  std::string who;
  int shown = 0;
  for (const Block* b : running_block().cluster)
    for (const Fiber& f : b->fibers) {
      if (f.done || shown == 6) continue;
      char line[160];
      snprintf(line, sizeof line, "; thread %u,%u,%u waits at %s", f.tid.x, f.tid.y, f.tid.z, f.where);
      who += line;
      ++shown;
    }
  fail("deadlock%s", who.c_str());
}

// Goes on with another block of the cluster, or with the host when all have ended.
void yield_to_cluster() {
  const std::vector<Block*>& cluster = running_block().cluster;
  bool live = false;
  for (Block* b : cluster) {
    live |= b->live != 0;
    for (unsigned position : b->order)
      if (runnable(b->fibers[position])) return switch_to(b->fibers[position]);
  }
  if (live) deadlock();
  switch_to(cluster[0]->host);
}

// The next fiber: the rest of this warp first, then the other warps in their order (from a random one on, if the
// order is random), then other blocks of the cluster.
void yield() {
  Block& b = running_block();
  if (b.live == 0) return yield_to_cluster();
  Fiber& me = running_fiber();
  const unsigned here = b.rank[me.index], begin = here & ~31u, end = std::min(begin + 32, b.n);
  auto try_run = [&](unsigned position) {
    Fiber& f = b.fibers[b.order[position]];
    if (!runnable(f)) return false;
    if (&f != &me) switch_to(f);
    return true;
  };
  for (unsigned p = here + 1; p < end; ++p)
    if (try_run(p)) return;
  for (unsigned p = begin; p <= here; ++p)
    if (try_run(p)) return;
  unsigned p = end == b.n ? 0 : end;
  if (b.random) p = static_cast<unsigned>(b.rng() % b.warps.size()) * 32;
  for (unsigned k = 0; k < b.n; ++k, p = p + 1 == b.n ? 0 : p + 1)
    if (try_run(p)) return;
  yield_to_cluster();
}

}  // namespace

void let_others_run() {
  Block& b = running_block();
  if (!b.random || b.rng() % 2 == 0) return;
  const unsigned begin = b.rank[running_fiber().index] & ~31u;
  unsigned p = static_cast<unsigned>(b.rng() % b.warps.size()) * 32;
  for (unsigned k = 0; k < b.n; ++k, p = p + 1 == b.n ? 0 : p + 1) {
    if ((p & ~31u) == begin || !runnable(b.fibers[b.order[p]])) continue;
    return switch_to(b.fibers[b.order[p]]);
  }
}

void wait_while(const uint64_t* generation, uint64_t seen, const char* where) {
  Fiber& f = running_fiber();
  f.waits_for = generation;
  f.seen = seen;
  f.where = where;
  do yield();
  while (*generation == seen);
  f.waits_for = nullptr;
}

unsigned block_barrier(const char* file, int line, bool flag) {
  Block& b = running_block();
  if (b.live != b.n) fail("__syncthreads at %s:%d after some threads of the block have ended", file, line);
  if (b.arrived == 0) {
    b.site_file = file;
    b.site_line = line;
    b.flags = 0;
  } else if (b.site_line != line || strcmp(b.site_file, file) != 0) {
    fail("threads meet at different __syncthreads: %s:%d and %s:%d", b.site_file, b.site_line, file, line);
  }
  b.flags += flag;
  const uint64_t seen = b.generation;
  if (++b.arrived == b.live) {
    b.arrived = 0;
    b.flags_of_last = b.flags;
    ++b.generation;
    // The last to arrive would always run on first; in a random order somebody else may.
    if (b.random && (b.rng() & 1)) yield();
  } else {
    wait_while(&b.generation, seen, "__syncthreads");
  }
  return b.flags_of_last;
}

void thread_exit() {
  Block& b = running_block();
  Fiber& f = running_fiber();
  if (!f.copies.empty()) fail("a thread ended without waiting for its asynchronous copies");
  if (!f.stores.empty()) fail("a thread ended before its bulk copies had read shared memory");
  f.done = true;
  --b.live;
  f.warp->live &= ~(1u << f.lane);
  for (const Rendezvous* m : f.warp->meetings)
    if (m->arrived && (m->mask >> f.lane & 1)) fail("a lane ended that other lanes of its mask wait for");
  leave_cluster_barrier();
  if (b.arrived) fail("a thread ended that others wait for at __syncthreads (%s:%d)", b.site_file, b.site_line);
  yield();
  abort();  // a thread that has ended is never continued
}

}  // namespace simt
