//! The record of a step in `metrics.jsonl`.

use std::collections::BTreeMap;

use reskill_grpo::UpdateMetrics;
use reskill_skills::assertion::{AssertionReport, AssertionRow};
use reskill_skills::{Decision, Lifecycle, PosteriorSummary, SkillEpisode, SkillId};
use serde_json::{Value, json};

use super::groups::count_groups;
use crate::creators::CreatorSummary;
use crate::episodes::Use;
use crate::failure_modes;
use crate::rollout::RolloutCost;

/// What a step did.
pub(super) struct StepFacts<'a> {
    pub(super) step: u64,
    /// The episodes that the environment did not lose.
    pub(super) records: &'a [SkillEpisode],
    /// How many it did lose; no other number counts them.
    pub(super) faults: usize,
    /// Absent while the policy is frozen.
    pub(super) update: Option<&'a UpdateMetrics>,
    /// The test that goes on.
    pub(super) posterior: Option<&'a PosteriorSummary>,
    /// The test that ended.
    pub(super) decision: Option<&'a Decision>,
    /// How much each skill was used.
    pub(super) shown: BTreeMap<SkillId, Use>,
    pub(super) cost: RolloutCost,
    /// The turn limit of the episodes.
    pub(super) max_turns: usize,
    /// Of rollout, update, skills.
    pub(super) seconds: [f64; 3],
}

impl StepFacts<'_> {
    /// Share of the episodes that succeeded.
    pub(super) fn success(&self) -> f64 {
        let won = self.records.iter().filter(|record| record.episode.is_success()).count();
        won as f64 / self.records.len().max(1) as f64
    }

    /// Of rollout and update.
    pub(super) fn tokens_per_second(&self) -> (f64, f64) {
        let packed = self.update.map_or(0, |update| update.packed_tokens);
        let [rollout, update, _] = self.seconds.map(|seconds| seconds.max(1e-9));
        (self.cost.tokens_run as f64 / rollout, packed as f64 / update)
    }

    /// The record. All that depends on the clock stands under `time`.
    pub(super) fn record(&self, lifecycle: &Lifecycle) -> Value {
        let n_episodes = self.records.len().max(1) as f64;
        let turns: usize = self.records.iter().map(|record| record.episode.turns.len()).sum();
        let all_turns = self.records.iter().flat_map(|record| &record.episode.turns);
        let invalid = all_turns.filter(|turn| !turn.valid).count();
        let return_: f64 = self.records.iter().map(|record| f64::from(record.episode.return_)).sum();
        let bank: Vec<&str> =
            lifecycle.incumbent().skills().iter().map(|skill| skill.content.name.as_str()).collect();
        let [rollout_seconds, update_seconds, skills_seconds] = self.seconds;
        let rates = self.tokens_per_second();
        let (groups, mixed_groups) = count_groups(self.records);
        json!({
            "kind": "step",
            "step": self.step,
            "success": self.success(),
            "mean_return": return_ / n_episodes,
            "episodes": self.records.len(),
            "groups": groups,
            // Groups whose returns differ: only these have advantages.
            "mixed_groups": mixed_groups,
            "faults": self.faults,
            "mean_turns": turns as f64 / n_episodes,
            "invalid_fraction": invalid as f64 / turns.max(1) as f64,
            // Empty while the policy is frozen.
            "update": self.update.map_or_else(|| json!({}), |update| json!(update)),
            "posterior": self.posterior,
            "decision": self.decision.map(|decision| decision.verdict),
            "bank": bank,
            "shown": self.shown,
            "failures": failure_modes::count(self.records, self.max_turns),
            "assertions": self.assertions(lifecycle),
            "creator": CreatorSummary::of(lifecycle),
            "overflowed": self.cost.overflowed,
            "tokens": {
                "run": self.cost.tokens_run,
                "without_reuse": self.cost.tokens_without_reuse,
                "generated": self.cost.tokens_generated,
            },
            "time": {
                "rollout_seconds": rollout_seconds,
                "update_seconds": update_seconds,
                "skills_seconds": skills_seconds,
                "creator_seconds": lifecycle.creator_cost().seconds,
                "rollout_tokens_per_second": rates.0,
                "update_tokens_per_second": rates.1,
            },
        })
    }

    /// Passes of each live assertion among successes and among failures.
    fn assertions(&self, lifecycle: &Lifecycle) -> BTreeMap<String, Value> {
        let report = AssertionReport::of(lifecycle.assertions(), self.records);
        let rates = |row: AssertionRow| (row.name, json!({ "success": row.success, "failure": row.failure }));
        report.rows.into_iter().map(rates).collect()
    }
}
