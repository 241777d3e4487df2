// Hooks of the tracing build: how a warp's accesses fall on device and shared memory; nothing in the others.
#pragma once
#include <stddef.h>

namespace simt {

#if defined(SIMT_TRACE)
// One thread's access at the statement whose machine code calls from `site`.
void request_access(const void* site, const void* p, size_t bytes, bool write);
void requests_block_begin();
void requests_block_end();
void requests_launch_end();
#else
inline void requests_block_begin() {}
inline void requests_block_end() {}
inline void requests_launch_end() {}
#endif

}  // namespace simt
