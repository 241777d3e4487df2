//! Every operation against hand-computed numbers, a plain f64 version, finite differences, and its error messages.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
mod embedding;
mod rms_norm;
mod qk_norm;
mod bias;
mod low_rank;
mod matmul;
mod packed_matmul;
mod rope;
mod attention;
mod swiglu;
mod linear_logprob;
mod linear_logprob_tiles;
mod linear_kl;
mod sampling;
mod sample_logits;
mod grpo_loss;
mod grpo_loss_variants;
mod optimizer;
mod optimizer_8bit;
