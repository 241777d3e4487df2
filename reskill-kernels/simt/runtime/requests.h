// Hooks of the tracing build: how a warp's accesses fall on device and shared memory; nothing in the others.
#pragma once
#include <stddef.h>

namespace simt {

#if defined(SIMT_TRACE)
// One thread's access at the statement whose machine code calls from `site`.
void request_access(const void* site, const void* p, size_t bytes, bool write);
// A matrix load or store: `n` rows of 16 bytes of shared memory, eight of them a pass.
void request_rows(const void* site, const void* const* rows, int n, bool write);
void requests_block_begin();
void requests_block_end();
#else
inline void requests_block_begin() {}
inline void requests_block_end() {}
#endif

}  // namespace simt
