// Kernels by name, launched as cuLaunchKernel does: an array of pointers to the arguments.
#pragma once
#include <type_traits>
#include <utility>

#include "types.h"

namespace simt {

struct Kernel {
  const char* name;
  void (*call)(void* function, void** args);  // runs one thread of the kernel
  void* function;
  unsigned n_args;
  const size_t* arg_bytes;  // a captured launch copies its arguments
  unsigned cluster;         // neighbouring blocks along x that run together
};

bool register_kernel(const Kernel& kernel);

template <class... A>
struct Signature {
  static constexpr size_t bytes[sizeof...(A) + 1] = {sizeof(A)..., 0};
  template <size_t... I>
  static void call_with(void (*f)(A...), void** args, std::index_sequence<I...>) {
    (void)args;
    f(*static_cast<std::remove_cv_t<std::remove_reference_t<A>>*>(args[I])...);
  }
  static void call(void* function, void** args) {
    call_with(reinterpret_cast<void (*)(A...)>(function), args, std::index_sequence_for<A...>());
  }
};

template <class... A>
bool register_kernel(const char* name, void (*f)(A...), unsigned cluster = 1) {
  return register_kernel(Kernel{name, &Signature<A...>::call, reinterpret_cast<void*>(f), sizeof...(A),
                                Signature<A...>::bytes, cluster});
}

}  // namespace simt

#define EXPORT_KERNEL(k) static const bool k##_registered_ = simt::register_kernel(#k, &k);
#define EXPORT_CLUSTER_KERNEL(k, n) static const bool k##_registered_ = simt::register_kernel(#k, &k, n);
