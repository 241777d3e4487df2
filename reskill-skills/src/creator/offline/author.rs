//! The skill that answers a cause: which turn should show it, and what it says.

use std::collections::BTreeMap;

use crate::assertion::Check;
use crate::creator::CreatorContext;
use crate::creator::artefacts::Insight;
use crate::creator::offline::cause::{Cause, Form, ratio};
use crate::creator::offline::classes::{NEVER, Trace, Traces};
use crate::creator::offline::strata::Score;
use crate::episode::Rate;
use crate::guidance::{Guidance, Polarity};
use crate::skill::SkillContent;
use crate::trigger::{Pattern, Trigger};

/// A trigger is narrowed to what precedes this share of the points at which episodes go wrong; else it is general.
const MIN_POINTS: f64 = 0.7;

/// A narrow trigger must fire in this share of the failures that show the cause; else it is general.
const MIN_REACHED: f64 = 0.6;

/// What stands before a point of an episode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    Nothing,
    Verb(usize),
    Unknown,
}

/// The skill against a cause. `narrow`: with a trigger where the points allow one.
pub(crate) fn content(
    cause: &Cause,
    traces: &Traces,
    context: &CreatorContext<'_>,
    narrow: bool,
) -> SkillContent {
    let trigger = if narrow { trigger(cause, traces, context) } else { Trigger::Always };
    let label = |class: usize| traces.classes[class].label.as_str();
    let (when_to_use, action) = match &cause.form {
        Form::Missing { class } => (
            "In every episode, well before it ends.".to_owned(),
            format!("Play `{}` before the episode ends.", label(*class)),
        ),
        Form::Before { first, second } => (
            format!("Before the first `{}` of an episode.", label(*second)),
            format!("First play `{}`, then `{}`.", label(*first), label(*second)),
        ),
        Form::Harmful { class } => (
            format!("Whenever `{}` is an option.", label(*class)),
            format!("Do not play `{}`; choose another command.", label(*class)),
        ),
        Form::Repeat { verb: Some(verb) } => (
            format!("Right after a `{}` command.", label(*verb)),
            format!("Do not repeat the same `{}` command; try something else.", label(*verb)),
        ),
        Form::Repeat { verb: None } => (
            "After every command.".to_owned(),
            "Do not repeat the command you just played; try something else.".to_owned(),
        ),
        Form::Revisit => (
            "On every turn.".to_owned(),
            "Do not repeat a command that you have played before; try something new.".to_owned(),
        ),
        Form::EarlyEnd { class } => (
            format!("Whenever `{}` is an option.", label(*class)),
            format!(
                "Do not play `{}` too early: successful episodes last {} turns or more.",
                label(*class),
                usual_length(*class, traces, context)
            ),
        ),
    };
    let guidance = match (&cause.form, &trigger) {
        // Measurable where one verb is asked for, or advised against, on just the turns that show the skill.
        (Form::Harmful { class }, _) => Some((Polarity::DoNot, *class)),
        (Form::Before { first, .. }, Trigger::AfterAction(_) | Trigger::EpisodeStart) => {
            Some((Polarity::Next, *first))
        }
        _ => None,
    };
    let guidance = guidance
        .filter(|(_, class)| traces.classes[*class].kind.is_none())
        .map(|(polarity, class)| Guidance { polarity, verb: traces.classes[class].verb.clone() });
    SkillContent { name: cause.form.name(traces), when_to_use, action, example: None, trigger, guidance }
}

/// Shortest quarter of the successful episodes that end with a class, in turns.
fn usual_length(class: usize, traces: &Traces, context: &CreatorContext<'_>) -> usize {
    let ends = |trace: &Trace| trace.moves.last().is_some_and(|last| last.verb == class);
    let mut lengths: Vec<usize> = traces
        .traces
        .iter()
        .zip(context.episodes)
        .filter(|(trace, played)| played.episode.is_success() && ends(trace))
        .map(|(trace, _)| trace.n_turns)
        .collect();
    lengths.sort_unstable();
    lengths.get(lengths.len() / 4).copied().unwrap_or(1)
}

/// The narrowest trigger that precedes most of the points at which episodes go wrong.
fn trigger(cause: &Cause, traces: &Traces, context: &CreatorContext<'_>) -> Trigger {
    let mut points: BTreeMap<Before, usize> = BTreeMap::new();
    for (index, trace) in traces.traces.iter().enumerate() {
        let success = context.episodes[index].episode.is_success();
        for at in wrong_turns(cause, index, trace, success) {
            *points.entry(preceding(trace, at)).or_default() += 1;
        }
    }
    let total: usize = points.values().sum();
    let Some((before, n)) = points.into_iter().max_by_key(|(before, n)| (*n, std::cmp::Reverse(*before)))
    else {
        return Trigger::Always;
    };
    if ratio(n, total) < MIN_POINTS {
        return Trigger::Always;
    }
    let narrow = match before {
        Before::Nothing => Trigger::EpisodeStart,
        Before::Verb(verb) => Trigger::after_action(&traces.classes[verb].pattern).unwrap_or(Trigger::Always),
        Before::Unknown => Trigger::Always,
    };
    if reaches(&narrow, cause, traces, context) { narrow } else { Trigger::Always }
}

