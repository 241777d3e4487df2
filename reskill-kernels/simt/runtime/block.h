// The scheduler's side of a launch: fibers, warps, the block that is running.
#pragma once
#include <random>
#include <string>
#include <vector>

#include "fiber.h"
#include "registry.h"
#include "tensor_map.h"
#include "thread.h"
#include "warp.h"

namespace simt {

struct AsyncCopy {
  void* shared;
  const void* global;
  size_t bytes, valid;
  int group;
};

// A box on its way from shared memory to a matrix.
struct BulkStore {
  const unsigned char* shared;
  TensorMapContents map;
  int column, row, group;
};

struct Warp;

struct Fiber : Thread {
  Context context;
  const uint64_t* waits_for = nullptr;  // blocked while *waits_for == seen
  uint64_t seen = 0;
  const char* where = "";
  bool done = false;
  unsigned index = 0;  // in its block
  unsigned slot = 0;   // in its cluster
  struct Block* block = nullptr;
  Warp* warp = nullptr;
  int copy_group = 0;  // groups committed so far
  std::vector<AsyncCopy> copies;
  int bulk_group = 0;  // likewise of bulk stores
  std::vector<BulkStore> stores;
};

// A meeting of the lanes of one mask; each warp keeps one for every mask it has used.
struct Rendezvous {
  unsigned mask = 0, arrived = 0;
  uint64_t generation = 0;
  unsigned took_part[2] = {0, 0};  // fixed when the meeting ends: a lane may end right after
  Warp* warp = nullptr;
  alignas(16) unsigned char slots[2][32 * kSlotBytes];
};

struct Warp {
  std::vector<Rendezvous*> meetings;
  unsigned born = 0, live = 0;
  unsigned barriers = 0;  // __syncwarp of some lanes, so far
  uint64_t all_met = 0;   // meetings of all its lanes, so far
};

struct SharedVariable {
  int slot;
  unsigned char* address;
};

// Threads and blocks run first to last, last to first, or shuffled.
enum class OrderKind { kForward, kReverse, kRandom };
struct Order {
  OrderKind kind = OrderKind::kForward;
  uint64_t seed = 1;
};
// The order of this OS thread: set by reskill_simt_set_order, else read from RESKILL_SIMT_ORDER.
Order current_order();

struct Block : BlockView {
  unsigned n = 0, live = 0, arrived = 0, flags = 0, flags_of_last = 0;
  uint64_t generation = 0;
  const char* site_file = nullptr;  // the __syncthreads that threads now wait at
  int site_line = 0;
  size_t dynamic_bytes = 0, shared_bytes = 0, shared_limit = 0;
  std::vector<SharedVariable> shared;
  std::vector<Fiber> fibers;
  std::vector<Warp> warps;
  std::vector<unsigned> order, rank;  // the scheduling order and its inverse
  Order thread_order;
  bool random = false;
  std::mt19937_64 rng;
  const Kernel* kernel = nullptr;
  void** args = nullptr;
  std::vector<Block*> cluster;  // all blocks of the cluster, this one among them
  // Of a cluster's first block, for all:
  Fiber host;  // the caller of the launch
  bool failed = false;
  std::string failure;
  unsigned cluster_arrived = 0;
  uint64_t cluster_generation = 0;

  ~Block();
};

inline Block& running_block() { return *static_cast<Block*>(g_block); }
inline Block& first_of_cluster() { return *running_block().cluster[0]; }
inline bool is_host() { return !g_block || g_thread == &first_of_cluster().host; }
inline Fiber& running_fiber() { return *static_cast<Fiber*>(g_thread); }

void switch_to(Fiber& to);
// A thread of the cluster has ended: those that wait for all others may be complete.
void leave_cluster_barrier();
// Runs other fibers until *generation differs from `seen`.
void wait_while(const uint64_t* generation, uint64_t seen, const char* where);
// In a random order, now and then: other warps go on before the rest of this one, since what a thread has announced may be acted
// upon before its neighbours have done their part.
void let_others_run();
[[noreturn]] void thread_exit();
// Drops the block's shared variables (memory.cpp).
void release_shared(Block& block);
// Forgets copies and products under way (hopper.cpp).
void reset_hopper();

struct LaunchResult {
  bool ok;
  std::string failure;
};
// Runs the whole grid on this OS thread.
LaunchResult launch(const Kernel& kernel, dim3 grid, dim3 block, size_t dynamic_bytes, size_t shared_limit,
                    void** args);
const Kernel* find_kernel(const char* name);

}  // namespace simt
