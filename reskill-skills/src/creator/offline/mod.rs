//! The statistical creator: no network, no chance, no model.
//!
//! It looks for situations (the verb of the previous action, narrowed to kinds of places) in which playing a verb
//! separates success from failure *among episodes of the same task*, and in which the policy often does otherwise:
//! there a reminder has room to help. The strongest such habit becomes a skill of the form `next <verb>` or
//! `do not <verb>`. Whether it truly helps is for the version test to say: the statistics here are observational.

pub mod config;
pub mod text;
pub mod association;
pub mod mine;
pub mod habit;
pub mod prune;
pub mod rules;

use crate::assertion::AssertionReport;
use crate::bank::Operation;
use crate::creator::artefacts::{Artefacts, Change, Cluster, Diagnosis, Insight, Proposal, Recommendation};
use crate::creator::verify::verify;
use crate::creator::{Creator, CreatorContext};
use crate::error::SkillError;
use crate::lifecycle::{HistoryKind, HistoryRecord};

pub use config::OfflineConfig;
pub use text::{guidance, guidance_not, guidance_words};

/// Insights kept in the artefacts.
const MAX_INSIGHTS: usize = 10;

/// The statistical creator.
#[derive(Debug, Clone, Default)]
pub struct OfflineCreator {
    config: OfflineConfig,
}

impl OfflineCreator {
    /// A creator with these thresholds.
    #[must_use]
    pub fn new(config: OfflineConfig) -> Self {
        Self { config }
    }

    /// All habits the episodes show, the strongest first, whether or not they clear the bar.
    #[must_use]
    pub fn habits(&self, context: &CreatorContext<'_>) -> Vec<habit::Habit> {
        let mined = mine::mine(context.episodes, context.bank, context.vocabulary);
        habit::rank(&mined, &self.config)
    }
}

impl Creator for OfflineCreator {
    fn propose(&mut self, context: &CreatorContext<'_>) -> Result<Option<Proposal>, SkillError> {
        let habits = self.habits(context);
        let insights: Vec<Insight> = habits.iter().take(MAX_INSIGHTS).map(habit::Habit::insight).collect();
        let mut operations: Vec<Operation> = Vec::new();
        let mut recommendations: Vec<Recommendation> = Vec::new();
        let mut verified = Vec::new();
        let mut chosen: Vec<&habit::Habit> = Vec::new();
        let max = self.config.max_operations.min(context.limits.max_operations);
        let pruned = prune::candidates(context, &self.config);
        for habit in &habits {
            if operations.len() >= max || !habit.clears(&self.config) {
                continue;
            }
            if chosen.iter().any(|other| other.conflicts_with(habit)) {
                continue;
            }
            // A trigger that cannot be built (widened beyond the limit, say) passes; the next habit has its turn.
            let Ok(operation) = habit.operation(context.bank) else { continue };
            let Some(content) = operation.content() else { continue };
            if cooling_down(&content.name, context, &self.config) {
                continue;
            }
            let report = verify(content, context.episodes, context.verify, context.limits);
            if !report.problems.is_empty() {
                continue;
            }
            let is_new = matches!(operation, Operation::Add(_));
            if is_new && context.bank.n_active() >= context.limits.max_skills {
                // A full bank: the weakest skill makes room, if one may go and the bundle has room for it.
                let Some(weakest) = pruned.first().filter(|_| operations.is_empty() && max >= 2) else {
                    continue;
                };
                operations.push(Operation::Delete { id: weakest.id.clone() });
                recommendations.push(weakest.recommendation());
            }
            recommendations.push(Recommendation {
                change: if is_new { Change::Add } else { Change::Modify },
                skill: None,
                what: format!("{} / {}", content.trigger, content.action),
                why: habit.finding(),
            });
            operations.push(operation);
            verified.push(report);
            chosen.push(habit);
        }
        if operations.is_empty()
            && let Some((operation, recommendation)) = prune::narrowed(context, &self.config)
            && let Some(content) = operation.content()
            && !cooling_down(&content.name, context, &self.config)
        {
            let report = verify(content, context.episodes, context.verify, context.limits);
            if report.problems.is_empty() {
                operations.push(operation);
                recommendations.push(recommendation);
                verified.push(report);
            }
        }
        if operations.is_empty()
            && let Some(weakest) = pruned.first()
        {
            operations.push(Operation::Delete { id: weakest.id.clone() });
            recommendations.push(weakest.recommendation());
        }
        if operations.is_empty() {
            return Ok(None);
        }
        let clusters = chosen
            .iter()
            .filter_map(|habit| {
                let representative =
                    habits.iter().take(MAX_INSIGHTS).position(|other| std::ptr::eq(other, *habit))?;
                Some(Cluster { name: habit.name(), insights: vec![representative], representative })
            })
            .collect();
        let assertion_edits = rules::edits(context, &chosen)?;
        let assertions = AssertionReport::of(&context.assertions.apply(&assertion_edits)?, context.episodes);
        let rationale = recommendations.iter().map(|r| r.why.as_str()).collect::<Vec<_>>().join("; ");
        let diagnosis = Diagnosis { summary: rationale.clone(), clusters, assertion_edits };
        let artefacts = Artefacts { insights, assertions, diagnosis, recommendations, verified };
        Ok(Some(Proposal { operations, rationale, artefacts }))
    }
}

/// Whether a skill of this name was rejected lately. Each rejection doubles the wait.
fn cooling_down(name: &str, context: &CreatorContext<'_>, config: &OfflineConfig) -> bool {
    let names = |record: &HistoryRecord| {
        record.operations.iter().filter_map(Operation::content).any(|content| content.name == name)
    };
    let (n, last) = rejections(context.history, names);
    last.is_some_and(|step| {
        context.step < step.saturating_add(config.cooldown_steps.saturating_mul(1 << n.min(16)) / 2)
    })
}

/// Number of rejected bundles that `concerns` holds for, and the step of the last one.
pub(crate) fn rejections(
    history: &[HistoryRecord],
    concerns: impl Fn(&HistoryRecord) -> bool,
) -> (u32, Option<u64>) {
    history
        .iter()
        .filter(|record| record.kind == HistoryKind::Rejected && concerns(record))
        .fold((0, None), |(n, _), record| (n + 1, Some(record.step)))
}
