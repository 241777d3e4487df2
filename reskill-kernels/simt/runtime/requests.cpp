// The tracing build: how the accesses of a warp fall on sectors of device memory and on banks of shared memory.
//
// The lanes of a warp that come to one statement the same number of times since they last all met are taken to be there
// together, as they are on a device unless they have diverged; together they are a request. Of device memory a request moves
// whole sectors of 32 bytes. Shared memory has 32 banks of 4 bytes; a request is served in passes, each of which gives
// one word of every bank, to any number of lanes; accesses of 8 and 16 bytes come by half and quarter warps.
// (CUDA C++ Programming Guide, "Device Memory Accesses" and "Shared Memory".) Not looked at: atomics, tensor copies,
// products of warpgroups, and what caches make of requests.
#if defined(SIMT_TRACE)
#include "requests.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>
#include <unordered_map>

#include "block.h"
#include "driver.h"
#include "race.h"

namespace simt {

namespace {

constexpr unsigned kLanes = 32;
constexpr uint64_t kSector = 32, kBank = 4, kBanks = 32;

struct Request {
  unsigned lanes = 0;
  uint32_t bytes = 0;  // of one lane
  bool shared = false, write = false;
  uint64_t at[kLanes];  // offset in the allocation or the variable
};

// Sums over the requests of one statement.
struct Sums {
  uint64_t requests = 0, bytes = 0;
  uint64_t units = 0, least = 0;  // sectors or passes: what they take, and the least for as many bytes
  void operator+=(const Sums& o) {
    requests += o.requests;
    bytes += o.bytes;
    units += o.units;
    least += o.least;
  }
};
struct Key {
  const Kernel* kernel;
  const void* site;
  bool shared, write;
  bool operator<(const Key& o) const {
    return std::tie(kernel, site, shared, write) < std::tie(o.kernel, o.site, o.shared, o.write);
  }
};

// All threads' sums; written when the process ends, to the file that RESKILL_SIMT_REQUESTS names.
class Report {
 public:
  void add(const Key& key, const Sums& s) {
    const std::lock_guard<std::mutex> lock(mutex_);
    sums_[key] += s;
  }
  ~Report();

 private:
  std::mutex mutex_;
  std::map<Key, Sums> sums_;
} g_report;

// A line each: kernel, place in the library, `device` or `shared`, `read` or `write`, requests, bytes, sectors or passes, the
// least of them.
Report::~Report() {
  const char* path = getenv("RESKILL_SIMT_REQUESTS");
  FILE* file = path ? fopen(path, "w") : nullptr;
  if (path && !file) fprintf(stderr, "reskill-simt: RESKILL_SIMT_REQUESTS=%s cannot be written\n", path);
  if (!file) return;
  for (const auto& [key, s] : sums_) {
    Dl_info library = {};
    dladdr(key.site, &library);
    const auto place = static_cast<const char*>(key.site) - static_cast<const char*>(library.dli_fbase);
    fprintf(file, "%s 0x%llx %s %s %llu %llu %llu %llu\n", key.kernel->name, static_cast<unsigned long long>(place),
            key.shared ? "shared" : "device", key.write ? "write" : "read",
            static_cast<unsigned long long>(s.requests), static_cast<unsigned long long>(s.bytes),
            static_cast<unsigned long long>(s.units), static_cast<unsigned long long>(s.least));
  }
  fclose(file);
}

// Those of this OS thread's launches since they were last taken.
struct ThreadSums : std::map<Key, Sums> {
  void report() {
    for (const auto& [key, sums] : *this) g_report.add(key, sums);
    clear();
  }
  ~ThreadSums() { report(); }
};
thread_local ThreadSums g_sums;

// A statement as one warp comes to it.
struct Site {
  uint64_t meetings = 0;  // of the warp, when its lanes came
  unsigned times[kLanes] = {};
  std::vector<Request> requests;
};
thread_local std::vector<std::unordered_map<const void*, Site>> g_warps;

// How many different chunks of `size` bytes the ranges from `first` to `last` lane touch.
template <class F>
void each_chunk(const Request& r, unsigned first, unsigned last, uint64_t size, F f) {
  for (unsigned lane = first; lane < last; ++lane) {
    if (!(r.lanes >> lane & 1)) continue;
    for (uint64_t c = r.at[lane] / size; c <= (r.at[lane] + r.bytes - 1) / size; ++c) f(c);
  }
}
uint64_t different(std::vector<uint64_t>& chunks) {
  std::sort(chunks.begin(), chunks.end());
  chunks.erase(std::unique(chunks.begin(), chunks.end()), chunks.end());
  return chunks.size();
}

void add_passes(const Request& r, Sums& s, std::vector<uint64_t>& words) {
  const unsigned together = r.bytes <= 4 ? 32 : r.bytes <= 8 ? 16 : 8;
  for (unsigned first = 0; first < kLanes; first += together) {
    words.clear();
    each_chunk(r, first, first + together, kBank, [&](uint64_t w) { words.push_back(w); });
    const uint64_t n = different(words);
    unsigned of_bank[kBanks] = {}, most = 0;
    for (uint64_t w : words) most = std::max(most, ++of_bank[w % kBanks]);
    s.units += most;
    s.least += (n + kBanks - 1) / kBanks;
    s.bytes += n * kBank;
  }
}

void add_sectors(const Request& r, Sums& s, std::vector<uint64_t>& chunks) {
  chunks.clear();
  each_chunk(r, 0, kLanes, kSector, [&](uint64_t c) { chunks.push_back(c); });
  s.units += different(chunks);
  chunks.clear();
  each_chunk(r, 0, kLanes, 1, [&](uint64_t c) { chunks.push_back(c); });
  const uint64_t bytes = different(chunks);
  s.bytes += bytes;
  s.least += (bytes + kSector - 1) / kSector;
}

void flush(const void* where, Site& site) {
  static thread_local std::vector<uint64_t> scratch;
  for (const Request& r : site.requests) {
    Sums& s = g_sums[{running_block().kernel, where, r.shared, r.write}];
    ++s.requests;
    r.shared ? add_passes(r, s, scratch) : add_sectors(r, s, scratch);
  }
  site.requests.clear();
  std::fill(site.times, site.times + kLanes, 0u);
}

// Where `p` lies: its offset in a shared variable or an allocation of the device; false for anything else.
bool locate(const void* p, bool* shared, uint64_t* at) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(p);
  size_t offset;
  *shared = race_offset(p, &offset);
  *at = offset;
  if (*shared) return true;
  driver::DevicePtr begin;
  size_t bytes;
  if (!driver::find_allocation(address, &begin, &bytes)) return false;
  *at = address - begin;
  return true;
}

}  // namespace

