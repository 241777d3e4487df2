// Context switch: callee-saved registers on the stack, and the stack pointer exchanged.
#include "fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
extern "C" void reskill_simt_switch(void** save, void* next);
__asm__(
    ".text\n.type reskill_simt_switch,@function\n.hidden reskill_simt_switch\nreskill_simt_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size reskill_simt_switch,.-reskill_simt_switch\n");
#endif

namespace simt {

namespace {
#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStackBytes = 256 << 10;  // instrumented frames are larger
#else
constexpr size_t kStackBytes = 64 << 10;
#endif
constexpr size_t kGuardBytes = 4096;
constexpr unsigned kStacks = Stacks::kThreads + 1;  // and one for emergencies
}  // namespace

void Stacks::map() {
  const size_t bytes = (kStackBytes + kGuardBytes) * kStacks;
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) {
    fprintf(stderr, "reskill-simt: no memory for %zu bytes of stacks\n", bytes);
    abort();
  }
  base_ = static_cast<unsigned char*>(p);
  for (unsigned i = 0; i < kStacks; ++i) mprotect(base_ + i * (kStackBytes + kGuardBytes), kGuardBytes, PROT_NONE);
}

Stacks::~Stacks() {
  if (!base_) return;
#if defined(__SANITIZE_ADDRESS__)
  // Whoever gets these addresses next must not meet what was poisoned for the frames of fibers.
  __asan_unpoison_memory_region(base_, (kStackBytes + kGuardBytes) * kStacks);
#endif
  munmap(base_, (kStackBytes + kGuardBytes) * kStacks);
}

unsigned char* Stacks::emergency_top() {
  if (!base_) map();
  return base_ + (kStackBytes + kGuardBytes) * kStacks - 64;
}

void Stacks::prepare(Context& context, unsigned index, void (*entry)()) {
  if (!base_) map();
  unsigned char* low = base_ + index * (kStackBytes + kGuardBytes) + kGuardBytes;
  context.stack = low;
  context.stack_bytes = kStackBytes;
  context.fake = nullptr;
  // Tops are staggered: at equal offsets all stacks would fight for the same sets of the L1 cache.
  unsigned char* top = low + kStackBytes - (index % 61) * 64;
#if defined(__x86_64__)
  void** sp = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t{15});
  *--sp = nullptr;  // so that the entry finds the stack aligned as after a call
  *--sp = reinterpret_cast<void*>(entry);
  for (int r = 0; r < 6; ++r) *--sp = nullptr;
  context.sp = sp;
#else
  getcontext(&context.uc);
  context.uc.uc_stack.ss_sp = low;
  context.uc.uc_stack.ss_size = static_cast<size_t>(top - low);
  context.uc.uc_link = nullptr;
  makecontext(&context.uc, entry, 0);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(low, kStackBytes);  // the frames of the last block's fiber
#endif
}

void switch_context(Context& from, Context& to, bool last) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.fake, to.stack, to.stack_bytes);
#else
  (void)last;
#endif
#if defined(__x86_64__)
  reskill_simt_switch(&from.sp, to.sp);
#else
  swapcontext(&from.uc, &to.uc);
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.fake, nullptr, nullptr);
#endif
}

void entered_context(Context* host) {
#if defined(__SANITIZE_ADDRESS__)
  // The first fiber comes from the host and learns the bounds of its stack.
  const void* bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
  if (!host->stack) {
    host->stack = bottom;
    host->stack_bytes = bytes;
  }
#else
  (void)host;
#endif
}

}  // namespace simt
