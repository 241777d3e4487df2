//! The memory-bound operations on a CUDA device, against plain f64 versions of their formulas, at odd sizes, in several
//! orders of threads.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;

mod tensor;
mod rms_norm;
mod embedding;
mod swiglu;
mod rope;
mod qk_norm;
mod qk_norm_rope;
mod bias;
mod optimizer;
mod low_rank;
mod low_rank_fused;
