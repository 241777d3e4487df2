// Device memory: poisoned, fenced by inaccessible pages, limited.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "counters.h"
#include "driver.h"

namespace driver {

namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlign = 256;  // as cuMemAlloc promises
constexpr unsigned char kFence = 0xa5;

struct Allocation {
  size_t bytes;
  void* mapping;
  size_t mapped;
};

std::mutex g_mutex;
std::map<DevicePtr, Allocation>& allocations() {
  static std::map<DevicePtr, Allocation> all;
  return all;
}
size_t g_used = 0;
size_t g_limit_set = 0;  // by reskill_simt_set_memory

size_t limit() {
  if (g_limit_set) return g_limit_set;
  const char* text = getenv("RESKILL_SIMT_MEMORY_MB");
  return (text && *text ? strtoull(text, nullptr, 10) : 16384ull) << 20;
}

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// The end of the allocation (rounded to 256 bytes) meets a page that nobody may touch, its begin another.
int take(DevicePtr* address, size_t bytes) {
  if (bytes == 0) return kInvalidValue;
  std::lock_guard<std::mutex> lock(g_mutex);
  if (bytes > limit() || g_used + bytes > limit()) return kOutOfMemory;
  const size_t padded = round_up(bytes, kAlign);
#if defined(__SANITIZE_ADDRESS__)
  void* p = nullptr;
  if (posix_memalign(&p, kAlign, bytes) != 0) return kOutOfMemory;
  unsigned char* at = static_cast<unsigned char*>(p);
  allocations()[reinterpret_cast<DevicePtr>(at)] = {bytes, p, 0};
#else
  const size_t inner = round_up(padded, kPage), mapped = inner + 2 * kPage;
  void* p = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return kOutOfMemory;
  unsigned char* middle = static_cast<unsigned char*>(p) + kPage;
  if (mprotect(middle, inner, PROT_READ | PROT_WRITE) != 0) {
    munmap(p, mapped);
    return kOutOfMemory;
  }
  unsigned char* at = middle + inner - padded;
  memset(middle, kFence, static_cast<size_t>(at - middle));
  memset(at + bytes, kFence, padded - bytes);
  allocations()[reinterpret_cast<DevicePtr>(at)] = {bytes, p, mapped};
#endif
  memset(at, 0xff, bytes);  // NaN in f32 and bf16, an impossible index in u32
  g_used += bytes;
  simt::counters().allocations++;
  *address = reinterpret_cast<DevicePtr>(at);
  return kSuccess;
}

// Whether the fence bytes beside the allocation are untouched (in front, the last 256 of them).
bool fences_hold(DevicePtr address, const Allocation& a) {
#if defined(__SANITIZE_ADDRESS__)
  (void)address, (void)a;
  return true;
#else
  const unsigned char* at = reinterpret_cast<const unsigned char*>(address);
  const unsigned char* middle = static_cast<const unsigned char*>(a.mapping) + kPage;
  const unsigned char* end = at + round_up(a.bytes, kAlign);
  auto intact = [](unsigned char c) { return c == kFence; };
  return std::all_of(std::max(middle, at - kAlign), at, intact) && std::all_of(at + a.bytes, end, intact);
#endif
}

int give(DevicePtr address) {
  if (!address) return kSuccess;
  std::lock_guard<std::mutex> lock(g_mutex);
  auto it = allocations().find(address);
  if (it == allocations().end()) return kInvalidValue;
  const Allocation a = it->second;
  allocations().erase(it);
  g_used -= a.bytes;
#if defined(__SANITIZE_ADDRESS__)
  free(a.mapping);
#else
  munmap(a.mapping, a.mapped);
#endif
  return kSuccess;
}

}  // namespace

bool find_allocation(DevicePtr address, DevicePtr* begin, size_t* bytes) {
  std::lock_guard<std::mutex> lock(g_mutex);
  auto it = allocations().upper_bound(address);
  if (it == allocations().begin()) return false;
  --it;
  *begin = it->first;
  *bytes = it->second.bytes;
  return address - it->first < it->second.bytes;
}

bool is_device_range(DevicePtr address, size_t bytes) {
  DevicePtr begin;
  size_t all;
  return find_allocation(address, &begin, &all) && bytes <= all - (address - begin);
}

bool check_fences(std::string* words) {
  std::lock_guard<std::mutex> lock(g_mutex);
  for (auto& [address, a] : allocations()) {
    if (fences_hold(address, a)) continue;
    char text[160];
    snprintf(text, sizeof text, "bytes beside the allocation of %zu bytes at %#llx were overwritten", a.bytes, address);
    *words = text;
#if !defined(__SANITIZE_ADDRESS__)
    // Mended, so that the next launch is judged by what it does itself.
    unsigned char* at = reinterpret_cast<unsigned char*>(address);
    unsigned char* middle = static_cast<unsigned char*>(a.mapping) + kPage;
    memset(middle, kFence, static_cast<size_t>(at - middle));
    memset(at + a.bytes, kFence, round_up(a.bytes, kAlign) - a.bytes);
#endif
    return false;
  }
  return true;
}

}  // namespace driver

using namespace driver;

