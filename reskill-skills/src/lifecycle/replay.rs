//! A history played again: the bank before and after every version that was decided on.

use crate::bank::{Operation, SkillBank};
use crate::error::SkillError;
use crate::lifecycle::{HistoryKind, HistoryRecord};
use crate::skill::SkillLimits;

/// A version that was decided on, between its banks.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayedVersion<'a> {
    /// The record of the decision.
    pub record: &'a HistoryRecord,
    /// The incumbent it was tested against.
    pub before: SkillBank,
    /// The candidate.
    pub after: SkillBank,
}

/// The versions of a history in order, and the bank that it leads to from `first`.
///
/// Of candidates that were put under test without a proposal (`Lifecycle::start_test`) the history does not hold when the test
/// began; their new skills count as born at the decision.
///
/// # Errors
/// Whatever [`SkillBank::apply`] refuses: then the history is not that of `first`.
pub fn replay<'a>(
    history: &'a [HistoryRecord],
    first: &SkillBank,
    limits: &SkillLimits,
) -> Result<(Vec<ReplayedVersion<'a>>, SkillBank), SkillError> {
    let mut bank = first.clone();
    let mut versions = Vec::new();
    let mut proposed: Option<(&[Operation], SkillBank)> = None;
    for record in history {
        match record.kind {
            HistoryKind::Proposed => {
                proposed = Some((&record.operations, bank.apply(&record.operations, record.step, limits)?));
            }
            HistoryKind::Accepted | HistoryKind::Pruned | HistoryKind::Rejected => {
                let after = match proposed.take().filter(|(operations, _)| *operations == record.operations) {
                    Some((_, candidate)) => candidate,
                    None => bank.apply(&record.operations, record.step, limits)?,
                };
                let before = bank.clone();
                bank = match record.kind {
                    // Ids of rejected skills are not given again.
                    HistoryKind::Rejected => bank.reserving_ids_below(after.next_id()),
                    _ => after.clone(),
                };
                if record.decision.is_some() {
                    versions.push(ReplayedVersion { record, before, after });
                }
            }
            HistoryKind::Refused | HistoryKind::CreatorFailed | HistoryKind::CreatorMissed => {}
        }
    }
    Ok((versions, bank))
}
