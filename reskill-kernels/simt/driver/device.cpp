// Devices, contexts, attributes, errors.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"

namespace driver {

namespace {
int env_number(const char* name, int otherwise) {
  const char* text = getenv(name);
  return text && *text ? atoi(text) : otherwise;
}
int n_devices() { return env_number("RESKILL_SIMT_DEVICES", 1); }
char g_context;
int g_capability_set = 0;       // by reskill_simt_set_capability
int g_multiprocessors_set = 0;  // by reskill_simt_set_multiprocessors
thread_local void* g_current = nullptr;
}  // namespace

int compute_capability() { return g_capability_set ? g_capability_set : env_number("RESKILL_SIMT_CC", 80); }
// Devices of 8.6 and 8.9 have much less than those of 8.0 and 9.0.
size_t shared_bytes_per_multiprocessor() {
  const int capability = compute_capability();
  if (capability >= 90) return 228u << 10;
  return (capability == 86 || capability == 89 ? 100u : 164u) << 10;
}
size_t shared_bytes_optin() { return shared_bytes_per_multiprocessor() - (1u << 10); }
std::string& last_failure() {
  static thread_local std::string words;
  return words;
}

}  // namespace driver

using namespace driver;

API cuInit(unsigned flags) { return flags ? kInvalidValue : n_devices() > 0 ? kSuccess : kNoDevice; }
API cuDriverGetVersion(int* version) { *version = env_number("RESKILL_SIMT_DRIVER_VERSION", 13000); return kSuccess; }
API cuDeviceGetCount(int* n) { *n = n_devices(); return kSuccess; }
API cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal >= 0 && ordinal < n_devices() ? kSuccess : kInvalidDevice;
}
API cuDeviceGetName(char* name, int bytes, int) {
  snprintf(name, static_cast<size_t>(bytes), "ReSkill SIMT simulator (cc %d.%d)", compute_capability() / 10,
           compute_capability() % 10);
  return kSuccess;
}
API cuDeviceGetUuid_v2(unsigned char* uuid, int device) {
  memset(uuid, 0, 16);
  uuid[15] = static_cast<unsigned char>(device);
  return kSuccess;
}
API cuDeviceGetUuid(unsigned char* uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }

API cuDeviceGetAttribute(int* value, int attribute, int device) {
  if (device < 0 || device >= n_devices()) return kInvalidDevice;
  switch (attribute) {
    case 1: *value = 1024; break;                 // threads a block
    case 2: case 3: *value = 1024; break;         // block x, y
    case 4: *value = 64; break;                   // block z
    case 5: *value = 0x7fffffff; break;           // grid x
    case 6: case 7: *value = 65535; break;        // grid y, z
    case 8: *value = 48 << 10; break;             // shared memory a block
    case 9: *value = 64 << 10; break;             // constant memory
    case 10: *value = 32; break;                  // warp
    case 12: case 82: *value = 65536; break;      // registers a block, a multiprocessor
    case 13: *value = 1410000; break;             // clock, kHz
    case 16:  // multiprocessors
      *value = g_multiprocessors_set ? g_multiprocessors_set : env_number("RESKILL_SIMT_MULTIPROCESSORS", 4);
      break;
    case 36: *value = 1215000; break;             // memory clock, kHz
    case 37: *value = 5120; break;                // memory bus, bits
    case 38: *value = 40 << 20; break;            // L2 cache
    case 39: *value = 2048; break;                // threads a multiprocessor
    case 41: *value = 1; break;                   // unified addressing
    case 75: *value = compute_capability() / 10; break;
    case 76: *value = compute_capability() % 10; break;
    case 81: *value = static_cast<int>(shared_bytes_per_multiprocessor()); break;
    case 97: *value = static_cast<int>(shared_bytes_optin()); break;
    case 106: *value = 32; break;                 // blocks a multiprocessor
    case 111: *value = 1024; break;               // shared memory that the system keeps of each block
    case 115: *value = 1; break;                  // memory pools
    default: *value = 0;
  }
  return kSuccess;
}

