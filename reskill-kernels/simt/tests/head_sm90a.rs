//! Output head, divergence and sampling on compute capability 9.0: the tests of `head_and_loss`.
//!
//! One program, since the capability holds for the process.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "head_and_loss/support.rs"]
#[expect(dead_code, reason = "`head_and_loss` uses the rest")]
mod support;
#[path = "head_and_loss/head.rs"]
mod head;
#[path = "head_and_loss/logprob_forward.rs"]
mod logprob_forward;
#[path = "head_and_loss/logprob_backward.rs"]
mod logprob_backward;
#[path = "head_and_loss/logprob_blocks.rs"]
mod logprob_blocks;
#[path = "head_and_loss/divergence.rs"]
mod divergence;
#[path = "head_and_loss/linear_sample.rs"]
mod linear_sample;
#[path = "head_and_loss/costs.rs"]
mod costs;

const CAPABILITY: Option<i32> = Some(90);
