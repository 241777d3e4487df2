//! Every tested version of a run, played by the policy that is audited: the bank before it and the bank after it.

use anyhow::{Context, Result, bail};
use reskill_skills::Verdict;
use reskill_skills::lifecycle::{ReplayedVersion, replay};
use serde::{Deserialize, Serialize};

use super::player::Player;
use crate::statistics::{Difference, Mean, difference, mean};
use crate::summary::{change, verdict};
use crate::trainer::Trained;

/// What a version changes for the policy that is audited, which is a later one than the policy that tested it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionAudit {
    /// Training step of the decision.
    pub step: u64,
    /// What the test decided.
    pub verdict: Verdict,
    /// What the version changes, in words.
    pub change: String,
    /// Success with the bank before.
    pub before: Mean,
    /// Success with the bank after.
    pub after: Mean,
    /// After minus before, in pairs of games.
    pub gain: Difference,
}

/// Plays the banks of every version that was decided on.
pub(super) fn audit(trained: &Trained, player: &mut Player<'_>) -> Result<Vec<VersionAudit>> {
    let first = trained.first_bank()?;
    let (versions, last) = replay(&trained.history, &first, &trained.config.skills.limits())
        .context("the history of the run does not begin with its first bank; leave --versions out")?;
    if last != trained.bank {
        bail!("the history of the run does not lead to its bank; leave --versions out");
    }
    let mut audited = Vec::new();
    for ReplayedVersion { record, before, after } in versions {
        let name = |what: &str| format!("{what} step {}", record.step);
        let before = player.play(&name("before"), &before)?;
        let after = player.play(&name("after"), &after)?;
        audited.push(VersionAudit {
            step: record.step,
            verdict: verdict(record),
            change: change(record),
            before: mean(&before.values()),
            after: mean(&after.values()),
            gain: difference(&after.minus(&before)),
        });
    }
    Ok(audited)
}