void request_access(const void* where, const void* p, size_t bytes, bool write) {
  if (is_host() || bytes == 0) return;
  bool shared;
  uint64_t at;
  if (!locate(p, &shared, &at)) return;
  const Fiber& f = running_fiber();
  const unsigned warp = f.slot / kLanes;
  if (g_warps.size() <= warp) g_warps.resize(warp + 1);
  Site& site = g_warps[warp][where];
  const uint64_t meetings = f.warp->all_met + running_block().generation;
  if (site.meetings != meetings) flush(where, site);
  site.meetings = meetings;
  const unsigned time = site.times[f.lane]++;
  if (site.requests.size() <= time) site.requests.resize(time + 1);
  Request& r = site.requests[time];
  r.lanes |= 1u << f.lane;
  r.bytes = static_cast<uint32_t>(bytes);
  r.shared = shared;
  r.write = write;
  r.at[f.lane] = at;
}

void request_rows(const void* where, const void* const* rows, int n, bool write) {
  Request r;
  r.bytes = 16;
  for (int i = 0; i < n; ++i) {
    if (!locate(rows[i], &r.shared, &r.at[i])) return;
    r.lanes |= 1u << i;
  }
  static thread_local std::vector<uint64_t> scratch;
  Sums& s = g_sums[{running_block().kernel, where, r.shared, write}];
  ++s.requests;
  add_passes(r, s, scratch);
}

void requests_block_begin() {
  for (auto& sites : g_warps) sites.clear();
}
void requests_block_end() {
  for (auto& sites : g_warps)
    for (auto& [where, site] : sites) flush(where, site);
}

}  // namespace simt

// For `reskill_simt::requests`: what this OS thread launched since the last call, by kernel and kind of memory.
extern "C" __attribute__((visibility("default"))) void reskill_simt_take_requests(
    void* context, void (*found)(void* context, const char* kernel, int shared, const uint64_t* sums)) {
  std::map<std::pair<std::string, bool>, simt::Sums> by_kernel;
  for (const auto& [key, s] : simt::g_sums) by_kernel[{key.kernel->name, key.shared}] += s;
  simt::g_sums.report();
  for (const auto& [key, s] : by_kernel) {
    const uint64_t sums[4] = {s.requests, s.bytes, s.units, s.least};
    found(context, key.first.c_str(), key.second, sums);
  }
}
#else
extern "C" __attribute__((visibility("default"))) void reskill_simt_take_requests(
    void*, void (*)(void*, const char*, int, const unsigned long*)) {}
#endif
