//! The search for causes: the best candidate that chance does not explain, then the best that the first does not explain.

use crate::bank::SkillBank;
use crate::creator::CreatorContext;
use crate::creator::artefacts::Insight;
use crate::creator::offline::author::insight;
use crate::creator::offline::cause::{Cause, Form, candidates, leads_to};
use crate::creator::offline::classes::{NEVER, Traces};
use crate::creator::offline::config::OfflineConfig;
use crate::creator::offline::habit::Habit;
use crate::creator::offline::strata::{Score, Strata};
use crate::guidance::Polarity;
use crate::skill::SkillStatus;

/// Most causes that are told apart.
const MAX_CAUSES: usize = 3;
/// A habit stands for a cause if it explains this share of the cause's score: its trigger is the better one.
const AS_GOOD: f64 = 0.7;
/// Repetition stands for a verb that seems to harm if it explains this share of the score.
const AS_GOOD_REPEAT: f64 = 0.8;
/// Something that leads to a cause is the cause if it explains this share of its score.
const LEADS: f64 = 0.6;
/// Most skills of the bank whose effect is taken out before the search.
const MAX_EXPLAINED: usize = 2;

/// A cause with the habit or the pattern that describes it best.
pub(crate) enum Found<'h> {
    /// In a situation.
    Habit(&'h Habit),
    /// In the episode as a whole.
    Cause(Box<Cause>, Box<Insight>),
}

/// One column of the search.
struct Candidate<'h> {
    habit: Option<&'h Habit>,
    cause: Option<Cause>,
    measure: Vec<Option<f64>>,
    sign: f64,
    handicap: f64,
    score: Score,
    gain: f64,
}

impl Candidate<'_> {
    fn value(&self) -> f64 {
        self.score.value - self.handicap
    }

    fn polarity(&self) -> Polarity {
        match (&self.habit, &self.cause) {
            (Some(habit), _) => habit.evidence.guidance.polarity,
            (None, Some(cause)) => cause.form.polarity(),
            (None, None) => Polarity::Next,
        }
    }

    fn verb<'a>(&'a self, traces: &'a Traces) -> Option<&'a str> {
        match (&self.habit, &self.cause) {
            (Some(habit), _) => Some(&habit.evidence.guidance.verb),
            (None, Some(cause)) => cause.form.subject().map(|class| traces.classes[class].verb.as_str()),
            (None, None) => None,
        }
    }

    fn name(&self, traces: &Traces) -> String {
        match (&self.habit, &self.cause) {
            (Some(habit), _) => habit.name(),
            (None, Some(cause)) => cause.form.name(traces),
            (None, None) => String::new(),
        }
    }
}

/// Up to three causes, the clearest first, each explaining what those before it do not.
///
/// `rests(name)`: a skill of this name is not wanted now. Its effect is taken out all the same, so that nothing else is
/// blamed for it.
pub(crate) fn search<'h>(
    context: &CreatorContext<'_>,
    habits: &'h [Habit],
    traces: &Traces,
    config: &OfflineConfig,
    rests: &dyn Fn(&str) -> bool,
) -> Vec<Found<'h>> {
    let mut strata = Strata::of(context.episodes);
    let mut columns = columns(context, habits, traces, config);
    let covered = |column: &Candidate<'_>| is_covered(context.bank, column, traces);
    let mut explained = 0;
    for column in columns.iter().filter(|column| covered(column)) {
        if explained < MAX_EXPLAINED && strata.score(&column.measure, column.sign).z >= config.min_z {
            strata = strata.given(&column.measure);
            explained += 1;
        }
    }
    columns.retain(|column| !covered(column));
    let mut found = Vec::new();
    for _ in 0..MAX_CAUSES {
        for column in &mut columns {
            column.score = strata.score(&column.measure, column.sign);
            column.gain = gain(&column.measure, &column.score, column.polarity());
        }
        let eligible = |column: &Candidate<'_>| {
            column.score.z >= config.min_z
                && column.gain >= config.min_gain
                && column.habit.is_none_or(|habit| habit.clears(config))
                && !column.cause.as_ref().is_some_and(|cause| is_essential(&cause.form, context, traces))
        };
        let top = |only_habits: bool| {
            (0..columns.len())
                .filter(|index| eligible(&columns[*index]))
                .filter(|index| !only_habits || columns[*index].habit.is_some())
                .max_by(|a, b| columns[*a].value().total_cmp(&columns[*b].value()).then(b.cmp(a)))
        };
        let p_of = |best: usize, only_habits: bool| {
            let tested = columns.iter().filter(|column| !only_habits || column.habit.is_some());
            let scores: Vec<(&Score, f64)> = tested.map(|column| (&column.score, column.handicap)).collect();
            strata.family_wise_p(&scores, columns[best].value(), config.level / 2.0)
        };
        let Some(mut best) = top(false) else { break };
        let mut p = 0.0;
        if config.level < 1.0 {
            // Habits are few and come with a good trigger: half of the level is theirs alone.
            p = p_of(best, false);
            if p > config.level / 2.0 {
                let Some(habit) = top(true) else { break };
                (best, p) = (habit, p_of(habit, true));
            }
            if p > config.level / 2.0 {
                break;
            }
        }
        let best = too_early(&columns, best, &strata, &eligible);
        let root = root(&columns, best, traces, &eligible);
        let best = in_situation(&columns, root, traces, &eligible);
        let best = repeated(&columns, best, traces, &eligible);
        let measure = columns[root].measure.clone();
        let chosen = &columns[best];
        if !rests(&chosen.name(traces)) {
            found.push(match (chosen.habit, &chosen.cause) {
                (Some(habit), _) => Found::Habit(habit),
                (None, Some(cause)) => {
                    let insight = insight(cause, &chosen.score, p, traces, context);
                    Found::Cause(Box::new(cause.clone()), Box::new(insight))
                }
                (None, None) => break,
            });
        }
        let (verb, name) = (chosen.verb(traces).map(str::to_owned), chosen.name(traces));
        // One skill about a verb at a time.
        columns.retain(|column| {
            column.name(traces) != name && (verb.is_none() || column.verb(traces) != verb.as_deref())
        });
        strata = strata.given(&measure);
    }
    found
}

