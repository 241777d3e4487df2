// Hooks of the race detector of the tracing build; nothing in the others.
#pragma once
#include <stddef.h>

namespace simt {

#if defined(SIMT_TRACE)
void race_block_begin();
void race_variable(const void* begin, size_t bytes);
void race_access(const void* p, size_t bytes, bool write);
// There are barriers whose order is not followed here: the block, or cluster, is not looked at any more.
void race_leave_block();
// Whether `p` lies in a shared variable of the block, and where.
bool race_offset(const void* p, size_t* offset);
#else
inline void race_block_begin() {}
inline void race_variable(const void*, size_t) {}
inline void race_leave_block() {}
#endif

}  // namespace simt
