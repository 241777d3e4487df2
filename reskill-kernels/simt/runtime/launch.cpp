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
  entered_context(&first_of_cluster().host.context);
  b.kernel->call(b.kernel->function, b.args);
  thread_exit();
}

void choose_thread_order(Block& b) {
  const Order& order = b.thread_order;
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

// A block's threads, ready to start; `first_slot` numbers them in the cluster.
void prepare_block(Block& b, dim3 idx, unsigned first_slot) {
  b.idx = idx;
  b.live = b.n;
  b.arrived = 0;
  if (b.dynamic) {
    memset(b.dynamic, 0xff, b.dynamic_bytes);
    race_variable(b.dynamic, b.dynamic_bytes);
  }
  choose_thread_order(b);
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
    f.slot = first_slot + i;
    f.block = &b;
    f.lane = i & 31;
    f.copy_group = 0;
    f.copies.clear();
    f.bulk_group = 0;
    f.stores.clear();
    f.tid = dim3(i % b.block.x, i / b.block.x % b.block.y, i / (b.block.x * b.block.y));
    f.warp = &b.warps[i / 32];
    stacks().prepare(f.context, f.slot, &fiber_main);
  }
}

// Runs the blocks of one cluster, the first of which is number `first` of the grid.
void run_cluster(const std::vector<Block*>& cluster, uint64_t first) {
  race_block_begin();
  requests_block_begin();
  reset_hopper();
  const dim3 grid = cluster[0]->grid;
  for (unsigned rank = 0; rank < cluster.size(); ++rank) {
    const uint64_t i = first + rank;
    const dim3 idx(static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                   static_cast<unsigned>(i / (static_cast<uint64_t>(grid.x) * grid.y)));
    prepare_block(*cluster[rank], idx, rank * cluster[0]->n);
  }
  Block& b = *cluster[0];
  if (cluster.size() > 1) race_leave_block();
  b.cluster_arrived = 0;
  g_block = &b;
  g_thread = &b.host;
  switch_to(b.fibers[b.order[0]]);
  g_block = &b;
  requests_block_end();
  g_block = nullptr;
  g_thread = nullptr;
  for (Block* block : cluster) release_shared(*block);
}

void set_up(Block& b, const Kernel& kernel, dim3 grid, dim3 block, size_t dynamic_bytes, size_t shared_limit,
            void** args) {
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
  b.host.block = &b;
  // 1024 bytes is the strictest alignment that hardware asks of a tile in shared memory.
  void* p = nullptr;
  if (dynamic_bytes && posix_memalign(&p, 1024, dynamic_bytes) == 0) b.dynamic = static_cast<unsigned char*>(p);
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
  std::vector<Block> blocks(kernel.cluster);
  std::vector<Block*> cluster;
  const Order order = current_order();
  for (Block& b : blocks) {
    set_up(b, kernel, grid, block, dynamic_bytes, shared_limit, args);
    if (dynamic_bytes && !b.dynamic) return {false, "no host memory for dynamic shared memory"};
    b.thread_order = order;
    b.random = order.kind == OrderKind::kRandom;
    b.rng.seed(order.seed + cluster.size());
    cluster.push_back(&b);
  }
  for (Block& b : blocks) b.cluster = cluster;
  if (blocks[0].n * kernel.cluster > Stacks::kThreads) return {false, "a cluster has more threads than are simulated"};
  const uint64_t total = static_cast<uint64_t>(grid.x) * grid.y * grid.z / kernel.cluster;
  const BlockSequence sequence(order, total);
  ++counters().launches;
  trace_launch_begin();
  for (uint64_t k = 0; k < total && !blocks[0].failed; ++k) run_cluster(cluster, sequence.at(k) * kernel.cluster);
  trace_launch_end();
  return {!blocks[0].failed, blocks[0].failure};
}

}  // namespace simt
