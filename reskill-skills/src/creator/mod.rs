//! Where new skills come from.
//!
//! A [`Creator`] reads episodes and proposes a bundle of operations. Its stages have typed artefacts
//! ([`artefacts`]), whoever does the thinking; [`verify`] is the gate every proposal must pass. [`offline`] is the
//! creator that needs nothing but statistics; `llm` (feature `llm`) asks a language model.

pub mod artefacts;
pub mod verify;
pub mod cost;
pub mod request;
pub mod config;
pub mod offline;
#[cfg(feature = "llm")]
pub mod llm;

use reskill_envs::ActionVocabulary;

use crate::assertion::AssertionSet;
use crate::bank::SkillBank;
use crate::episode::SkillEpisode;
use crate::error::SkillError;
use crate::lifecycle::HistoryRecord;
use crate::skill::SkillLimits;

pub use artefacts::{
    Artefacts, Change, Cluster, Diagnosis, Evidence, Insight, Proposal, Recommendation, VerifyReport,
};
pub use config::{CreatorConfig, CreatorKind};
pub use cost::{CreatorCost, CreatorHandle};
pub use request::CreatorRequest;
pub use verify::{VerifyConfig, VerifyScope};

/// What a creator may look at.
#[derive(Debug, Clone, Copy)]
pub struct CreatorContext<'a> {
    /// Training step.
    pub step: u64,
    /// The live bank.
    pub bank: &'a SkillBank,
    /// The reservoir, oldest first.
    pub episodes: &'a [SkillEpisode],
    /// Task groups sampled from the reservoir: those with both outcomes first.
    pub groups: &'a [Vec<&'a SkillEpisode>],
    /// The commands of the environment.
    pub vocabulary: &'a ActionVocabulary,
    /// The live assertions.
    pub assertions: &'a AssertionSet,
    /// Everything that happened to the bank so far.
    pub history: &'a [HistoryRecord],
    /// Limits on text and bundles.
    pub limits: &'a SkillLimits,
    /// The gate.
    pub verify: &'a VerifyConfig,
}

/// An author of skills.
pub trait Creator {
    /// Proposes the next candidate; `None` if the evidence suggests nothing.
    ///
    /// # Errors
    /// Whatever stops the author. The lifecycle records it and training goes on.
    fn propose(&mut self, context: &CreatorContext<'_>) -> Result<Option<Proposal>, SkillError>;
}
