//! Advantages, weights of tokens, packing, the gradient of a whole update, the optimizer.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../../reskill-model/tests/it/reference.rs"]
mod reference;
mod support;
mod advantage;
mod step_advantage;
mod loss;
mod packing;
mod optimizer;
mod learner;
mod adapter;
mod variants;
mod guard;
mod memory_plan;
mod trees;
mod properties;
mod json;
mod parity;
mod bandit;
