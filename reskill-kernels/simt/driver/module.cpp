// Modules, functions and launches. Every module holds all kernels that were compiled into this library.
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>

#include "block.h"
#include "counters.h"
#include "driver.h"
#include "tensor_map.h"

namespace driver {

namespace {

struct Module {
  std::mutex mutex;
  std::map<std::string, std::unique_ptr<Function>> functions;
};

struct Launch {
  Function* function;
  dim3 grid, block;
  size_t dynamic_bytes;
};

// The limits that cuLaunchKernel enforces.
int check_launch(const Launch& l) {
  auto in = [](unsigned v, unsigned most) { return v >= 1 && v <= most; };
  if (!in(l.grid.x, 0x7fffffff) || !in(l.grid.y, 65535) || !in(l.grid.z, 65535)) return kInvalidValue;
  if (!in(l.block.x, 1024) || !in(l.block.y, 1024) || !in(l.block.z, 64)) return kInvalidValue;
  if (static_cast<uint64_t>(l.block.x) * l.block.y * l.block.z > 1024) return kInvalidValue;
  if (l.grid.x % l.function->kernel->cluster) return kInvalidClusterSize;
  if (l.dynamic_bytes > static_cast<size_t>(l.function->max_dynamic_shared)) return kInvalidValue;
  return kSuccess;
}

int run(const Launch& l, void** args) {
  simt::LaunchResult r =
      simt::launch(*l.function->kernel, l.grid, l.block, l.dynamic_bytes, shared_bytes_optin(), args);
  if (!r.ok) {
    last_failure() = r.failure;
    return kLaunchFailed;
  }
  std::string words;
  if (!check_fences(&words)) {
    last_failure() = std::string(l.function->kernel->name) + ": " + words;
    fprintf(stderr, "reskill-simt: %s\n", last_failure().c_str());
    return kLaunchFailed;
  }
  return kSuccess;
}

// Arguments of a captured launch, copied; aligned as the largest of them, a tensor map, asks.
struct alignas(128) Line {
  unsigned char bytes[128];
};
struct Arguments {
  std::vector<std::vector<Line>> copies;
  std::vector<void*> pointers;
  Arguments(const simt::Kernel& k, void** args) {
    for (unsigned i = 0; i < k.n_args; ++i) {
      copies.emplace_back((k.arg_bytes[i] + sizeof(Line) - 1) / sizeof(Line));
      memcpy(copies.back().data(), args[i], k.arg_bytes[i]);
    }
    for (auto& copy : copies) pointers.push_back(copy.data());
  }
};

int launch(const Launch& l, void* stream, void** args) {
  if (int e = check_launch(l)) return e;
  if (!args && l.function->kernel->n_args) return kInvalidValue;
  if (!stream_of(stream).capturing) return run(l, args);
  auto copied = std::make_shared<Arguments>(*l.function->kernel, args);
  return submit(stream, [l, copied] { return run(l, copied->pointers.data()); });
}

}  // namespace

}  // namespace driver

using namespace driver;

API cuModuleLoadData(void** module, const void* image) {
  if (!image) return kInvalidValue;
  *module = new Module;
  return kSuccess;
}
API cuModuleLoadDataEx(void** module, const void* image, unsigned, void*, void*) {
  return cuModuleLoadData(module, image);
}
API cuModuleLoadFatBinary(void** module, const void* image) { return cuModuleLoadData(module, image); }
API cuModuleLoad(void** module, const char* path) {
  FILE* f = fopen(path, "rb");
  if (!f) return kFileNotFound;
  fclose(f);
  return cuModuleLoadData(module, path);
}
API cuModuleUnload(void* module) { delete static_cast<Module*>(module); return kSuccess; }
API cuModuleGetFunction(void** function, void* handle, const char* name) {
  Module& m = *static_cast<Module*>(handle);
  const simt::Kernel* kernel = simt::find_kernel(name);
  if (!kernel) return kNotFound;
  std::lock_guard<std::mutex> lock(m.mutex);
  auto& f = m.functions[name];
  if (!f) f.reset(new Function{kernel});
  *function = f.get();
  return kSuccess;
}
API cuModuleGetGlobal_v2(DevicePtr*, size_t*, void*, const char*) { return kNotFound; }

