//! Training on a CUDA device (the stand-in of `reskill-simt`, or a real one with `RESKILL_GPU_TESTS=1`) against training
//! on the CPU: updates, imitation, masters of bf16 weights, resumed optimizers.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
mod update;
mod loss;
mod plan;
mod resume;