API cuDevicePrimaryCtxRetain(void** context, int) { *context = &g_context; return kSuccess; }
API cuDevicePrimaryCtxRelease_v2(int) { return kSuccess; }
API cuDevicePrimaryCtxReset_v2(int) { return kSuccess; }
API cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { return kSuccess; }
API cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) { *flags = 0; *active = 1; return kSuccess; }
API cuCtxCreate_v4(void** context, void*, unsigned, int) { *context = g_current = &g_context; return kSuccess; }
API cuCtxCreate_v3(void** context, void*, int, unsigned, int) { *context = g_current = &g_context; return kSuccess; }
API cuCtxDestroy_v2(void*) { return kSuccess; }
API cuCtxGetCurrent(void** context) { *context = g_current; return kSuccess; }
API cuCtxSetCurrent(void* context) { g_current = context; return kSuccess; }
API cuCtxGetDevice(int* device) { *device = 0; return g_current ? kSuccess : kInvalidContext; }
API cuCtxSetFlags(unsigned) { return kSuccess; }
API cuCtxGetLimit(size_t* value, int) { *value = 1024; return kSuccess; }
API cuCtxSetLimit(int, size_t) { return kSuccess; }
API cuCtxGetCacheConfig(int* config) { *config = 0; return kSuccess; }
API cuCtxSetCacheConfig(int) { return kSuccess; }
API cuCtxGetStreamPriorityRange(int* least, int* greatest) { *least = *greatest = 0; return kSuccess; }
API cuProfilerStart() { return kSuccess; }
API cuProfilerStop() { return kSuccess; }

API cuGetErrorName(int error, const char** name) {
  switch (error) {
    case kSuccess: *name = "CUDA_SUCCESS"; break;
    case kInvalidValue: *name = "CUDA_ERROR_INVALID_VALUE"; break;
    case kOutOfMemory: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case kNotInitialized: *name = "CUDA_ERROR_NOT_INITIALIZED"; break;
    case kNoDevice: *name = "CUDA_ERROR_NO_DEVICE"; break;
    case kInvalidDevice: *name = "CUDA_ERROR_INVALID_DEVICE"; break;
    case kInvalidContext: *name = "CUDA_ERROR_INVALID_CONTEXT"; break;
    case kFileNotFound: *name = "CUDA_ERROR_FILE_NOT_FOUND"; break;
    case kInvalidHandle: *name = "CUDA_ERROR_INVALID_HANDLE"; break;
    case kNotFound: *name = "CUDA_ERROR_NOT_FOUND"; break;
    case kLaunchFailed: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
    case kNotSupported: *name = "CUDA_ERROR_NOT_SUPPORTED"; break;
    case kCaptureUnsupported: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
    case kCaptureInvalidated: *name = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"; break;
    case kCaptureUnmatched: *name = "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED"; break;
    case kCaptureIsolation: *name = "CUDA_ERROR_STREAM_CAPTURE_ISOLATION"; break;
    case kCaptureImplicit: *name = "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"; break;
    case kCapturedEvent: *name = "CUDA_ERROR_CAPTURED_EVENT"; break;
    default: *name = "CUDA_ERROR_UNKNOWN";
  }
  return kSuccess;
}
API cuGetErrorString(int error, const char** words) {
  switch (error) {
    case kSuccess: *words = "no error"; break;
    case kInvalidValue: *words = "invalid argument"; break;
    case kOutOfMemory: *words = "out of memory"; break;
    case kNotInitialized: *words = "initialization error"; break;
    case kNoDevice: *words = "no CUDA-capable device is detected"; break;
    case kInvalidDevice: *words = "invalid device ordinal"; break;
    case kInvalidContext: *words = "invalid device context"; break;
    case kFileNotFound: *words = "file not found"; break;
    case kInvalidHandle: *words = "invalid resource handle"; break;
    case kNotFound: *words = "named symbol not found"; break;
    case kLaunchFailed: *words = last_failure().empty() ? "unspecified launch failure" : last_failure().c_str(); break;
    case kNotSupported: *words = "operation not supported"; break;
    case kCaptureUnsupported: *words = "operation not permitted when stream is capturing"; break;
    case kCaptureInvalidated: *words = "operation failed due to a previous error during capture"; break;
    case kCaptureUnmatched: *words = "the capture was not initiated in this stream"; break;
    case kCaptureIsolation: *words = "dependency created on uncaptured work in another stream"; break;
    case kCaptureImplicit:
      *words = "operation would make the legacy stream depend on a capturing blocking stream";
      break;
    case kCapturedEvent: *words = "operation not permitted on an event last recorded in a capturing stream"; break;
    default: *words = "unknown error";
  }
  return kSuccess;
}

// 0: as RESKILL_SIMT_CC says.
extern "C" __attribute__((visibility("default"))) void reskill_simt_set_capability(int capability) {
  g_capability_set = capability;
}
extern "C" __attribute__((visibility("default"))) void reskill_simt_set_multiprocessors(int n) {
  g_multiprocessors_set = n;
}
