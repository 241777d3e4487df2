//! Group-relative policy optimisation (GRPO) for multi-turn agents.
//!
//! The pieces can be used one by one: [`group_advantages`] turns returns into advantages, [`LossConfig`] describes the
//! clipped loss, [`Packing`] lays trajectories out as trunks and branches, [`Optimizer`] is AdamW with clipping, and
//! [`Learner`] joins them into one update of a policy.
//!
//! ```
//! use reskill_grpo::{AdvantageConfig, group_advantages};
//!
//! let advantages = group_advantages(&[1.0, 0.0, 5.0], &[0, 0, 9], &AdvantageConfig::default())?;
//! assert!((advantages[0] - 0.70711).abs() < 1e-4);
//! assert_eq!(advantages[2], 0.0); // a group of one
//! # Ok::<(), reskill_grpo::GrpoError>(())
//! ```
#![forbid(unsafe_code)]

pub mod trajectory;
pub mod advantage;
pub mod step_advantage;
pub mod loss;
pub mod token_loss;
pub mod packing;
pub mod schedule;
pub mod moments;
pub mod optimizer;
pub mod memory;
pub mod learner;
pub mod error;

pub use advantage::{AdvantageConfig, Baseline, Singleton, StdNorm, group_advantages, turn_advantages};
pub use error::GrpoError;
pub use learner::{
    ImitationMetrics, Learner, LearnerConfig, MinibatchSplit, RatioQuantiles, Reference, UpdateMetrics,
};
pub use loss::{Aggregation, KlEstimator, LossConfig, OldLogprobs, RatioLevel, SequenceUnit, Surrogate};
pub use memory::{MemoryPlan, MemoryRequest};
pub use moments::MomentPrecision;
pub use optimizer::{Optimizer, OptimizerConfig};
pub use packing::Packing;
pub use schedule::{Decay, Schedule};
pub use step_advantage::{Anchor, StepAdvantageConfig, StepOutcome, turn_advantages_with_steps};
pub use trajectory::{TokenTrajectory, TokenTurn};

/// The README's example is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