/// A class that most successes play is not advised against.
fn is_essential(form: &Form, context: &CreatorContext<'_>, traces: &Traces) -> bool {
    let Form::Harmful { class } = form else { return false };
    let successes = || {
        let all = traces.traces.iter().zip(context.episodes);
        all.filter(|(_, played)| played.episode.is_success()).map(|(trace, _)| trace)
    };
    let used = successes().filter(|trace| trace.first[*class] != NEVER).count();
    used * 2 > successes().count()
}

fn columns<'h>(
    context: &CreatorContext<'_>,
    habits: &'h [Habit],
    traces: &Traces,
    config: &OfflineConfig,
) -> Vec<Candidate<'h>> {
    let n = context.episodes.len();
    let mut columns: Vec<Candidate<'h>> = habits
        .iter()
        .filter(|habit| habit.shares.len() >= config.min_episodes)
        .map(|habit| {
            let mut measure = vec![None; n];
            habit.shares.iter().for_each(|(index, share)| measure[*index] = Some(*share));
            let sign = if habit.evidence.guidance.polarity == Polarity::Next { 1.0 } else { -1.0 };
            let handicap = if sign > 0.0 { 0.0 } else { 0.4 };
            Candidate {
                habit: Some(habit),
                cause: None,
                measure,
                sign,
                handicap,
                score: Score::default(),
                gain: 0.0,
            }
        })
        .collect();
    if config.episode_causes {
        columns.extend(candidates(traces, config).into_iter().map(|cause| Candidate {
            measure: cause.measure.clone(),
            sign: cause.form.sign(),
            handicap: cause.handicap,
            habit: None,
            cause: Some(cause),
            score: Score::default(),
            gain: 0.0,
        }));
    }
    columns
}

/// Whether an active skill of the bank says the same, or asks for the same verb.
fn is_covered(bank: &SkillBank, column: &Candidate<'_>, traces: &Traces) -> bool {
    if bank.is_empty() {
        return false;
    }
    let name = column.name(traces);
    bank.skills().iter().filter(|skill| skill.status == SkillStatus::Active).any(|skill| {
        let same_verb = column.cause.is_some()
            && skill.content.guidance.as_ref().is_some_and(|guidance| {
                guidance.polarity == column.polarity() && column.verb(traces) == Some(guidance.verb.as_str())
            });
        same_verb || (column.cause.is_some() && skill.name() == name)
    })
}

