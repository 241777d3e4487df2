//! The bank's life during training: observe, decide, evolve.
//!
//! Each step a trainer asks [`Lifecycle::assign_arms`] per group, rolls out with [`Lifecycle::bank`] of the arm, hands
//! all episodes to [`Lifecycle::observe`] and then lets [`Lifecycle::evolve`] start the next test. The whole state is
//! serialisable, a running test included.

pub mod config;
pub mod history;
pub mod replay;
pub mod background;

use rand::Rng;
use reskill_envs::ActionVocabulary;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::assertion::{AssertionReport, AssertionSet};
use crate::bank::{Operation, SkillBank};
use crate::creator::artefacts::Artefacts;
use crate::creator::cost::CreatorCost;
use crate::creator::request::CreatorRequest;
use crate::creator::verify::gate;
use crate::creator::{Creator, CreatorContext, Proposal};
use crate::episode::SkillEpisode;
use crate::error::SkillError;
use crate::reservoir::Reservoir;
use crate::trigger::Trigger;
use crate::version_test::config::Rule;
use crate::version_test::control::deal_anew;
use crate::version_test::discount::{Discount, estimate_retention};
use crate::version_test::{
    Arm, ArmSummary, Claim, Decision, StepCounts, Verdict, VersionTest, assign, shares,
};

pub use background::{BackgroundCreator, OutcomeFiles};
pub use config::{LifecycleConfig, SkillMode, TriggerScope};
pub use history::{HistoryKind, HistoryRecord};
pub use replay::{ReplayedVersion, replay};

/// So many times the rest after a rejection is doubled at most.
const MAX_DOUBLINGS: usize = 4;

/// A candidate bank and the bundle that made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The bank.
    pub bank: SkillBank,
    /// What was done to the incumbent.
    pub operations: Vec<Operation>,
}

/// A test in progress.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct RunningTest {
    started_step: u64,
    claim: Claim,
    candidates: Vec<Candidate>,
    test: VersionTest,
}

/// Counts of a finished test, kept to estimate how fast evidence fades.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct FinishedTest {
    n_arms: usize,
    steps: Vec<StepCounts>,
}

/// Where the version test stands, for logs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PosteriorSummary {
    /// Step at which the test began.
    pub started_step: u64,
    /// Steps so far.
    pub n_steps: usize,
    /// Episodes so far.
    pub n_episodes: u64,
    /// Per arm, the incumbent first.
    pub arms: Vec<ArmSummary>,
    /// P(first candidate > incumbent).
    pub p_new_better: f64,
    /// How many episodes the past is worth (M); `None` while unknown.
    pub retention: Option<u32>,
}

/// The state of the skills during a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    config: LifecycleConfig,
    incumbent: SkillBank,
    running: Option<RunningTest>,
    reservoir: Reservoir,
    assertions: AssertionSet,
    finished: Vec<FinishedTest>,
    retention: Option<u32>,
    history: Vec<HistoryRecord>,
    n_creator_failures: u64,
    /// The request a creator beside training works on.
    #[serde(default)]
    pending: Option<Box<CreatorRequest>>,
    #[serde(default)]
    n_creator_requests: u64,
    #[serde(default)]
    n_creator_misses: u64,
    #[serde(default)]
    creator_cost: CreatorCost,
    #[serde(default)]
    creator_failures_in_a_row: u32,
    /// First step at which the next request may be made.
    #[serde(default)]
    creator_paused_until: u64,
}

