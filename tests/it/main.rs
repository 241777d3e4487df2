//! Tests across the crates of the workspace.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod architecture;
mod real_rollouts;
mod warm_start;