/// What heeding would gain: see [`crate::creator::Evidence::gain`].
#[expect(clippy::cast_precision_loss, reason = "counts of episodes are small")]
fn gain(measure: &[Option<f64>], score: &Score, polarity: Polarity) -> f64 {
    let known: Vec<f64> = measure.iter().copied().flatten().collect();
    if known.is_empty() {
        return 0.0;
    }
    let n = known.len() as f64;
    let mean = known.iter().sum::<f64>() / n;
    let spread = (known.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let top = known.iter().copied().fold(1.0, f64::max);
    let room = if polarity == Polarity::Next { top - mean } else { mean }.min(2.0 * spread);
    n / measure.len() as f64 * room * score.difference
}

/// What leads to something missing, as far as it explains it: without it the rest could not be played at all.
fn root(
    columns: &[Candidate<'_>],
    best: usize,
    traces: &Traces,
    eligible: &dyn Fn(&Candidate<'_>) -> bool,
) -> usize {
    let class = |index: usize| match columns[index].cause.as_ref()?.form {
        Form::Missing { class } => Some(class),
        _ => None,
    };
    let Some(mut at) = class(best) else { return best };
    let (mut root, floor) = (best, LEADS * columns[best].value());
    loop {
        let earlier = (0..columns.len())
            .filter(|index| eligible(&columns[*index]) && columns[*index].value() >= floor)
            .filter_map(|index| Some((index, class(index)?)))
            .filter(|(_, earlier)| leads_to(traces, *earlier, at) && !leads_to(traces, at, *earlier))
            .max_by(|a, b| columns[a.0].value().total_cmp(&columns[b.0].value()));
        let Some((index, earlier)) = earlier else { return root };
        (root, at) = (index, earlier);
    }
}

/// If something seems to be missing because failures are shorter: that they end too early. Of the two, the one that still
/// goes with success where the other is held fixed is the cause.
fn too_early(
    columns: &[Candidate<'_>],
    best: usize,
    strata: &Strata,
    eligible: &dyn Fn(&Candidate<'_>) -> bool,
) -> usize {
    let form = |index: usize| columns[index].cause.as_ref().map(|cause| &cause.form);
    if !matches!(form(best), Some(Form::Missing { .. } | Form::Before { .. })) {
        return best;
    }
    let rest = |index: usize, given: usize| {
        let column: &Candidate<'_> = &columns[index];
        strata.given(&columns[given].measure).score(&column.measure, column.sign).z
    };
    (0..columns.len())
        .filter(|index| matches!(form(*index), Some(Form::EarlyEnd { .. })) && eligible(&columns[*index]))
        .filter(|index| columns[*index].score.z >= AS_GOOD * columns[best].score.z)
        .find(|index| rest(*index, best) > rest(best, *index))
        .unwrap_or(best)
}

/// If a verb seems to harm: its repetition, if that explains nearly as much.
fn repeated(
    columns: &[Candidate<'_>],
    best: usize,
    traces: &Traces,
    eligible: &dyn Fn(&Candidate<'_>) -> bool,
) -> usize {
    let harms = columns[best].polarity() == Polarity::DoNot;
    let verb = columns[best].verb(traces).filter(|_| harms).map(str::to_owned);
    let Some(verb) = verb else { return best };
    let repeats = |column: &Candidate<'_>| match column.cause.as_ref().map(|cause| &cause.form) {
        Some(Form::Repeat { verb: Some(class) }) => traces.classes[*class].verb == verb,
        Some(Form::Repeat { verb: None }) => true,
        _ => false,
    };
    (0..columns.len())
        .filter(|index| repeats(&columns[*index]) && eligible(&columns[*index]))
        .filter(|index| columns[*index].score.z >= AS_GOOD_REPEAT * columns[best].score.z)
        .max_by(|a, b| columns[*a].value().total_cmp(&columns[*b].value()).then(b.cmp(a)))
        .unwrap_or(best)
}

/// The habit about the same thing, if one explains nearly as much.
fn in_situation(
    columns: &[Candidate<'_>],
    best: usize,
    traces: &Traces,
    eligible: &dyn Fn(&Candidate<'_>) -> bool,
) -> usize {
    let chosen = &columns[best];
    let kind = chosen
        .cause
        .as_ref()
        .and_then(|cause| cause.form.subject())
        .and_then(|class| traces.classes[class].kind.as_deref());
    let same = |column: &Candidate<'_>| {
        column.polarity() == chosen.polarity() && column.verb(traces) == chosen.verb(traces)
    };
    let fits = |habit: &Habit| {
        kind.is_none_or(|kind| habit.kinds.as_deref().is_some_and(|kinds| kinds == [kind.to_owned()]))
    };
    (0..columns.len())
        .filter(|index| columns[*index].habit.is_some_and(fits) && same(&columns[*index]))
        .filter(|index| eligible(&columns[*index]) && columns[*index].score.z >= AS_GOOD * chosen.score.z)
        .max_by(|a, b| {
            let rank = |index: usize| columns[index].habit.map_or(0.0, |habit| habit.rank);
            rank(*a).total_cmp(&rank(*b)).then(b.cmp(a))
        })
        .unwrap_or(best)
}
