// Context switch between fibers, and their stacks.
#pragma once
#include <stddef.h>
#include <stdint.h>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace simt {

struct Context {
#if defined(__x86_64__)
  void* sp = nullptr;
#else
  ucontext_t uc;
#endif
  // For AddressSanitizer: the bounds of the stack, and its bookkeeping.
  const void* stack = nullptr;
  size_t stack_bytes = 0;
  void* fake = nullptr;
};

// The stacks of the threads of a block or of a cluster, each with a guard page below.
class Stacks {
 public:
  static constexpr unsigned kThreads = 2048;  // of a cluster

  ~Stacks();
  // Makes `context` start `entry` on stack number `index`.
  void prepare(Context& context, unsigned index, void (*entry)());
  unsigned char* emergency_top();  // for the thread that overflowed its own

 private:
  void map();
  unsigned char* base_ = nullptr;
};

// Saves the running context in `from` and continues `to`; `last` if `from` never runs again.
void switch_context(Context& from, Context& to, bool last);
// First thing that a fresh fiber calls.
void entered_context(Context* came_from);

}  // namespace simt
