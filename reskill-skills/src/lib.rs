//! Skills that evolve while a policy is trained.
//!
//! A *skill* is a short piece of guidance with a trigger; a [`SkillBank`] is an immutable set of them, kept on disk as
//! Agent Skills folders. While a candidate bank is under test, every rollout plays one version; the test
//! ([`version_test`]) compares the versions inside groups that share a task. A [`creator`] reads episodes and proposes the
//! next candidate. [`Lifecycle`] ties these together for a trainer.
//!
//! ```
//! use reskill_skills::{Operation, SkillBank, SkillContent, SkillLimits, Trigger};
//!
//! let skill = SkillContent {
//!     name: "open-after-go-to".into(),
//!     when_to_use: "Right after a `go to` command.".into(),
//!     action: "next open".into(),
//!     example: None,
//!     trigger: Trigger::after_action("^go to (cabinet|drawer)")?,
//!     guidance: None,
//! };
//! let bank = SkillBank::default().apply(&[Operation::Add(skill)], 0, &SkillLimits::default())?;
//! assert_eq!(bank.triggered(3, Some("go to drawer 2")).len(), 1);
//! # Ok::<(), reskill_skills::SkillError>(())
//! ```
#![forbid(unsafe_code)]

pub mod error;
pub mod trigger;
pub mod guidance;
pub mod skill;
pub mod skill_md;
pub mod library;
pub mod prompt;
pub mod bank;
pub mod diff;
pub mod episode;
pub mod transcript;
pub mod reservoir;
pub mod version_test;
pub mod assertion;
pub mod creator;
pub mod lifecycle;
pub mod store;

pub use bank::{BankDiff, Operation, SkillBank};
pub use creator::offline::{OfflineConfig, OfflineCreator};
pub use creator::{Creator, CreatorConfig, CreatorContext, CreatorKind, CreatorRequest, Proposal};
pub use episode::{Heed, Rate, SkillEpisode};
pub use error::SkillError;
pub use guidance::{Guidance, Polarity};
pub use lifecycle::{BackgroundCreator, HistoryKind, HistoryRecord, Lifecycle, LifecycleConfig};
pub use lifecycle::{PosteriorSummary, SkillMode, TriggerScope};
pub use reservoir::{Reservoir, ReservoirConfig};
pub use skill::{Example, Skill, SkillContent, SkillId, SkillLimits, SkillStatus};
pub use trigger::{Pattern, Trigger};
pub use version_test::{Arm, Decision, Verdict, VersionTest, VersionTestConfig};

/// The README's example is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