impl Lifecycle {
    /// A lifecycle that starts from a bank. With the mode `off` the bank is replaced by an empty one.
    ///
    /// # Errors
    /// [`SkillError::Config`]; [`SkillError::Count`] if the bank has more active skills than allowed.
    pub fn new(config: LifecycleConfig, bank: SkillBank) -> Result<Self, SkillError> {
        config.validate()?;
        let incumbent = if config.mode == SkillMode::Off { SkillBank::default() } else { bank };
        if incumbent.n_active() > config.max_skills {
            return Err(SkillError::Count {
                what: "active skills",
                got: incumbent.n_active(),
                expected: format!("at most {}", config.max_skills),
            });
        }
        Ok(Self {
            reservoir: Reservoir::new(config.reservoir.clone()),
            config,
            incumbent,
            running: None,
            assertions: AssertionSet::default(),
            finished: Vec::new(),
            retention: None,
            history: Vec::new(),
            n_creator_failures: 0,
            pending: None,
            n_creator_requests: 0,
            n_creator_misses: 0,
            creator_cost: CreatorCost::default(),
            creator_failures_in_a_row: 0,
            creator_paused_until: 0,
        })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &LifecycleConfig {
        &self.config
    }

    /// The live bank.
    #[must_use]
    pub fn incumbent(&self) -> &SkillBank {
        &self.incumbent
    }

    /// The first candidate bank, while a test is running.
    #[must_use]
    pub fn candidate(&self) -> Option<&SkillBank> {
        self.running.as_ref().and_then(|running| running.candidates.first()).map(|candidate| &candidate.bank)
    }

    /// The bank an arm plays; the incumbent for an arm that is not under test.
    #[must_use]
    pub fn bank(&self, arm: Arm) -> &SkillBank {
        let Arm::Candidate(index) = arm else { return &self.incumbent };
        self.running
            .as_ref()
            .and_then(|running| running.candidates.get(usize::from(index)))
            .map_or(&self.incumbent, |candidate| &candidate.bank)
    }

    /// Whether a test is running.
    #[must_use]
    pub fn is_testing(&self) -> bool {
        self.running.is_some()
    }

    /// Everything that happened, oldest first.
    #[must_use]
    pub fn history(&self) -> &[HistoryRecord] {
        &self.history
    }

    /// The experience kept for the creator.
    #[must_use]
    pub fn reservoir(&self) -> &Reservoir {
        &self.reservoir
    }

    /// The live assertions.
    #[must_use]
    pub fn assertions(&self) -> &AssertionSet {
        &self.assertions
    }

    /// How often the creator failed.
    #[must_use]
    pub fn n_creator_failures(&self) -> u64 {
        self.n_creator_failures
    }

    /// The arm of each rollout of one group; all incumbent while no test is running.
    pub fn assign_arms(&self, group_size: usize, rng: &mut impl Rng) -> Vec<Arm> {
        match &self.running {
            None => vec![Arm::Incumbent; group_size],
            Some(running) => {
                let shares = shares(&self.config.version_test, running.test.p_best());
                assign(&shares, group_size, self.config.version_test.sampling, rng)
            }
        }
    }

    /// Takes in all episodes of one training step: the reservoir, the posteriors, and the decision if it is due. Episodes
    /// that their environment lost count nowhere.
    ///
    /// Call it once a step. Nothing changes if it returns an error.
    ///
    /// # Errors
    /// [`SkillError::UnknownArm`] if an episode was played by an arm that is not under test.
    pub fn observe(&mut self, step: u64, episodes: &[SkillEpisode]) -> Result<Option<Decision>, SkillError> {
        let n_arms = self.running.as_ref().map_or(1, |running| running.test.n_arms());
        if let Some(stray) = episodes.iter().find(|played| played.arm.index() >= n_arms) {
            return Err(SkillError::UnknownArm { step, arm: stray.arm.to_string() });
        }
        if self.config.mode == SkillMode::Evolve {
            self.reservoir.extend(episodes);
        }
        let Some(running) = &mut self.running else { return Ok(None) };
        let whole = episodes.iter().filter(|played| !played.episode.is_lost());
        let mut outcomes: Vec<_> =
            whole.map(|played| (played.group, played.arm, played.episode.is_success())).collect();
        if self.config.version_test.shuffle_outcomes {
            deal_anew(step, &mut outcomes);
        }
        running.test.record(step, outcomes, self.config.version_test.discount, self.retention);
        let Some(decision) = running.test.decide(&self.config.version_test, running.claim) else {
            return Ok(None);
        };
        self.finish(&decision);
        Ok(Some(decision))
    }

    /// Asks the creator for the next candidate and puts it under test.
    ///
    /// Does nothing and returns `None` unless the mode is `evolve`, no test is running, the reservoir is big enough and
    /// the rest after a rejection is over, or if the creator has nothing to propose. A creator that fails, and a proposal
    /// that does not pass, become records and warnings; they never stop a run. With the rule `auto_accept` the candidate
    /// becomes the incumbent at once.
    pub fn evolve(
        &mut self,
        step: u64,
        creator: &mut dyn Creator,
        vocabulary: &ActionVocabulary,
    ) -> Option<&HistoryRecord> {
        if self.config.mode != SkillMode::Evolve || !self.may_test(step) {
            return None;
        }
        let limits = self.config.limits();
        let groups = self.reservoir.task_groups(self.config.reservoir.sample_groups);
        let context = CreatorContext {
            step,
            bank: &self.incumbent,
            episodes: self.reservoir.entries(),
            groups: &groups,
            vocabulary,
            assertions: &self.assertions,
            history: &self.history,
            limits: &limits,
            verify: &self.config.verify,
        };
        match creator.propose(&context) {
            Ok(None) => return None,
            Ok(Some(proposal)) => self.adopt(step, proposal),
            // Tolerated by design: training does not depend on an author that may be a remote service.
            Err(error) => {
                self.n_creator_failures += 1;
                warn!(step, error = %error, "skill creator failed");
                self.push(step, HistoryKind::CreatorFailed, Vec::new(), error.to_string());
            }
        }
        self.history.last()
    }

    /// Puts one or more bundles under test, each against the incumbent, without the gate.
    ///
    /// # Errors
    /// [`SkillError::TestRunning`]; [`SkillError::Count`] for no bundle or more than 255; whatever
    /// [`SkillBank::apply`] refuses.
    pub fn start_test(&mut self, step: u64, bundles: Vec<Vec<Operation>>) -> Result<(), SkillError> {
        if self.running.is_some() {
            return Err(SkillError::TestRunning { step });
        }
        let n_candidates = u8::try_from(bundles.len()).ok().filter(|n| *n > 0).ok_or(SkillError::Count {
            what: "candidates",
            got: bundles.len(),
            expected: "1 to 255".into(),
        })?;
        let limits = self.config.limits();
        let only_deletes =
            bundles.iter().flatten().all(|operation| matches!(operation, Operation::Delete { .. }));
        let candidates = bundles
            .into_iter()
            .map(|operations| {
                let bank = self.incumbent.apply(&operations, step, &limits)?;
                Ok(Candidate { bank, operations })
            })
            .collect::<Result<Vec<_>, SkillError>>()?;
        let claim = if only_deletes { Claim::NotWorse } else { Claim::Better };
        self.running =
            Some(RunningTest { started_step: step, claim, candidates, test: VersionTest::new(n_candidates) });
        Ok(())
    }

    /// Ends the running test without a decision, if there is one: the incumbent stays, the candidates go into the history
    /// as rejected for `reason`, and their counts are forgotten.
    pub fn withdraw_test(&mut self, step: u64, reason: &str) {
        let Some(RunningTest { candidates, .. }) = self.running.take() else { return };
        info!(step, reason, "version test withdrawn");
        for candidate in candidates {
            // Ids of rejected skills are not given again.
            let next_id = candidate.bank.next_id();
            self.incumbent = std::mem::take(&mut self.incumbent).reserving_ids_below(next_id);
            self.push(step, HistoryKind::Rejected, candidate.operations, reason.to_owned());
        }
    }

    /// Whether the next candidate may come under test: none is, there are episodes enough, and the rest after the latest
    /// rejections is over.
    fn may_test(&self, step: u64) -> bool {
        self.running.is_none() && self.reservoir.is_ready() && step >= self.rests_until()
    }

    /// First step after the rest that the rejections at the end of the history ask for.
    fn rests_until(&self) -> u64 {
        let decided = self.history.iter().rev().filter(|record| record.decision.is_some());
        let rejected = || decided.clone().take_while(|record| record.kind == HistoryKind::Rejected);
        let Some(last) = rejected().next() else { return 0 };
        let doublings = rejected().skip(1).take(MAX_DOUBLINGS).count();
        last.step.saturating_add(self.config.version_test.rest_steps << doublings)
    }

    /// Where the running test stands.
    #[must_use]
    pub fn posterior_summary(&self) -> Option<PosteriorSummary> {
        let running = self.running.as_ref()?;
        let test = &running.test;
        let arms = test.posteriors().iter().enumerate().map(|(index, posterior)| {
            let arm = Arm::from_index(index);
            let totals = test.totals(arm);
            ArmSummary {
                arm,
                episodes: totals.episodes,
                successes: totals.successes,
                alpha: posterior.alpha,
                beta: posterior.beta,
                mean: posterior.mean(),
            }
        });
        Some(PosteriorSummary {
            started_step: running.started_step,
            n_steps: test.steps().len(),
            n_episodes: test.n_episodes(),
            arms: arms.collect(),
            p_new_better: test.p_better().first().copied().unwrap_or(0.5),
            retention: self.retention,
        })
    }

    /// Gate, apply, record: what becomes of a proposal.
    fn adopt(&mut self, step: u64, proposal: Proposal) {
        let Proposal { mut operations, rationale, mut artefacts } = proposal;
        self.ablate(&mut operations, &mut artefacts);
        let limits = self.config.limits();
        let passed = gate(&operations, self.reservoir.entries(), &self.config.verify, &limits)
            .and_then(|reports| {
                let assertions = self.assertions.apply(&artefacts.diagnosis.assertion_edits)?;
                Ok((reports, assertions))
            })
            .and_then(|passed| self.start_test(step, vec![operations.clone()]).map(|()| passed));
        match passed {
            Err(error) => {
                warn!(step, error = %error, "skill proposal refused");
                self.push(step, HistoryKind::Refused, operations, error.to_string());
            }
            Ok((reports, assertions)) => {
                info!(step, n_operations = operations.len(), rationale, "skill candidate under test");
                artefacts.verified = reports;
                self.assertions = assertions;
                self.push(step, HistoryKind::Proposed, operations, rationale);
                if let Some(record) = self.history.last_mut() {
                    record.artefacts = Some(artefacts);
                }
            }
        }
        if self.config.version_test.rule == Rule::AutoAccept
            && let Some(running) = &self.running
            && let Some(mut decision) = running.test.decide(&self.config.version_test, running.claim)
        {
            decision.step = step;
            self.finish(&decision);
        }
    }

    /// Takes out of a proposal what the configuration does without.
    fn ablate(&self, operations: &mut [Operation], artefacts: &mut Artefacts) {
        if self.config.triggers == TriggerScope::General {
            operations.iter_mut().filter_map(Operation::content_mut).for_each(|content| {
                content.trigger = Trigger::Always;
            });
        }
        if !self.config.assertions {
            artefacts.assertions = AssertionReport::default();
            artefacts.diagnosis.assertion_edits.clear();
        }
    }

    /// Ends the running test as decided.
    fn finish(&mut self, decision: &Decision) {
        let Some(running) = self.running.take() else { return };
        let RunningTest { claim, mut candidates, test, .. } = running;
        let next_id = candidates.iter().map(|candidate| candidate.bank.next_id()).max().unwrap_or(0);
        let index = decision.candidate.index().saturating_sub(1).min(candidates.len().saturating_sub(1));
        let chosen = candidates.swap_remove(index);
        let kind = match (decision.verdict, claim) {
            (Verdict::Reject, _) => HistoryKind::Rejected,
            (Verdict::Accept, Claim::Better) => HistoryKind::Accepted,
            (Verdict::Accept, Claim::NotWorse) => HistoryKind::Pruned,
        };
        if decision.verdict == Verdict::Accept {
            self.incumbent = chosen.bank;
        }
        // Ids of rejected skills are not given again.
        self.incumbent = std::mem::take(&mut self.incumbent).reserving_ids_below(next_id);
        info!(
            step = decision.step,
            verdict = ?decision.verdict,
            reason = ?decision.reason,
            p_new_better = decision.p_new_better,
            n_episodes = decision.n_episodes,
            "version test decided"
        );
        if !test.steps().is_empty() {
            self.finished.push(FinishedTest { n_arms: test.n_arms(), steps: test.steps().to_vec() });
            if self.config.version_test.discount == Discount::Dynamic {
                self.retention = estimate_retention(
                    self.finished.iter().map(|finished| (finished.n_arms, finished.steps.as_slice())),
                );
            }
        }
        for other in candidates {
            self.push(
                decision.step,
                HistoryKind::Rejected,
                other.operations,
                "another candidate stood for all".into(),
            );
        }
        self.push(decision.step, kind, chosen.operations, format!("{:?}", decision.reason));
        if let Some(record) = self.history.last_mut() {
            record.decision = Some(decision.clone());
        }
    }

    fn push(&mut self, step: u64, kind: HistoryKind, operations: Vec<Operation>, reason: String) {
        self.history.push(HistoryRecord { step, kind, operations, reason, decision: None, artefacts: None });
    }
}
