// A stand-in for libcuda.so: device memory is host memory, streams are synchronous, kernels run in the simulator.
//
// Numbers and signatures follow NVIDIA's driver API (CUDA 13.0). What a test may rely on beyond success and failure:
// memory is poisoned and fenced, launches are checked against the limits of the device, a capture refuses what a real
// one refuses, and a kernel's fault is returned by the launch itself with its words in cuGetErrorString.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <functional>
#include <string>
#include <vector>

#include "registry.h"

#define API extern "C" __attribute__((visibility("default"))) int

namespace driver {

typedef unsigned long long DevicePtr;

enum Result {
  kSuccess = 0,
  kInvalidValue = 1,
  kOutOfMemory = 2,
  kNotInitialized = 3,
  kNoDevice = 100,
  kInvalidDevice = 101,
  kInvalidContext = 201,
  kFileNotFound = 301,
  kInvalidHandle = 400,
  kNotFound = 500,
  kLaunchFailed = 719,
  kNotSupported = 801,
  kCaptureUnsupported = 900,
  kCaptureInvalidated = 901,
  kCaptureUnmatched = 903,
  kCaptureIsolation = 905,
  kCaptureImplicit = 906,
  kCapturedEvent = 907,
  kInvalidClusterSize = 912,
};

// What a captured stream recorded; replayed in order.
struct Graph {
  std::vector<std::function<int()>> nodes;
};

struct Stream {
  bool capturing = false, invalidated = false;
  int mode = 0;  // CUstreamCaptureMode: 0 global, 1 thread local, 2 relaxed
  Graph* graph = nullptr;
};

// The stream behind a handle; the null and the default handles name one of their own.
Stream& stream_of(void* handle);
// Runs `work` now, or records it if the stream is capturing.
int submit(void* stream, std::function<int()> work);
// What a capture does not allow (waiting, allocating): 0, or the error, and the captures become invalid.
int forbidden_in_capture(int error);
// The same for one stream.
int forbidden_on_capturing(void* stream, int error);

struct Function {
  const simt::Kernel* kernel;
  int max_dynamic_shared = 48 << 10;
};

// Limits of the device that RESKILL_SIMT_CC names (80 by default, 90).
int compute_capability();
size_t shared_bytes_optin();
size_t shared_bytes_per_multiprocessor();

// Whether [address, address + bytes) lies in one live allocation.
bool is_device_range(DevicePtr address, size_t bytes);
// The live allocation that holds `address`.
bool find_allocation(DevicePtr address, DevicePtr* begin, size_t* bytes);
// Checks what lies around the allocations; a kernel that wrote there fails with these words.
bool check_fences(std::string* words);

// The words of the last failed launch of this thread.
std::string& last_failure();

}  // namespace driver
