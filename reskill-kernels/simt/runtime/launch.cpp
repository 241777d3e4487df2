// Runs a grid: blocks one after another on this OS thread, each with its fibers.
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "block.h"
#include "counters.h"
#include "fault.h"
#include "order.h"
#include "race.h"
#include "requests.h"

namespace simt {

namespace {

std::map<std::string, Kernel>& registry() {
  static std::map<std::string, Kernel> kernels;
  return kernels;
}

Stacks& stacks() {
  static thread_local Stacks s;
  return s;
}

void fiber_main() {
  Block& b = running_block();
  entered_context(&b.host.context);
  b.kernel->call(b.kernel->function, b.args);
  thread_exit();
}

void choose_thread_order(Block& b, const Order& order) {
  std::iota(b.order.begin(), b.order.end(), 0u);
  if (order.kind == OrderKind::kReverse) std::reverse(b.order.begin(), b.order.end());
  if (b.random) {
    // Lanes stay with their warp: positions 32w..32w+31 hold one warp, whichever it is.
    const unsigned full = b.n / 32;
    std::vector<unsigned> warps(full);
    std::iota(warps.begin(), warps.end(), 0u);
    std::shuffle(warps.begin(), warps.end(), b.rng);
    for (unsigned w = 0; w < full; ++w) {
      auto lanes = b.order.begin() + w * 32;
      std::iota(lanes, lanes + 32, warps[w] * 32);
      std::shuffle(lanes, lanes + 32, b.rng);
    }
    std::shuffle(b.order.begin() + full * 32, b.order.end(), b.rng);
  }
  for (unsigned p = 0; p < b.n; ++p) b.rank[b.order[p]] = p;
}

void run_block(Block& b, dim3 idx, const Order& order) {
  b.idx = idx;
  b.live = b.n;
  b.arrived = 0;
  race_block_begin();
  requests_block_begin();
  if (b.dynamic) {
    memset(b.dynamic, 0xff, b.dynamic_bytes);
    race_variable(b.dynamic, b.dynamic_bytes);
  }
  choose_thread_order(b, order);
  for (unsigned w = 0; w < b.warps.size(); ++w) {
    const unsigned lanes = std::min(32u, b.n - w * 32);
    b.warps[w].born = b.warps[w].live = lanes == 32 ? 0xffffffffu : (1u << lanes) - 1;
    for (Rendezvous* m : b.warps[w].meetings) m->arrived = 0;
  }
  for (unsigned i = 0; i < b.n; ++i) {
    Fiber& f = b.fibers[i];
    f.done = false;
    f.waits_for = nullptr;
    f.index = i;
    f.lane = i & 31;
    f.copy_group = 0;
    f.copies.clear();
    f.bulk_group = 0;
    f.stores.clear();
    f.tid = dim3(i % b.block.x, i / b.block.x % b.block.y, i / (b.block.x * b.block.y));
    f.warp = &b.warps[i / 32];
    stacks().prepare(f.context, i, &fiber_main);
  }
  reset_hopper();
  g_block = &b;
  g_thread = &b.host;
  switch_to(b.fibers[b.order[0]]);
  requests_block_end();
  g_block = nullptr;
  g_thread = nullptr;
  release_shared(b);
}

}  // namespace

Block::~Block() {
  for (Warp& w : warps)
    for (Rendezvous* m : w.meetings) delete m;
  release_shared(*this);
  free(dynamic);
}

bool register_kernel(const Kernel& kernel) {
  if (!registry().emplace(kernel.name, kernel).second) {
    fprintf(stderr, "reskill-simt: two kernels are called %s\n", kernel.name);
    abort();
  }
  return true;
}

const Kernel* find_kernel(const char* name) {
  auto it = registry().find(name);
  return it == registry().end() ? nullptr : &it->second;
}

LaunchResult launch(const Kernel& kernel, dim3 grid, dim3 block, size_t dynamic_bytes, size_t shared_limit,
                    void** args) {
  catch_faults(stacks().emergency_top());
  Block b;
  b.kernel = &kernel;
  b.args = args;
  b.grid = grid;
  b.block = block;
  b.n = block.x * block.y * block.z;
  b.fibers.resize(b.n);
  b.warps.resize((b.n + 31) / 32);
  b.order.resize(b.n);
  b.rank.resize(b.n);
  b.shared_limit = shared_limit;
  b.dynamic_bytes = dynamic_bytes;
  if (dynamic_bytes) {
    // 1024 bytes is the strictest alignment that hardware asks of a tile in shared memory.
    void* p = nullptr;
    if (posix_memalign(&p, 1024, dynamic_bytes) != 0) return {false, "no host memory for dynamic shared memory"};
    b.dynamic = static_cast<unsigned char*>(p);
  }
  const Order order = current_order();
  b.random = order.kind == OrderKind::kRandom;
  b.rng.seed(order.seed);
  const uint64_t total = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
  const BlockSequence sequence(order, total);
  ++counters().launches;
  trace_launch_begin();
  for (uint64_t k = 0; k < total && !b.failed; ++k) {
    const uint64_t i = sequence.at(k);
    const dim3 idx(static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                   static_cast<unsigned>(i / (static_cast<uint64_t>(grid.x) * grid.y)));
    run_block(b, idx, order);
  }
  trace_launch_end();
  return {!b.failed, b.failure};
}

}  // namespace simt
