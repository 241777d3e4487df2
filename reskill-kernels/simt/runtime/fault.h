// Turns a kernel's invalid access into a failed launch.
#pragma once

namespace simt {

// Installs the handler once for the process; `emergency_top` is a stack for a thread that overflowed its own.
void catch_faults(unsigned char* emergency_top);

}  // namespace simt
