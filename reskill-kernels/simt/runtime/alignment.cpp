// Accesses whose address is no multiple of their type's alignment: a device faults on them, a processor does not mind.
//
// Kernels are compiled with -fsanitize=alignment, whose checks call the function below where they fail.
#include <stdint.h>

#include "thread.h"

namespace {

// What the compiler passes, as its run-time library declares it (ubsan_handlers.h, `TypeMismatchData`).
struct TypeDescriptor {
  uint16_t kind, info;
  char name[1];  // zero-terminated
};
struct TypeMismatch {
  const char* file;
  uint32_t line, column;
  const TypeDescriptor* type;
  unsigned char log_alignment, kind;
};

}  // namespace

extern "C" void __ubsan_handle_type_mismatch_v1_abort(const TypeMismatch* what, const void* address) {
  simt::fail("%p is accessed as %s at %s:%u, but is not aligned to %u bytes", address, what->type->name, what->file,
             what->line, 1u << what->log_alignment);
}
