//! The statistical creator: no network, no chance, no model.
//!
//! It looks for situations (the verb of the previous action, narrowed to kinds of places) in which playing a verb
//! separates success from failure *among episodes of the same task*, and in which the policy often does otherwise:
//! there a reminder has room to help. The strongest such habit becomes a skill of the form `next <verb>` or
//! `do not <verb>`. Causes that show in an episode as a whole (something missing, out of order, repeated, harmful, too
//! early) become sentences. What chance alone would explain is not proposed: see [`OfflineConfig::level`]. Whether a skill
//! truly helps is for the version test to say: the statistics here are observational.
//!
//! ```
//! use reskill_envs::{ActionTemplate, ActionVocabulary, Outcome};
//! use reskill_skills::creator::{Creator, CreatorInput};
//! use reskill_skills::{OfflineCreator, SkillEpisode};
//!
//! // Any commands will do; templates tell the verbs from their arguments.
//! let template = |text: &str| ActionTemplate { name: text.into(), template: text.into() };
//! let vocabulary = ActionVocabulary { templates: ["edit {file}", "run tests", "submit"].map(template).to_vec() };
//! // Episodes fail where the tests were not run before the submission.
//! let episodes: Vec<SkillEpisode> = (0..120)
//!     .map(|index| {
//!         let careful = index % 3 == 0;
//!         let actions: &[&str] =
//!             if careful { &["edit a.rs", "run tests", "submit"] } else { &["edit b.rs", "edit c.rs", "submit"] };
//!         let outcome = if careful != (index % 10 == 0) { Outcome::Success } else { Outcome::Failure };
//!         SkillEpisode::from_actions(&format!("task-{index}"), "bugs", "mend it", actions, outcome)
//!     })
//!     .collect();
//! let proposal = OfflineCreator::default().propose(&CreatorInput::new(&episodes, &vocabulary).context())?;
//! let content = proposal.as_ref().and_then(|proposal| proposal.operations[0].content()).unwrap();
//! assert_eq!(content.action, "next run tests");
//! assert!(content.trigger.fires(1, Some("edit b.rs")));
//! # Ok::<(), reskill_skills::SkillError>(())
//! ```

pub mod config;
pub mod text;
pub mod association;
pub mod mine;
pub mod habit;
pub(crate) mod classes;
pub(crate) mod strata;
pub(crate) mod cause;
pub(crate) mod author;
pub(crate) mod search;
pub mod prune;
pub mod rules;

use crate::assertion::{Assertion, AssertionReport};
use crate::bank::Operation;
use crate::creator::artefacts::VerifyReport;
use crate::creator::artefacts::{Artefacts, Change, Cluster, Diagnosis, Insight, Proposal, Recommendation};
use crate::creator::verify::verify;
use crate::creator::{Creator, CreatorContext};
use crate::error::SkillError;
use crate::lifecycle::{HistoryKind, HistoryRecord};
use classes::Traces;
use search::Found;

pub use config::OfflineConfig;
pub use text::{guidance, guidance_not, guidance_words};

/// Insights kept in the artefacts.
const MAX_INSIGHTS: usize = 10;
/// Causes kept as clusters.
const MAX_CLUSTERS: usize = 8;

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

/// What one cause turned into.
struct Answer {
    operation: Operation,
    why: String,
    report: VerifyReport,
}

impl Creator for OfflineCreator {
    fn propose(&mut self, context: &CreatorContext<'_>) -> Result<Option<Proposal>, SkillError> {
        let vocabulary = classes::fitting(context.vocabulary, context.episodes);
        let context = &CreatorContext { vocabulary: &vocabulary, ..*context };
        let mined = mine::mine(context.episodes, context.bank, context.vocabulary);
        let ranked = habit::rank(&mined, &self.config);
        let traces = Traces::of(context.episodes, context.vocabulary);
        let every: Vec<habit::Habit>;
        // Without a level for the whole search, habits in the order of their rank, as many as clear the bar.
        let found: Vec<Found<'_>> = if self.config.level >= 1.0 && !self.config.episode_causes {
            ranked.iter().filter(|habit| habit.clears(&self.config)).map(Found::Habit).collect()
        } else {
            every = habit::all(&mined, &self.config);
            let rests = |name: &str| cooling_down(name, context, &self.config);
            search::search(context, &every, &traces, &self.config, &rests)
        };
        let pruned = prune::candidates(context, &self.config);
        let mut draft = Draft::default();
        let max = self.config.max_operations.min(context.limits.max_operations);
        for one in &found {
            if draft.operations.len() < max {
                self.answer(one, context, &traces, &pruned, max, &mut draft);
            }
        }
        if draft.operations.is_empty()
            && let Some((operation, recommendation)) = prune::narrowed(context, &self.config)
            && let Some(content) = operation.content()
            && !cooling_down(&content.name, context, &self.config)
        {
            let report = verify(content, context.episodes, context.verify, context.limits);
            if report.problems.is_empty() {
                draft.operations.push(operation);
                draft.recommendations.push(recommendation);
                draft.verified.push(report);
            }
        }
        if draft.operations.is_empty()
            && let Some(weakest) = pruned.first()
        {
            draft.operations.push(Operation::Delete { id: weakest.id.clone() });
            draft.recommendations.push(weakest.recommendation());
        }
        if draft.operations.is_empty() {
            return Ok(None);
        }
        Ok(Some(draft.proposal(context, &found, &ranked, &traces)?))
    }
}

