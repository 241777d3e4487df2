//! Attention on a CUDA device: which kernels, over which work lists.

mod kernels;
mod plan;
mod packed;
mod hopper;
mod cached_lists;
mod cached;

pub(super) use cached::{CachedTables, append, forward_cached, tables};
pub(super) use packed::{PackedPlans, Saved, backward, forward};
