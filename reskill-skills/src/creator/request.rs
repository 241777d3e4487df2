//! Everything a creator may look at, as a value that can be kept, sent to another thread and written to a checkpoint.

use reskill_envs::ActionVocabulary;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::assertion::AssertionSet;
use crate::bank::SkillBank;
use crate::creator::verify::VerifyConfig;
use crate::creator::{Creator, CreatorContext, Proposal};
use crate::error::SkillError;
use crate::lifecycle::HistoryRecord;
use crate::reservoir::Reservoir;
use crate::skill::SkillLimits;

/// A request for a proposal, and the step at which the answer is due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreatorRequest {
    /// Training step at which it was made.
    pub step: u64,
    /// Training step at whose end the answer joins.
    pub join_step: u64,
    /// Most task groups to read.
    pub sample_groups: usize,
    /// The live bank.
    pub bank: SkillBank,
    /// The experience.
    pub reservoir: Reservoir,
    /// The commands of the environment.
    pub vocabulary: ActionVocabulary,
    /// The live assertions.
    pub assertions: AssertionSet,
    /// What happened so far, without the artefacts of earlier proposals.
    pub history: Vec<HistoryRecord>,
    /// Limits on text and bundles.
    pub limits: SkillLimits,
    /// The gate.
    pub verify: VerifyConfig,
}

impl CreatorRequest {
    /// Asks a creator.
    ///
    /// # Errors
    /// Whatever stops the creator.
    pub fn ask(&self, creator: &mut dyn Creator) -> Result<Option<Proposal>, SkillError> {
        let groups = self.reservoir.task_groups(self.sample_groups);
        creator.propose(&CreatorContext {
            step: self.step,
            bank: &self.bank,
            episodes: self.reservoir.entries(),
            groups: &groups,
            vocabulary: &self.vocabulary,
            assertions: &self.assertions,
            history: &self.history,
            limits: &self.limits,
            verify: &self.verify,
        })
    }

    /// SHA-256 of the request, in hexadecimal: what a recorded outcome is an outcome of.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        // Writing to a vector cannot fail, and every field is a plain value.
        let json = serde_json::to_vec(self).unwrap_or_default();
        fingerprint(&json)
    }
}

/// SHA-256 of some bytes, in hexadecimal.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
