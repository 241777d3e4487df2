//! The version tests of a history: each proposal with what became of it.

use reskill_skills::version_test::{ArmSummary, Beta};
use reskill_skills::{Arm, Decision, HistoryKind, HistoryRecord, Operation, PosteriorSummary};

use crate::metrics_lines::StepLine;
use crate::report::html::badge;

/// A bundle of operations under test.
#[derive(Debug)]
pub(super) struct Trial<'a> {
    /// Its proposal; a test may have been started without one.
    pub(super) proposal: Option<&'a HistoryRecord>,
    /// Its end; absent while it is running.
    pub(super) end: Option<&'a HistoryRecord>,
    /// The bundle.
    pub(super) operations: &'a [Operation],
    /// The skill each operation is about.
    pub(super) ids: Vec<String>,
}

impl Trial<'_> {
    /// Step after which the test began.
    pub(super) fn started(&self) -> u64 {
        let first_counts = self.decision().and_then(|decision| decision.counts.first());
        let from_counts = first_counts.map(|counts| counts.step.saturating_sub(1));
        self.proposal.map(|record| record.step).or(from_counts).or(self.ended()).unwrap_or(0)
    }

    /// Step of the decision.
    pub(super) fn ended(&self) -> Option<u64> {
        self.end.map(|record| record.step)
    }

    /// The decision with its numbers.
    pub(super) fn decision(&self) -> Option<&Decision> {
        self.end.and_then(|record| record.decision.as_ref())
    }

    /// Whether the candidate became the live bank; `None` while the test is running.
    pub(super) fn accepted(&self) -> Option<bool> {
        self.end.map(|record| record.kind != HistoryKind::Rejected)
    }

    /// What became of it, as a mark.
    pub(super) fn badge(&self) -> String {
        match self.accepted() {
            Some(true) => badge("good", "accepted"),
            Some(false) => badge("bad", "rejected"),
            None => badge("open", "running"),
        }
    }

    /// What is tested, in as few words as name it.
    pub(super) fn title(&self) -> String {
        let name = |(operation, id): (&Operation, &String)| match operation {
            Operation::Add(content) => content.name.clone(),
            Operation::Modify { content, .. } => format!("modify {}", content.name),
            Operation::Delete { .. } => format!("delete {id}"),
        };
        let names: Vec<String> = self.operations.iter().zip(&self.ids).map(name).collect();
        names.join(", ")
    }

    /// The state of both arms after each step of the test.
    ///
    /// A step's record carries the posterior while the test goes on; the state at the decision comes from the decision.
    pub(super) fn course(&self, steps: &[StepLine]) -> Vec<Looked> {
        let running = |posterior: &PosteriorSummary| posterior.started_step == self.started();
        let mut course: Vec<Looked> = steps
            .iter()
            .filter(|line| line.step > self.started() && self.ended().is_none_or(|end| line.step < end))
            .filter_map(|line| {
                let posterior = line.posterior.as_ref().filter(|posterior| running(posterior))?;
                let [old, new, ..] = posterior.arms.as_slice() else { return None };
                Some(Looked {
                    step: line.step,
                    old: beta(old),
                    new: beta(new),
                    p_new_better: posterior.p_new_better,
                    played: (old.episodes, new.episodes),
                    share: None,
                })
            })
            .collect();
        if let Some(decision) = self.decision()
            && let Some((old, new)) = arms(decision)
            && decision.n_steps > 0
        {
            course.push(Looked {
                step: decision.step,
                old: beta(old),
                new: beta(new),
                p_new_better: decision.p_new_better,
                played: (old.episodes, new.episodes),
                share: None,
            });
        }
        self.fill_shares(&mut course);
        course
    }

    /// The share of each step's episodes that played the candidate: what was played up to that step, less what was played
    /// before it.
    fn fill_shares(&self, course: &mut [Looked]) {
        let mut before = (self.started(), (0, 0));
        for looked in course {
            let (step, (old, new)) = before;
            let (old, new) = (looked.played.0.saturating_sub(old), looked.played.1.saturating_sub(new));
            // Where a step is missing in the records, the difference is that of several steps.
            let is_next = looked.step == step + 1;
            looked.share = (is_next && old + new > 0).then(|| new as f64 / (old + new) as f64);
            before = (looked.step, looked.played);
        }
    }
}

/// The posteriors of both arms at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Looked {
    /// Training step.
    pub(super) step: u64,
    /// The live bank.
    pub(super) old: Beta,
    /// The candidate.
    pub(super) new: Beta,
    /// Posterior probability that the candidate is better.
    pub(super) p_new_better: f64,
    /// Episodes of both in the test so far.
    pub(super) played: (u64, u64),
    /// Share of this step's episodes that played the candidate.
    pub(super) share: Option<f64>,
}

/// The incumbent and the candidate that a decision is about.
pub(super) fn arms(decision: &Decision) -> Option<(&ArmSummary, &ArmSummary)> {
    let old = decision.arms.iter().find(|arm| arm.arm == Arm::Incumbent)?;
    let new = decision.arms.iter().find(|arm| arm.arm == decision.candidate)?;
    Some((old, new))
}

fn beta(arm: &ArmSummary) -> Beta {
    Beta { alpha: arm.alpha, beta: arm.beta }
}

/// The tests of a history, oldest first.
///
/// Ids are numbered as the bank numbers them: one for each skill ever proposed for a test, from `first_id`.
pub(super) fn trials(history: &[HistoryRecord], first_id: u64) -> Vec<Trial<'_>> {
    let mut trials: Vec<Trial<'_>> = Vec::new();
    let mut next_id = first_id;
    let mut begin = |record: &HistoryRecord| -> Vec<String> {
        let id_of = |operation: &Operation| match operation {
            Operation::Add(_) => {
                next_id += 1;
                format!("s{:04}", next_id - 1)
            }
            Operation::Modify { id, .. } | Operation::Delete { id } => id.0.clone(),
        };
        record.operations.iter().map(id_of).collect()
    };
    for record in history {
        match record.kind {
            HistoryKind::Proposed => trials.push(Trial {
                proposal: Some(record),
                end: None,
                operations: &record.operations,
                ids: begin(record),
            }),
            HistoryKind::Accepted | HistoryKind::Rejected | HistoryKind::Pruned => {
                let open = trials
                    .iter_mut()
                    .find(|trial| trial.end.is_none() && trial.operations == record.operations);
                match open {
                    Some(trial) => trial.end = Some(record),
                    None => trials.push(Trial {
                        proposal: None,
                        end: Some(record),
                        operations: &record.operations,
                        ids: begin(record),
                    }),
                }
            }
            HistoryKind::Refused | HistoryKind::CreatorFailed | HistoryKind::CreatorMissed => {}
        }
    }
    trials
}
