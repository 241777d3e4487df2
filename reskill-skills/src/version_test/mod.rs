//! Which version of the bank is better: a test that runs inside the training groups.
//!
//! Each rollout of a group plays one [`Arm`]. After each step [`VersionTest::record`] updates a Beta posterior per arm
//! (they steer the assignment of the next step) and keeps the raw counts per group (they decide, see [`rule`]).

pub mod arms;
pub mod config;
pub(crate) mod quadrature;
pub(crate) mod logit_density;
pub mod posterior;
pub mod discount;
pub mod assign;
pub mod control;
pub mod score;
pub mod spending;
pub mod rule;
pub mod decision;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use arms::{Arm, Counts, GroupCounts, StepCounts};
pub use assign::{assign, shares};
pub use config::{Assignment, Rule, Sampling, VersionTestConfig};
pub use decision::{ArmSummary, Decision, Evidence, Reason, Verdict};
pub use discount::{Discount, RetentionScores, estimate_retention};
pub use posterior::{Beta, p_best, p_greater};
pub use rule::Claim;
pub use score::Score;
pub use spending::Spending;

/// A test of one or more candidates against the incumbent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VersionTest {
    /// Posterior of each arm; the incumbent is first.
    posteriors: Vec<Beta>,
    /// Probability that each arm is the best one.
    p_best: Vec<f64>,
    /// P(candidate > incumbent), for each candidate.
    p_better: Vec<f64>,
    /// Raw counts, step by step.
    steps: Vec<StepCounts>,
}

impl VersionTest {
    /// A fresh test, every arm at Beta(1, 1).
    #[must_use]
    pub fn new(n_candidates: u8) -> Self {
        let n_arms = usize::from(n_candidates.max(1)) + 1;
        Self {
            posteriors: vec![Beta::UNIFORM; n_arms],
            #[expect(clippy::cast_precision_loss, reason = "at most 256 arms")]
            p_best: vec![1.0 / n_arms as f64; n_arms],
            p_better: vec![0.5; n_arms - 1],
            steps: Vec::new(),
        }
    }

    /// Number of arms, the incumbent included.
    #[must_use]
    pub fn n_arms(&self) -> usize {
        self.posteriors.len()
    }

    /// Posterior of each arm; the incumbent is first.
    #[must_use]
    pub fn posteriors(&self) -> &[Beta] {
        &self.posteriors
    }

    /// Probability that each arm is the best one; the incumbent is first.
    #[must_use]
    pub fn p_best(&self) -> &[f64] {
        &self.p_best
    }

    /// P(candidate > incumbent) of each candidate.
    #[must_use]
    pub fn p_better(&self) -> &[f64] {
        &self.p_better
    }

    /// Raw counts of every step.
    #[must_use]
    pub fn steps(&self) -> &[StepCounts] {
        &self.steps
    }

    /// Takes in the outcomes of one step: (group, arm, success). Arms that are not part of the test are ignored.
    ///
    /// `retention` is the M of [`discount`], `None` while it is unknown.
    pub fn record(
        &mut self,
        step: u64,
        outcomes: impl IntoIterator<Item = (u64, Arm, bool)>,
        discount: Discount,
        retention: Option<u32>,
    ) {
        let mut groups: BTreeMap<u64, Vec<Counts>> = BTreeMap::new();
        let mut totals = vec![Counts::default(); self.n_arms()];
        for (group, arm, success) in outcomes {
            if arm.index() < self.n_arms() {
                groups.entry(group).or_insert_with(|| vec![Counts::default(); self.posteriors.len()])
                    [arm.index()]
                .add(success);
                totals[arm.index()].add(success);
            }
        }
        for (posterior, counts) in self.posteriors.iter_mut().zip(&totals) {
            *posterior = discount.update(*posterior, *counts, retention);
        }
        self.steps.push(StepCounts {
            step,
            groups: groups.into_iter().map(|(group, arms)| GroupCounts { group, arms }).collect(),
        });
        self.p_best = p_best(&self.posteriors);
        self.p_better = match self.p_best.as_slice() {
            [_, p_new] => vec![*p_new],
            _ => self.posteriors[1..].iter().map(|new| p_greater(*new, self.posteriors[0])).collect(),
        };
    }

    /// Totals of an arm over the whole test.
    #[must_use]
    pub fn totals(&self, arm: Arm) -> Counts {
        self.steps.iter().map(|step| step.totals(arm)).fold(Counts::default(), Counts::plus)
    }

    /// Number of episodes of all arms.
    #[must_use]
    pub fn n_episodes(&self) -> u64 {
        (0..self.n_arms()).map(|index| self.totals(Arm::from_index(index)).episodes).sum()
    }

    /// The decision, if it is due. `claim` says what must be shown, see [`Claim`].
    #[must_use]
    pub fn decide(&self, config: &VersionTestConfig, claim: Claim) -> Option<Decision> {
        rule::decide(self, config, claim)
    }
}
