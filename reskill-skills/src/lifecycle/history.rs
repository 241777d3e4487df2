//! What happened to the bank, in order.

use serde::{Deserialize, Serialize};

use crate::bank::Operation;
use crate::creator::artefacts::Artefacts;
use crate::version_test::Decision;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// A candidate came under test.
    Proposed,
    /// A candidate became the incumbent.
    Accepted,
    /// A candidate went.
    Rejected,
    /// A bundle of deletions was carried out.
    Pruned,
    /// A proposal did not pass the gate or did not apply.
    Refused,
    /// The creator returned an error.
    CreatorFailed,
    /// The creator's answer was not there when it was due.
    CreatorMissed,
}

/// One event. Records are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRecord {
    /// Training step.
    pub step: u64,
    /// What happened.
    pub kind: HistoryKind,
    /// The bundle concerned.
    pub operations: Vec<Operation>,
    /// Why, in a sentence.
    pub reason: String,
    /// The decision with its posterior, for records that end a test.
    pub decision: Option<Decision>,
    /// The creator's stages, for proposals.
    pub artefacts: Option<Artefacts>,
}