/// Whether a trigger fires in most of the failures, on turns on which the wanted command can be played.
fn reaches(trigger: &Trigger, cause: &Cause, traces: &Traces, context: &CreatorContext<'_>) -> bool {
    let wanted = match &cause.form {
        Form::Missing { class } | Form::Before { first: class, .. } => {
            Pattern::new(&traces.classes[*class].pattern).ok()
        }
        _ => None,
    };
    let mut reached = Rate::default();
    for (played, measure) in context.episodes.iter().zip(&cause.measure) {
        let unheeded = cause.form.polarity() == Polarity::DoNot || *measure == Some(0.0);
        if played.episode.is_success() || measure.is_none() || !unheeded {
            continue;
        }
        reached.add(played.turns().any(|(turn_idx, previous, turn)| {
            trigger.fires(turn_idx, previous)
                && (turn.admissible.is_empty()
                    || wanted
                        .as_ref()
                        .is_none_or(|wanted| turn.admissible.iter().any(|it| wanted.is_match(it))))
        }));
    }
    reached.value().is_none_or(|share| share >= MIN_REACHED)
}

/// The turns of an episode on which the cause is at work.
fn wrong_turns(cause: &Cause, index: usize, trace: &Trace, success: bool) -> Vec<usize> {
    let plays = |class: usize| trace.moves.iter().filter(move |it| it.is(class)).map(|it| it.turn_idx);
    match &cause.form {
        // What is missing has no turn of its own: the turns on which successes did it show when.
        Form::Missing { class } if success && trace.first[*class] != NEVER => vec![trace.first[*class]],
        Form::Before { second, .. } if !success && cause.measure[index] == Some(0.0) => {
            vec![trace.first[*second]]
        }
        Form::Harmful { class } if !success => plays(*class).collect(),
        Form::EarlyEnd { class } if !success => {
            plays(*class).next_back().filter(|at| at + 1 == trace.n_turns).into_iter().collect()
        }
        Form::Repeat { verb } if !success => trace
            .moves
            .windows(2)
            .filter(|pair| pair[0].command == pair[1].command && verb.is_none_or(|verb| pair[1].verb == verb))
            .map(|pair| pair[1].turn_idx)
            .collect(),
        _ => Vec::new(),
    }
}

fn preceding(trace: &Trace, at: usize) -> Before {
    if at == 0 {
        return Before::Nothing;
    }
    trace.moves.iter().find(|it| it.turn_idx + 1 == at).map_or(Before::Unknown, |it| Before::Verb(it.verb))
}

/// What was found, in words and numbers.
pub(crate) fn finding(cause: &Cause, score: &Score, p: f64, traces: &Traces) -> String {
    let label = |class: usize| traces.classes[class].label.as_str();
    let what = match &cause.form {
        Form::Missing { class } => format!("failures leave out `{}`", label(*class)),
        Form::Before { first, second } => {
            format!("failures play `{}` without `{}` before it", label(*second), label(*first))
        }
        Form::Harmful { class } => format!("failures play `{}` more often", label(*class)),
        Form::Repeat { verb: Some(verb) } => format!("failures repeat the same `{}` command", label(*verb)),
        Form::Repeat { verb: None } => "failures repeat the same command".to_owned(),
        Form::Revisit => "failures come back to commands they have played".to_owned(),
        Form::EarlyEnd { class } => format!("failures end too early with `{}`", label(*class)),
    };
    let n = cause.measure.iter().flatten().count();
    let chance = if p > 0.0 { format!(", chance alone {p:.3}") } else { String::new() };
    format!("{what}: z {:.2} over {n} episodes{chance}", score.z)
}

/// The cause as an insight.
pub(crate) fn insight(
    cause: &Cause,
    score: &Score,
    p: f64,
    traces: &Traces,
    context: &CreatorContext<'_>,
) -> Insight {
    let example = |success: bool| {
        let high = success == (cause.form.sign() > 0.0);
        let mut best: Option<(f64, usize)> = None;
        for (index, value) in cause.measure.iter().enumerate() {
            let Some(value) = value.filter(|_| context.episodes[index].episode.is_success() == success)
            else {
                continue;
            };
            let value = if high { value } else { -value };
            if best.is_none_or(|(old, _)| value > old) {
                best = Some((value, index));
            }
        }
        best.map_or_else(Vec::new, |(_, index)| {
            let point = snippet_point(cause, &traces.traces[index]);
            let actions = context.episodes[index].episode.turns.iter().filter_map(|turn| turn.action.clone());
            actions.skip(point.saturating_sub(2)).take(4).collect()
        })
    };
    Insight {
        finding: finding(cause, score, p, traces),
        failure_mode: Some(cause.form.name(traces)),
        failing_actions: example(false),
        succeeding_actions: example(true),
        confidence: score.z * score.z / (4.0 + score.z * score.z),
        evidence: None,
    }
}

/// The turn to show: of the first, or else the second class of the cause.
fn snippet_point(cause: &Cause, trace: &Trace) -> usize {
    let turn = |class: usize| Some(trace.first[class]).filter(|turn| *turn != NEVER);
    let found = match &cause.form {
        Form::Before { first, second } => turn(*first).or_else(|| turn(*second)),
        form => form.subject().and_then(turn),
    };
    found.unwrap_or(0)
}

/// The assertion that the cause breaks; `None` if no check kind says it.
pub(crate) fn check(cause: &Cause, traces: &Traces, context: &CreatorContext<'_>) -> Option<Check> {
    let pattern = |class: usize| Pattern::new(&traces.classes[class].pattern).ok();
    Some(match &cause.form {
        Form::Missing { class } => Check::ActionExists { pattern: pattern(*class)? },
        Form::Before { first, second } => {
            Check::ActionBefore { first: pattern(*first)?, second: pattern(*second)? }
        }
        Form::Harmful { class } => Check::ActionNotExists { pattern: pattern(*class)? },
        Form::Repeat { .. } => Check::NoConsecutiveRepeat,
        Form::EarlyEnd { class } => Check::MinSteps { min: usual_length(*class, traces, context) },
        Form::Revisit => return None,
    })
}