impl OfflineCreator {
    /// Adds the operation that answers a cause, if it passes the gate and the bank has room.
    fn answer(
        &self,
        found: &Found<'_>,
        context: &CreatorContext<'_>,
        traces: &Traces,
        pruned: &[prune::Weak],
        max: usize,
        draft: &mut Draft,
    ) {
        let answer = match found {
            Found::Habit(habit) => {
                if draft.situations.contains(&habit.after) {
                    return;
                }
                // A trigger that cannot be built (widened beyond the limit, say) passes; the next cause has its turn.
                let Ok(operation) = habit.operation(context.bank) else { return };
                let Some(content) = operation.content() else { return };
                let report = verify(content, context.episodes, context.verify, context.limits);
                Answer { why: habit.finding(), report, operation }
            }
            Found::Cause(cause, insight) => {
                let write = |narrow: bool| {
                    let content = author::content(cause, traces, context, narrow);
                    let report = verify(&content, context.episodes, context.verify, context.limits);
                    Answer { operation: Operation::Add(content), why: insight.finding.clone(), report }
                };
                Some(write(true)).filter(|it| it.report.problems.is_empty()).unwrap_or_else(|| write(false))
            }
        };
        let Some(content) = answer.operation.content() else { return };
        if !answer.report.problems.is_empty() || cooling_down(&content.name, context, &self.config) {
            return;
        }
        let is_new = matches!(answer.operation, Operation::Add(_));
        if is_new && context.bank.n_active() >= context.limits.max_skills {
            // A full bank: the weakest skill makes room, if one may go and the bundle has room for it.
            let Some(weakest) = pruned.first().filter(|_| draft.operations.is_empty() && max >= 2) else {
                return;
            };
            draft.operations.push(Operation::Delete { id: weakest.id.clone() });
            draft.recommendations.push(weakest.recommendation());
        }
        draft.recommendations.push(Recommendation {
            change: if is_new { Change::Add } else { Change::Modify },
            skill: None,
            what: format!("{} / {}", content.trigger, content.action),
            why: answer.why,
        });
        if let Found::Habit(habit) = found {
            draft.situations.push(habit.after.clone());
        }
        draft.operations.push(answer.operation);
        draft.verified.push(answer.report);
    }
}

/// A proposal in the making.
#[derive(Default)]
struct Draft {
    operations: Vec<Operation>,
    recommendations: Vec<Recommendation>,
    verified: Vec<VerifyReport>,
    situations: Vec<Option<String>>,
}

impl Draft {
    fn proposal(
        self,
        context: &CreatorContext<'_>,
        found: &[Found<'_>],
        ranked: &[habit::Habit],
        traces: &Traces,
    ) -> Result<Proposal, SkillError> {
        let named = &found[..found.len().min(MAX_CLUSTERS)];
        let mut insights: Vec<Insight> = Vec::new();
        let mut clusters = Vec::new();
        let (mut habits, mut broken) = (Vec::new(), Vec::new());
        for (index, one) in named.iter().enumerate() {
            let (name, insight) = match one {
                Found::Habit(habit) => {
                    habits.push(*habit);
                    (habit.name(), habit.insight())
                }
                Found::Cause(cause, insight) => {
                    let name = cause.form.name(traces);
                    broken.extend(author::check(cause, traces, context).map(|check| Assertion {
                        name: name.clone(),
                        description: insight.finding.clone(),
                        check,
                    }));
                    (name, (**insight).clone())
                }
            };
            insights.push(insight);
            clusters.push(Cluster { name, insights: vec![index], representative: index });
        }
        for habit in ranked {
            let insight = habit.insight();
            if insights.len() < MAX_INSIGHTS && !insights.contains(&insight) {
                insights.push(insight);
            }
        }
        let assertion_edits = rules::edits(context, &habits, broken)?;
        let assertions = AssertionReport::of(&context.assertions.apply(&assertion_edits)?, context.episodes);
        let rationale = self.recommendations.iter().map(|r| r.why.as_str()).collect::<Vec<_>>().join("; ");
        let diagnosis = Diagnosis { summary: rationale.clone(), clusters, assertion_edits };
        let artefacts = Artefacts {
            insights,
            assertions,
            diagnosis,
            recommendations: self.recommendations,
            verified: self.verified,
        };
        Ok(Proposal { operations: self.operations, rationale, artefacts })
    }
}

/// Whether a skill of this name was rejected lately. Each rejection doubles the wait.
fn cooling_down(name: &str, context: &CreatorContext<'_>, config: &OfflineConfig) -> bool {
    let names = |record: &HistoryRecord| {
        record.operations.iter().filter_map(Operation::content).any(|content| content.name == name)
    };
    rests(rejections(context.history, names), context.step, config)
}

/// Whether what was rejected so often, the last time at that step, is not to be tried at `step`.
pub(crate) fn rests((n, last): (u32, Option<u64>), step: u64, config: &OfflineConfig) -> bool {
    last.is_some_and(|last| {
        step < last.saturating_add(config.cooldown_steps.saturating_mul(1 << n.min(16)) / 2)
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