API cuMemAlloc_v2(DevicePtr* address, size_t bytes) {
  if (int e = forbidden_in_capture(kCaptureUnsupported)) return e;
  return take(address, bytes);
}
API cuMemAllocAsync(DevicePtr* address, size_t bytes, void* stream) {
  if (int e = forbidden_on_capturing(stream, kCaptureUnsupported)) return e;
  return take(address, bytes);
}
API cuMemAllocManaged(DevicePtr* address, size_t bytes, unsigned) { return take(address, bytes); }
API cuMemFree_v2(DevicePtr address) {
  if (int e = forbidden_in_capture(kCaptureUnsupported)) return e;
  return give(address);
}
API cuMemFreeAsync(DevicePtr address, void* stream) {
  if (int e = forbidden_on_capturing(stream, kCaptureUnsupported)) return e;
  return give(address);
}
API cuMemHostAlloc(void** p, size_t bytes, unsigned) {
  *p = bytes ? malloc(bytes) : nullptr;
  return *p ? kSuccess : bytes ? kOutOfMemory : kInvalidValue;
}
API cuMemAllocHost_v2(void** p, size_t bytes) { return cuMemHostAlloc(p, bytes, 0); }
API cuMemFreeHost(void* p) { free(p); return kSuccess; }
API cuMemGetInfo_v2(size_t* free_bytes, size_t* total) {
  std::lock_guard<std::mutex> lock(g_mutex);
  *total = limit();
  *free_bytes = *total > g_used ? *total - g_used : 0;
  return kSuccess;
}
API cuDeviceTotalMem_v2(size_t* bytes, int) { *bytes = limit(); return kSuccess; }
API cuDeviceGetDefaultMemPool(void** pool, int) { static char p; *pool = &p; return kSuccess; }
API cuDeviceGetMemPool(void** pool, int device) { return cuDeviceGetDefaultMemPool(pool, device); }
API cuDeviceSetMemPool(int, void*) { return kSuccess; }
API cuMemPoolSetAttribute(void*, int, void*) { return kSuccess; }
API cuMemPoolGetAttribute(void*, int, void* value) { *static_cast<uint64_t*>(value) = 0; return kSuccess; }
API cuMemPoolTrimTo(void*, size_t) { return kSuccess; }

namespace {

int copy(bool to_device, DevicePtr to, bool from_device, DevicePtr from, size_t bytes) {
  if (!bytes) return kSuccess;
  if (to_device && !is_device_range(to, bytes)) return kInvalidValue;
  if (from_device && !is_device_range(from, bytes)) return kInvalidValue;
  memmove(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  return kSuccess;
}

template <class T>
int fill(DevicePtr to, T value, size_t n) {
  if (to % sizeof(T)) return kInvalidValue;
  if (n && !is_device_range(to, n * sizeof(T))) return kInvalidValue;
  std::fill_n(reinterpret_cast<T*>(to), n, value);
  return kSuccess;
}

DevicePtr address_of(const void* p) { return reinterpret_cast<DevicePtr>(p); }

}  // namespace

API cuMemcpyHtoD_v2(DevicePtr to, const void* from, size_t n) {
  if (int e = forbidden_in_capture(kCaptureImplicit)) return e;
  return copy(true, to, false, address_of(from), n);
}
API cuMemcpyDtoH_v2(void* to, DevicePtr from, size_t n) {
  if (int e = forbidden_in_capture(kCaptureImplicit)) return e;
  simt::counters().downloads += n != 0;
  return copy(false, address_of(to), true, from, n);
}
API cuMemcpyDtoD_v2(DevicePtr to, DevicePtr from, size_t n) {
  if (int e = forbidden_in_capture(kCaptureImplicit)) return e;
  return copy(true, to, true, from, n);
}
API cuMemcpyHtoDAsync_v2(DevicePtr to, const void* from, size_t n, void* stream) {
  return submit(stream, [=] { return copy(true, to, false, address_of(from), n); });
}
API cuMemcpyDtoHAsync_v2(void* to, DevicePtr from, size_t n, void* stream) {
  simt::counters().downloads += n != 0;
  return submit(stream, [=] { return copy(false, address_of(to), true, from, n); });
}
API cuMemcpyDtoDAsync_v2(DevicePtr to, DevicePtr from, size_t n, void* stream) {
  return submit(stream, [=] { return copy(true, to, true, from, n); });
}
API cuMemcpyAsync(DevicePtr to, DevicePtr from, size_t n, void* stream) {
  return submit(stream, [=] { return copy(false, to, false, from, n); });
}
API cuMemcpyPeerAsync(DevicePtr to, void*, DevicePtr from, void*, size_t n, void* stream) {
  return submit(stream, [=] { return copy(true, to, true, from, n); });
}
API cuMemsetD8_v2(DevicePtr to, unsigned char v, size_t n) { return fill(to, v, n); }
API cuMemsetD16_v2(DevicePtr to, unsigned short v, size_t n) { return fill(to, v, n); }
API cuMemsetD32_v2(DevicePtr to, unsigned v, size_t n) { return fill(to, v, n); }
API cuMemsetD8Async(DevicePtr to, unsigned char v, size_t n, void* stream) {
  return submit(stream, [=] { return fill(to, v, n); });
}
API cuMemsetD16Async(DevicePtr to, unsigned short v, size_t n, void* stream) {
  return submit(stream, [=] { return fill(to, v, n); });
}
API cuMemsetD32Async(DevicePtr to, unsigned v, size_t n, void* stream) {
  return submit(stream, [=] { return fill(to, v, n); });
}

// 0: as RESKILL_SIMT_MEMORY_MB says.
extern "C" __attribute__((visibility("default"))) void reskill_simt_set_memory(size_t bytes) {
  std::lock_guard<std::mutex> lock(g_mutex);
  g_limit_set = bytes;
}
