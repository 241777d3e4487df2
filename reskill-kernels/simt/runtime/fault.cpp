// A kernel that touches memory outside every allocation, or divides by zero, ends its launch with words.
//
// The handler makes the faulting fiber continue in `report`, which fails the launch; faults outside a launch go to the
// handler that was there before.
#include "fault.h"

#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>

#include <mutex>

#include "block.h"

namespace simt {

namespace {

thread_local unsigned char* g_emergency_top = nullptr;
thread_local void* g_fault_address = nullptr;
thread_local int g_fault_signal = 0;
struct sigaction g_before[3];
const int kSignals[3] = {SIGSEGV, SIGBUS, SIGFPE};

[[noreturn]] void report() {
  if (g_fault_signal == SIGFPE) fail("integer division by zero");
  const Fiber& f = running_fiber();
  const char* address = static_cast<const char*>(g_fault_address);
  const char* low = static_cast<const char*>(f.context.stack);
  if (low && address < low && address >= low - 4096) fail("the thread's local variables do not fit its stack");
  fail("an invalid address is accessed: %p", g_fault_address);
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
void handle(int signal, siginfo_t* info, void* context) {
  if (!is_host()) {
    g_fault_address = info->si_addr;
    g_fault_signal = signal;
    auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    registers[REG_RIP] = reinterpret_cast<greg_t>(&report);
    // As after a call: the return address would lie at a multiple of 16 plus 8.
    registers[REG_RSP] = static_cast<greg_t>((reinterpret_cast<uintptr_t>(g_emergency_top) & ~uintptr_t{15}) - 8);
    return;
  }
  for (int i = 0; i < 3; ++i) {
    if (kSignals[i] != signal) continue;
    if (g_before[i].sa_flags & SA_SIGINFO) return g_before[i].sa_sigaction(signal, info, context);
    sigaction(signal, &g_before[i], nullptr);  // default action at the next instruction
  }
}

void ensure_signal_stack() {
  stack_t now;
  if (sigaltstack(nullptr, &now) == 0 && !(now.ss_flags & SS_DISABLE)) return;
  static thread_local unsigned char* memory = nullptr;
  constexpr size_t kBytes = 64 << 10;
  if (!memory) memory = static_cast<unsigned char*>(malloc(kBytes));
  stack_t own = {};
  own.ss_sp = memory;
  own.ss_size = kBytes;
  sigaltstack(&own, nullptr);
}
#endif

}  // namespace

void catch_faults(unsigned char* emergency_top) {
  g_emergency_top = emergency_top;
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
  ensure_signal_stack();
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction ours = {};
    ours.sa_sigaction = &handle;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    sigemptyset(&ours.sa_mask);
    for (int i = 0; i < 3; ++i) sigaction(kSignals[i], &ours, &g_before[i]);
  });
#else
  (void)report;
#endif
}

}  // namespace simt
