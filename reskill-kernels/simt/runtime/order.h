// In which order the blocks of a grid run.
#pragma once
#include "block.h"

namespace simt {

// A permutation of 0..total-1 without a table: forward, reverse, or i -> (offset + i * step) mod total.
class BlockSequence {
 public:
  BlockSequence(const Order& order, uint64_t total);
  uint64_t at(uint64_t k) const {
    return static_cast<uint64_t>((offset_ + static_cast<unsigned __int128>(k) * step_) % total_);
  }

 private:
  uint64_t total_, offset_ = 0, step_ = 1;
};

// The tracing build's bookkeeping of a launch; nothing otherwise.
#if defined(SIMT_TRACE)
void trace_launch_begin();
void trace_launch_end();
#else
inline void trace_launch_begin() {}
inline void trace_launch_end() {}
#endif

}  // namespace simt
