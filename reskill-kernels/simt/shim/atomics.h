// Atomics. One OS thread runs the whole launch, so a plain read-modify-write is atomic for the kernel.
#pragma once
#include "memory.h"

// An atomic is no race, so its access is not instrumented; it counts as read and written.
#if defined(SIMT_TRACE)
#define SIMT_ATOMIC __attribute__((no_sanitize("thread"), noinline))
#else
#define SIMT_ATOMIC
#endif

template <class T, class F>
SIMT_ATOMIC static inline T simt_modify(T* p, F f) {
#if defined(SIMT_TRACE)
  simt::trace_atomic(p, sizeof(T));
#endif
  const T old = *p;
  *p = f(old);
  return old;
}
template <class T>
static inline T atomicAdd(T* p, T v) { return simt_modify(p, [v](T o) { return (T)(o + v); }); }
template <class T>
static inline T atomicSub(T* p, T v) { return simt_modify(p, [v](T o) { return (T)(o - v); }); }
template <class T>
static inline T atomicMax(T* p, T v) { return simt_modify(p, [v](T o) { return o > v ? o : v; }); }
template <class T>
static inline T atomicMin(T* p, T v) { return simt_modify(p, [v](T o) { return o < v ? o : v; }); }
template <class T>
static inline T atomicExch(T* p, T v) { return simt_modify(p, [v](T) { return v; }); }
template <class T>
static inline T atomicCAS(T* p, T expected, T v) { return simt_modify(p, [=](T o) { return o == expected ? v : o; }); }
template <class T>
static inline T atomicOr(T* p, T v) { return simt_modify(p, [v](T o) { return (T)(o | v); }); }
template <class T>
static inline T atomicAnd(T* p, T v) { return simt_modify(p, [v](T o) { return (T)(o & v); }); }
static inline unsigned atomicInc(unsigned* p, unsigned limit) {
  return simt_modify(p, [limit](unsigned o) { return o >= limit ? 0u : o + 1; });
}
