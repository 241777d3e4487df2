//! Attention on a CUDA device: which kernels, over which work lists.

mod kernels;
mod packed;
mod plan;

pub(super) use packed::{PackedPlans, Saved, backward, forward};
