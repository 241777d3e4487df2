//! Output head, divergence, sampling, loss and eight-bit AdamW on the device, against the CPU and against f64.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod support;
mod head;
mod logprob_forward;
mod logprob_backward;
mod logprob_blocks;
mod logprob_refusals;
mod divergence;
mod linear_sample;
mod sample_logits;
mod grpo_loss;
mod adamw_8bit;
mod costs;
mod example;

/// As RESKILL_SIMT_CC says; `head_sm90a` has the same tests of the head on 9.0.
const CAPABILITY: Option<i32> = None;