API cuFuncSetAttribute(void* function, int attribute, int value) {
  Function& f = *static_cast<Function*>(function);
  if (attribute == 8) {  // dynamic shared memory
    if (value < 0 || static_cast<size_t>(value) > shared_bytes_optin()) return kInvalidValue;
    f.max_dynamic_shared = value;
  }
  return kSuccess;
}
API cuFuncGetAttribute(int* value, int attribute, void* function) {
  switch (attribute) {
    case 0: *value = 1024; break;  // threads a block
    case 4: *value = 64; break;    // registers
    case 5: case 6: *value = 80; break;
    case 8: *value = static_cast<Function*>(function)->max_dynamic_shared; break;
    default: *value = 0;
  }
  return kSuccess;
}
API cuFuncSetCacheConfig(void*, int) { return kSuccess; }
API cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, void*, int threads, size_t dynamic_bytes, unsigned) {
  if (threads < 1 || threads > 1024) return kInvalidValue;
  const size_t by_shared = shared_bytes_per_multiprocessor() / (dynamic_bytes + 1024);
  *n = static_cast<int>(std::min<size_t>({static_cast<size_t>(2048 / threads), by_shared, 32}));
  return kSuccess;
}
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, void* f, int threads, size_t dynamic_bytes) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(n, f, threads, dynamic_bytes, 0);
}
API cuOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, void*, int blocks, int) {
  if (blocks < 1) return kInvalidValue;
  *bytes = std::min(shared_bytes_per_multiprocessor() / static_cast<size_t>(blocks) - 1024, shared_bytes_optin());
  return kSuccess;
}

API cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** args, void** extra) {
  if (!function) return kInvalidHandle;
  if (extra) return kNotSupported;
  return launch({static_cast<Function*>(function), dim3(gx, gy, gz), dim3(bx, by, bz), shared}, stream, args);
}

// CUlaunchConfig.
struct LaunchConfig {
  unsigned gx, gy, gz, bx, by, bz, shared;
  void* stream;
  void* attributes;
  unsigned n_attributes;
};
API cuLaunchKernelEx(const LaunchConfig* c, void* function, void** args, void** extra) {
  if (c->n_attributes) return kNotSupported;  // clusters and their like
  return cuLaunchKernel(function, c->gx, c->gy, c->gz, c->bx, c->by, c->bz, c->shared, c->stream, args, extra);
}

// Two axes of bf16, swizzled by 128 bytes or by 64, boxes as wide: what the kernels use. The conditions are those of the documentation.
API cuTensorMapEncodeTiled(void* map, int type, unsigned rank, void* address, const uint64_t* sizes,
                           const uint64_t* strides, const uint32_t* box, const uint32_t* steps, int interleave,
                           int swizzle, int, int) {
  if (compute_capability() < 90) return kNotSupported;
  if (type != 9 || rank != 2 || interleave != 0 || (swizzle != 3 && swizzle != 2) || steps[0] != 1 || steps[1] != 1) return kNotSupported;
  const bool aligned = reinterpret_cast<uintptr_t>(map) % 64 == 0 && reinterpret_cast<uintptr_t>(address) % 16 == 0 &&
                       strides[0] % 16 == 0;
  const bool fits = sizes[0] && sizes[1] && sizes[0] <= 1ull << 32 && sizes[1] <= 1ull << 32 &&
                    strides[0] < 1ull << 40 && strides[0] >= sizes[0] * 2 && box[0] * 2 == (swizzle == 3 ? 128u : 64u) && box[1] &&
                    box[1] <= 256;
  if (!aligned || !fits) return kInvalidValue;
  const simt::TensorMapContents contents = {simt::kTensorMapMagic,
                                            static_cast<const unsigned char*>(address),
                                            sizes[0],
                                            sizes[1],
                                            strides[0],
                                            box[0],
                                            box[1]};
  memcpy(map, &contents, sizeof contents);
  return kSuccess;
}

extern "C" __attribute__((visibility("default"))) void reskill_simt_take_counters(simt::Counters* out) {
  *out = simt::counters();
  simt::counters() = {};
}
