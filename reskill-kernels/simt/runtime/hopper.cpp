// Emulation of mbarriers, tensor memory copies, warpgroup products and named barriers.
#include "hopper.h"

#include <map>

#include "block.h"
#include "matrix.h"
#include "race.h"
#include "tensor_map.h"

namespace simt {

namespace {

constexpr uint64_t kBias = 1ull << 30;

struct Barrier {
  uint64_t pending, count, bytes, parity;
  explicit Barrier(uint64_t word)
      : pending(word & 0xffff), count(word >> 16 & 0xffff), bytes(word >> 32 & 0x7fffffff), parity(word >> 63) {}
  uint64_t word() const { return pending | count << 16 | bytes << 32 | parity << 63; }
  void end_phase_if_complete() {
    if (pending || bytes != kBias) return;
    pending = count;
    parity ^= 1;
  }
};

struct PendingCopy {
  unsigned char* shared;
  TensorMapContents map;
  int column, row;
  unsigned long long* barrier;
};
thread_local std::vector<PendingCopy> g_copies;

// The left factor of a product in registers: of this thread's two rows the 16 numbers, and where its own four registers
// are and what they held.
struct LeftRegisters {
  const unsigned* at = nullptr;
  unsigned held[4];
  float rows[2][16];
};

struct Product {
  float* d;
  int n;
  unsigned long long a, b;
  int turned_a, turned_b, keep, group;
  LeftRegisters left;
};

struct NamedBarrier {
  unsigned threads = 0, arrived = 0;
  uint64_t generation = 0;
  std::vector<Warp*> warps;  // that have arrived
};
thread_local std::map<unsigned, NamedBarrier> g_named;  // by 16 times the block of the cluster plus number

// Swizzle of 128 bytes: bits 4-6 of an address are exclusive-ored with bits 7-9; of 64 bytes: bits 4-5 with bits 7-8.
unsigned swizzled(unsigned offset, unsigned row_bytes) {
  return offset ^ (offset >> 7 & (row_bytes == 64 ? 3 : 7)) << 4;
}

void deliver(const PendingCopy& c) {
  const TensorMapContents& m = c.map;
  const unsigned row_bytes = m.box_columns * 2;
  for (uint32_t r = 0; r < m.box_rows; ++r)
    for (uint32_t q = 0; q < m.box_columns; ++q) {
      const int64_t row = static_cast<int64_t>(c.row) + r, column = static_cast<int64_t>(c.column) + q;
      const bool inside =
          row >= 0 && column >= 0 && row < static_cast<int64_t>(m.rows) && column < static_cast<int64_t>(m.columns);
      const unsigned char* from = m.address + row * static_cast<int64_t>(m.row_bytes) + column * 2;
      if (inside) trace_read(from, 2);
      unsigned short v = 0;
      if (inside) memcpy(&v, from, 2);
      memcpy(c.shared + swizzled(r * row_bytes + q * 2, row_bytes), &v, 2);
    }
  Barrier b(*c.barrier);
  b.bytes -= m.box_rows * m.box_columns * 2;
  b.end_phase_if_complete();
  *c.barrier = b.word();
}

void deliver(const BulkStore& c) {
  const TensorMapContents& m = c.map;
  const unsigned row_bytes = m.box_columns * 2;
  for (uint32_t r = 0; r < m.box_rows; ++r)
    for (uint32_t q = 0; q < m.box_columns; ++q) {
      const unsigned char* from = c.shared + swizzled(r * row_bytes + q * 2, row_bytes);
      trace_read(from, 2);
      const int64_t row = static_cast<int64_t>(c.row) + r, column = static_cast<int64_t>(c.column) + q;
      if (row < 0 || column < 0 || row >= static_cast<int64_t>(m.rows) || column >= static_cast<int64_t>(m.columns))
        continue;
      unsigned char* to = const_cast<unsigned char*>(m.address) + row * static_cast<int64_t>(m.row_bytes) + column * 2;
      trace_write(to, 2);
      memcpy(to, from, 2);
    }
}

// The map of a copy, and that its box lies in shared memory as the swizzle asks for.
TensorMapContents checked_map(const void* shared, const void* map) {
  TensorMapContents m;
  memcpy(&m, map, sizeof m);
  if (m.magic != kTensorMapMagic) fail("the tensor map was not made by cuTensorMapEncodeTiled");
  const unsigned atom = m.box_columns * 16;  // eight rows
  if (shared_offset(shared) % atom)
    fail("a box swizzled by %u bytes begins at a multiple of %u bytes, not at %u", atom / 8, atom,
         shared_offset(shared));
  const size_t bytes = static_cast<size_t>(m.box_rows) * m.box_columns * 2;
  if (shared_offset(shared) + bytes > running_block().dynamic_bytes)
    fail("a box of %zu bytes reaches beyond shared memory", bytes);
  return m;
}

float element(unsigned long long descriptor, int turned, int row, int k) {
  const unsigned start = (descriptor & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4,
                 stride = (descriptor >> 32 & 0x3fff) << 4;
  const unsigned row_bytes = descriptor >> 62 == 2 ? 64 : 128, columns = row_bytes / 2;
  const unsigned offset = turned ? row / columns * leading + k / 8 * stride + k % 8 * row_bytes + row % columns * 2
                                 : row / 8 * stride + row % 8 * row_bytes + k * 2;
  unsigned short bits;
  memcpy(&bits, g_block->dynamic + swizzled(start + offset, row_bytes), 2);
  return __uint_as_float(static_cast<unsigned>(bits) << 16);
}

// With K along the row a step of 16 leaves no whole number of rows of 64 bytes: not used.
void require_known(unsigned long long descriptor, int turned) {
  if (descriptor >> 62 != 1 && !(descriptor >> 62 == 2 && turned))
    fail("only factors swizzled by 128 bytes are known, and by 64 with K across rows");
}

// This thread's elements of the product.
void multiply(const Product& p) {
  if (p.left.at && memcmp(p.left.at, p.left.held, sizeof p.left.held) != 0)
    fail("registers of a warpgroup product were changed before it was waited for");
  const int lane = static_cast<int>(g_thread->lane), warp = static_cast<int>(running_fiber().index / 32 % 4);
  for (int h = 0; h < 2; ++h) {
    const int row = warp * 16 + lane / 4 + 8 * h;
    float left[16];
    for (int k = 0; k < 16; ++k) left[k] = p.left.at ? p.left.rows[h][k] : element(p.a, p.turned_a, row, k);
    for (int j = 0; j < p.n / 8; ++j)
      for (int i = 0; i < 2; ++i) {
        const int col = 8 * j + 2 * (lane % 4) + i;
        float sum = p.keep ? p.d[4 * j + 2 * h + i] : 0.0f;
        for (int k = 0; k < 16; ++k) sum += left[k] * element(p.b, p.turned_b, col, k);
        p.d[4 * j + 2 * h + i] = sum;
      }
  }
  if (running_fiber().index % 128 == 0) count_mma(64ull * p.n * 16);
}

thread_local std::vector<std::vector<Product>> g_products;  // by thread of the cluster

std::vector<Product>& products() {
  const unsigned slot = running_fiber().slot;
  if (g_products.size() <= slot) g_products.resize(slot + 1);
  return g_products[slot];
}

}  // namespace

void reset_hopper() {
  g_copies.clear();
  g_products.clear();
  g_named.clear();
}

unsigned shared_offset(const void* p) {
  const auto* at = static_cast<const unsigned char*>(p);
  const Block& b = running_block();
  if (!b.dynamic || at < b.dynamic || at >= b.dynamic + b.dynamic_bytes)
    fail("an address of dynamic shared memory is needed: %p", p);
  return static_cast<unsigned>(at - b.dynamic);
}

void mbarrier_init(unsigned long long* barrier, unsigned count) {
  require_aligned(barrier, 8, "mbarrier");
  if (count >= 32) race_leave_block();
  Barrier b(0);
  b.pending = b.count = count;
  b.bytes = kBias;
  *barrier = b.word();
}

void mbarrier_arrive(unsigned long long* barrier, unsigned expected_bytes) {
  Barrier b(*barrier);
  if (b.pending == 0 || b.count == 0 || b.count > 1024)
    fail("an mbarrier gets more arrivals than its phase has, or was not initialised");
  b.bytes += expected_bytes;
  --b.pending;
  const uint64_t parity = b.parity;
  b.end_phase_if_complete();
  *barrier = b.word();
  if (b.parity != parity) let_others_run();
}

void mbarrier_wait(unsigned long long* barrier, unsigned parity) {
  static_assert(sizeof(uint64_t) == sizeof(unsigned long long), "one word");
  while (Barrier(*barrier).parity == (parity & 1)) {
    size_t kept = 0;
    bool came = false;
    for (size_t i = 0; i < g_copies.size(); ++i) {
      if (g_copies[i].barrier == barrier) {
        deliver(g_copies[i]);
        came = true;
      } else {
        g_copies[kept++] = g_copies[i];
      }
    }
    g_copies.resize(kept);
    if (!came) wait_while(reinterpret_cast<const uint64_t*>(barrier), *barrier, "mbarrier");
  }
}

unsigned cluster_rank() {
  const Block& b = running_block();
  unsigned rank = 0;
  while (b.cluster[rank] != &b) ++rank;
  return rank;
}

namespace {
void end_cluster_barrier_if_complete() {
  Block& first = first_of_cluster();
  unsigned live = 0;
  for (const Block* b : first.cluster) live += b->live;
  if (first.cluster_arrived == 0 || first.cluster_arrived != live) return;
  first.cluster_arrived = 0;
  ++first.cluster_generation;
}
}  // namespace

void cluster_barrier() {
  Block& first = first_of_cluster();
  const uint64_t seen = first.cluster_generation;
  ++first.cluster_arrived;
  end_cluster_barrier_if_complete();
  if (first.cluster_generation == seen) wait_while(&first.cluster_generation, seen, "barrier.cluster");
}
void leave_cluster_barrier() { end_cluster_barrier_if_complete(); }

const void* shared_of(const void* p, unsigned rank) {
  const std::vector<Block*>& cluster = running_block().cluster;
  if (rank >= cluster.size()) fail("block %u of a cluster of %zu", rank, cluster.size());
  // A block that has ended has given its shared memory back.
  if (cluster[rank]->live == 0) fail("shared memory of a block that has ended is read");
  return cluster[rank]->dynamic + shared_offset(p);
}

void tma_load(void* shared, const void* map, int column, int row, unsigned long long* barrier) {
  const TensorMapContents m = checked_map(shared, map);
  memset(shared, 0xff, static_cast<size_t>(m.box_rows) * m.box_columns * 2);
  g_copies.push_back({static_cast<unsigned char*>(shared), m, column, row, barrier});
}

void tma_store(const void* shared, const void* map, int column, int row) {
  Fiber& f = running_fiber();
  const TensorMapContents m = checked_map(shared, map);
  trace_read(shared, static_cast<size_t>(m.box_rows) * m.box_columns * 2);  // the engine may begin at once
  f.stores.push_back({static_cast<const unsigned char*>(shared), m, column, row, f.bulk_group});
}
void bulk_commit() { ++running_fiber().bulk_group; }
void bulk_wait_read(int groups_left) {
  Fiber& f = running_fiber();
  size_t kept = 0;
  for (const BulkStore& c : f.stores) {
    if (c.group >= f.bulk_group - groups_left) {
      f.stores[kept++] = c;
    } else {
      deliver(c);
    }
  }
  f.stores.resize(kept);
}

void wgmma(float* d, int n, unsigned long long a, int turned_a, unsigned long long b, int turned_b, int keep) {
  require_known(a, turned_a);
  require_known(b, turned_b);
  products().push_back({d, n, a, b, turned_a, turned_b, keep, running_fiber().copy_group, {}});
}

void wgmma_registers(float* d, int n, const unsigned (&a)[4], unsigned long long b, int turned_b, int keep) {
  require_known(b, turned_b);
  struct Own {
    unsigned a[4];
  };
  struct Quad {
    unsigned a[4][4];
  };
  Own own;
  memcpy(own.a, a, sizeof own.a);
  const Quad quad = collective<Quad>(
      own,
      [](const Own* in, Quad* out) {
        for (int lane = 0; lane < 32; ++lane)
          for (int t = 0; t < 4; ++t) memcpy(out[lane].a[t], in[(lane & ~3) + t].a, sizeof out[lane].a[t]);
      },
      "wgmma");
  Product p = {d, n, 0, b, 0, turned_b, keep, running_fiber().copy_group, {}};
  p.left.at = a;
  memcpy(p.left.held, a, sizeof p.left.held);
  for (int t = 0; t < 4; ++t)
    for (int i = 0; i < 4; ++i) {
      float* at = &p.left.rows[i & 1][2 * t + 8 * (i >> 1)];
      at[0] = __uint_as_float(quad.a[t][i] << 16);
      at[1] = __uint_as_float(quad.a[t][i] & 0xffff0000u);
    }
  products().push_back(p);
}
void wgmma_commit() { ++running_fiber().copy_group; }
void wgmma_wait(int groups_left) {
  std::vector<Product>& all = products();
  size_t kept = 0;
  for (const Product& p : all) {
    if (p.group >= running_fiber().copy_group - groups_left) {
      all[kept++] = p;
    } else {
      multiply(p);
    }
  }
  all.resize(kept);
  // The warp waits as one: no lane goes on, and gives back what was multiplied, while others have not multiplied.
  Rendezvous* meeting;
  meet(0xffffffffu, "wgmma.wait_group", &meeting);
  arrive(meeting, "wgmma.wait_group");
}

void named_barrier(int id, int threads) {
  if (id < 1 || id > 15 || threads < 32 || threads % 32 != 0)
    fail("bar.sync %d of %d threads: there are barriers 1 to 15, of whole warps", id, threads);
  race_leave_block();
  NamedBarrier& b = g_named[16 * cluster_rank() + id];
  if (b.arrived && b.threads != static_cast<unsigned>(threads))
    fail("bar.sync %d is of %u threads for some and of %d for others", id, b.threads, threads);
  b.threads = threads;
  const uint64_t seen = b.generation;
  if (running_fiber().index % 32 == 0) b.warps.push_back(running_fiber().warp);
  if (++b.arrived == b.threads) {
    for (Warp* warp : b.warps) ++warp->barriers;
    b.warps.clear();
    b.arrived = 0;
    ++b.generation;
  } else {
    wait_while(&b.generation, seen, "bar.sync");
  }
}

}  // namespace simt
