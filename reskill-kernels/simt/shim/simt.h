// Runs CUDA kernel source on the CPU: each thread of a block is a fiber, so barriers, shuffles, votes and warp-wide
// matrix instructions behave as on the device, and what a loop over threads would hide is found: shared memory starts
// as NaN patterns, asynchronous copies arrive at their wait and not before, threads run in adversarial orders.
//
// C++17, compiled with -DRESKILL_SIMT; a kernel includes prelude.cuh, which includes this instead of CUDA's own words.
#pragma once
#include "types.h"
#include "intrinsics.h"
#include "thread.h"
#include "warp.h"
#include "memory.h"
#include "matrix.h"
#include "hopper.h"
#include "atomics.h"
#include "registry.h"
