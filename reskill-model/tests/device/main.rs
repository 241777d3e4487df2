//! The network on a CUDA device (the stand-in of `reskill-simt`, or a real one with `RESKILL_GPU_TESTS=1`) against the
//! network on the CPU: log-probabilities, gradients, generation, weights on disk.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
mod packed;
mod cached;
mod files;
