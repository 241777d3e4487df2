// Streams, events, and graphs that record a stream and replay it.
#include <string.h>

#include <atomic>
#include <chrono>
#include <memory>

#include "driver.h"

namespace driver {

namespace {

thread_local std::vector<Stream*> g_capturing;  // captures that this thread began

struct Event {
  bool recorded = false;
  const Graph* captured_in = nullptr;
  std::chrono::steady_clock::time_point at;
};

bool is_default(void* handle) {
  return handle == nullptr || handle == reinterpret_cast<void*>(1) || handle == reinterpret_cast<void*>(2);
}

int invalidate(Stream& s, int error) {
  s.invalidated = true;
  return error;
}

}  // namespace

Stream& stream_of(void* handle) {
  static thread_local Stream default_stream;
  return is_default(handle) ? default_stream : *static_cast<Stream*>(handle);
}

int submit(void* handle, std::function<int()> work) {
  Stream& s = stream_of(handle);
  if (!s.capturing) return work();
  if (s.invalidated) return kCaptureInvalidated;
  s.graph->nodes.push_back(std::move(work));
  return kSuccess;
}

int forbidden_in_capture(int error) {
  for (Stream* s : g_capturing) {
    if (s->mode != 2) return invalidate(*s, error);
  }
  return kSuccess;
}

int forbidden_on_capturing(void* handle, int error) {
  Stream& s = stream_of(handle);
  return s.capturing ? invalidate(s, error) : kSuccess;
}

}  // namespace driver

using namespace driver;

API cuStreamCreate(void** handle, unsigned) { *handle = new Stream; return kSuccess; }
API cuStreamCreateWithPriority(void** handle, unsigned flags, int) { return cuStreamCreate(handle, flags); }
API cuStreamDestroy_v2(void* handle) {
  if (is_default(handle)) return kInvalidHandle;
  Stream* s = static_cast<Stream*>(handle);
  for (auto it = g_capturing.begin(); it != g_capturing.end(); ++it) {
    if (*it != s) continue;
    g_capturing.erase(it);
    break;
  }
  delete s->graph;
  delete s;
  return kSuccess;
}
API cuStreamSynchronize(void* handle) { return forbidden_on_capturing(handle, kCaptureUnsupported); }
API cuStreamQuery(void* handle) { return forbidden_on_capturing(handle, kCaptureUnsupported); }
API cuCtxSynchronize() { return forbidden_in_capture(kCaptureUnsupported); }
API cuStreamAttachMemAsync(void*, DevicePtr, size_t, unsigned) { return kSuccess; }
API cuLaunchHostFunc(void* handle, void (*f)(void*), void* data) {
  return submit(handle, [=] {
    f(data);
    return static_cast<int>(kSuccess);
  });
}

API cuStreamIsCapturing(void* handle, int* status) {
  const Stream& s = stream_of(handle);
  *status = !s.capturing ? 0 : s.invalidated ? 2 : 1;
  return kSuccess;
}
API cuStreamBeginCapture_v2(void* handle, int mode) {
  if (is_default(handle)) return kCaptureUnsupported;
  Stream& s = stream_of(handle);
  if (s.capturing) return kInvalidValue;
  s.capturing = true;
  s.invalidated = false;
  s.mode = mode;
  s.graph = new Graph;
  g_capturing.push_back(&s);
  return kSuccess;
}
API cuStreamEndCapture(void* handle, Graph** graph) {
  Stream& s = stream_of(handle);
  *graph = nullptr;
  if (!s.capturing) return kCaptureUnmatched;
  s.capturing = false;
  for (auto it = g_capturing.begin(); it != g_capturing.end(); ++it) {
    if (*it != &s) continue;
    g_capturing.erase(it);
    break;
  }
  Graph* recorded = s.graph;
  s.graph = nullptr;
  if (s.invalidated) {
    delete recorded;
    return kCaptureInvalidated;
  }
  *graph = recorded;
  return kSuccess;
}
API cuGraphInstantiateWithFlags(Graph** exec, const Graph* graph, unsigned long long) {
  if (!graph) return kInvalidValue;
  *exec = new Graph(*graph);
  return kSuccess;
}
API cuGraphUpload(const Graph* exec, void*) { return exec ? kSuccess : kInvalidValue; }
API cuGraphLaunch(const Graph* exec, void* handle) {
  if (!exec) return kInvalidValue;
  if (int e = forbidden_on_capturing(handle, kCaptureUnsupported)) return e;
  for (const auto& node : exec->nodes)
    if (int e = node()) return e;
  return kSuccess;
}
API cuGraphGetNodes(const Graph* graph, void** nodes, size_t* n) {
  if (!graph || nodes) return graph ? kNotSupported : kInvalidValue;
  *n = graph->nodes.size();
  return kSuccess;
}
API cuGraphExecDestroy(Graph* exec) { delete exec; return kSuccess; }
API cuGraphDestroy(Graph* graph) { delete graph; return kSuccess; }

API cuEventCreate(void** handle, unsigned) { *handle = new Event; return kSuccess; }
API cuEventDestroy_v2(void* handle) { delete static_cast<Event*>(handle); return kSuccess; }
API cuEventRecord(void* handle, void* stream) {
  Event& e = *static_cast<Event*>(handle);
  const Stream& s = stream_of(stream);
  e.recorded = true;
  e.captured_in = s.capturing ? s.graph : nullptr;
  e.at = std::chrono::steady_clock::now();
  return kSuccess;
}
API cuEventSynchronize(void* handle) {
  const Event& e = *static_cast<Event*>(handle);
  return e.captured_in ? kCapturedEvent : kSuccess;
}
API cuEventQuery(void* handle) { return cuEventSynchronize(handle); }
API cuStreamWaitEvent(void* stream, void* handle, unsigned) {
  const Event& e = *static_cast<Event*>(handle);
  Stream& s = stream_of(stream);
  // A captured stream may only depend on what the same capture recorded.
  if (s.capturing && e.recorded && e.captured_in != s.graph) return invalidate(s, kCaptureIsolation);
  return kSuccess;
}
API cuEventElapsedTime_v2(float* milliseconds, void* begin, void* end) {
  const Event &a = *static_cast<Event*>(begin), &b = *static_cast<Event*>(end);
  if (!a.recorded || !b.recorded) return kInvalidHandle;
  *milliseconds = std::chrono::duration<float, std::milli>(b.at - a.at).count();
  return kSuccess;
}
API cuEventElapsedTime(float* milliseconds, void* begin, void* end) {
  return cuEventElapsedTime_v2(milliseconds, begin, end);
}

// For the stand-in cuBLASLt.
extern "C" __attribute__((visibility("default"))) int reskill_simt_submit(void* stream,
                                                                          const std::function<int()>& work) {
  return submit(stream, work);
}
