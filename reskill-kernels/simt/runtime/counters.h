// What the launches and copies of this OS thread have done.
#pragma once
#include <stdint.h>

namespace simt {

// Mirrored by `Counters` in src/counters.rs.
struct Counters {
  uint64_t launches;
  uint64_t multiply_adds;      // by mma instructions
  uint64_t read_bytes;         // unique device bytes read, summed over launches; tracing build only
  uint64_t written_bytes;      // unique device bytes written, likewise
  uint64_t downloads;          // copies from the device to the host that moved something
  uint64_t allocations;        // pieces of device memory taken
};

inline Counters& counters() {
  static thread_local Counters c = {};
  return c;
}

}  // namespace simt
