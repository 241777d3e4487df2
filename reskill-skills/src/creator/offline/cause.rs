//! Causes of failure that show in an episode as a whole: what is missing, out of order, repeated, harmful, or too early.
//!
//! A [`super::habit::Habit`] needs a situation in which a verb is played or not. These need none, so they are found
//! where the same thing may be done at many points of an episode. Each is measured by one number per episode:
//!
//! | form | measure | sign |
//! |---|---|---|
//! | missing A | 1 if A is played before the last turn, else 0 | + |
//! | A before B | 1 if A comes before the first B, else 0; episodes with B | + |
//! | harmful A | plays of A, less what the length of the episode lets expect | - |
//! | repeats | share of turns that play the command of the turn before once more (of all verbs, or of one) | - |
//! | comes back | plays of any earlier command once more, in the turns that three in four episodes reach | - |
//! | early end B | turns; episodes that end with B | + |
//!
//! What the goal of most tasks names is left out as an A: that a success goes there says nothing new.
//! The last turn ends an episode, so playing A there is not a way to success but success itself. An episode that never
//! had the chance to play A (it was not admissible before the point in question) says nothing about A.

use crate::creator::offline::classes::{NEVER, Trace, Traces};
use crate::creator::offline::config::OfflineConfig;
use crate::creator::offline::text::kebab;
use crate::guidance::Polarity;

/// Fewest episodes on either side of a measure.
const MIN_SIDE: usize = 5;
/// Most classes of verbs, and of objects, that are put in pairs.
const MAX_PAIRED: usize = 40;
/// Share of episodes with a class beyond which there is nothing to compare.
const NEARLY_ALL: f64 = 0.97;

/// What fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// A class is left out.
    Missing { class: usize },
    /// A class must come before the first of another.
    Before { first: usize, second: usize },
    /// A class goes with failure.
    Harmful { class: usize },
    /// The same command twice in a row: of any verb, or of one.
    Repeat { verb: Option<usize> },
    /// A command that was played before.
    Revisit,
    /// An episode ends too early with a class.
    EarlyEnd { class: usize },
}

/// A candidate cause with its measure.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) form: Form,
    /// One value per episode; none where it says nothing.
    pub(crate) measure: Vec<Option<f64>>,
    /// Taken off the score: of two causes that explain the same, the simpler one is named.
    pub(crate) handicap: f64,
}

impl Form {
    /// Whether a skill would ask for something or advise against something.
    pub(crate) fn polarity(&self) -> Polarity {
        match self {
            Form::Missing { .. } | Form::Before { .. } => Polarity::Next,
            _ => Polarity::DoNot,
        }
    }

    /// 1 if more of the measure should mean more success, else -1.
    pub(crate) fn sign(&self) -> f64 {
        match self {
            Form::Missing { .. } | Form::Before { .. } | Form::EarlyEnd { .. } => 1.0,
            Form::Harmful { .. } | Form::Repeat { .. } | Form::Revisit => -1.0,
        }
    }

    /// The name of the skill: `check-before-submit`, `do-open-fridge`, `avoid-shout`, `no-repeat`, `no-early-submit`.
    pub(crate) fn name(&self, traces: &Traces) -> String {
        let label = |class: &usize| kebab(&traces.classes[*class].label);
        match self {
            Form::Missing { class } => format!("do-{}", label(class)),
            Form::Before { first, second } => format!("{}-before-{}", label(first), label(second)),
            Form::Harmful { class } => format!("avoid-{}", label(class)),
            Form::Repeat { verb: None } => "no-repeat".to_owned(),
            Form::Repeat { verb: Some(verb) } => format!("no-repeat-{}", label(verb)),
            Form::Revisit => "no-coming-back".to_owned(),
            Form::EarlyEnd { class } => format!("no-early-{}", label(class)),
        }
    }

    /// The class that the skill would be about.
    pub(crate) fn subject(&self) -> Option<usize> {
        match self {
            Form::Missing { class } | Form::Harmful { class } | Form::EarlyEnd { class } => Some(*class),
            Form::Before { first, .. } => Some(*first),
            Form::Repeat { verb } => *verb,
            Form::Revisit => None,
        }
    }
}

/// All candidates with enough episodes on both sides, whether or not they go with success.
pub(crate) fn candidates(traces: &Traces, config: &OfflineConfig) -> Vec<Cause> {
    let mut found = Vec::new();
    let mut add = |form: Form, handicap: f64, value: &dyn Fn(&Trace) -> Option<f64>| {
        if form.polarity() == Polarity::DoNot && !config.negative {
            return;
        }
        let measure: Vec<Option<f64>> = traces.traces.iter().map(value).collect();
        if tells_apart(&measure, config.min_episodes) {
            found.push(Cause { form, measure, handicap });
        }
    };
    let (verbs, objects) = paired(traces);
    let in_goal = |class: &usize| traces.traces.iter().filter(|trace| trace.in_goal[*class]).count();
    let advised: Vec<usize> =
        objects.iter().copied().filter(|class| in_goal(class) * 2 <= traces.traces.len()).collect();
    for &class in verbs.iter().chain(&advised) {
        let handicap = if traces.classes[class].kind.is_some() { 0.3 } else { 0.0 };
        add(Form::Missing { class }, handicap, &|trace| missing(trace, class));
    }
    for &class in verbs.iter().chain(&objects) {
        let handicap = if traces.classes[class].kind.is_some() { 0.3 } else { 0.0 };
        let line = plays_by_length(traces, class);
        let counts: Vec<Option<f64>> =
            traces.traces.iter().map(|trace| Some(ratio(plays(trace, class), 1))).collect();
        if !tells_apart(&counts, config.min_episodes) {
            continue;
        }
        add(Form::Harmful { class }, handicap + 0.2, &|trace| Some(excess(trace, class, line)));
    }
    for (firsts, seconds, handicap) in
        [(&verbs, &verbs, 0.2), (&advised, &verbs, 0.5), (&verbs, &objects, 0.5), (&advised, &objects, 0.7)]
    {
        for &first in firsts {
            for &second in seconds.iter().filter(|second| !overlap(traces, first, **second)) {
                add(Form::Before { first, second }, handicap, &|trace| before(trace, first, second));
            }
        }
    }
    add(Form::Repeat { verb: None }, 0.0, &|trace| share(trace, repeats(trace, None)));
    let mut lengths: Vec<usize> = traces.traces.iter().map(|trace| trace.n_turns).collect();
    lengths.sort_unstable();
    let reached = lengths.get(lengths.len() / 4).copied().unwrap_or(0);
    add(Form::Revisit, 0.5, &|trace| {
        (reached > 2 && trace.n_turns >= reached).then(|| ratio(revisits(trace, reached), reached))
    });
    for &verb in &verbs {
        add(Form::Repeat { verb: Some(verb) }, 0.2, &|trace| share(trace, repeats(trace, Some(verb))));
        add(Form::EarlyEnd { class: verb }, 0.3, &|trace| early(trace, verb));
    }
    found
}

/// Classes by how evenly they split the episodes, the most even first; the rest cannot tell success from failure.
fn paired(traces: &Traces) -> (Vec<usize>, Vec<usize>) {
    let n = traces.traces.len();
    let mut classes: Vec<(usize, usize)> = (0..traces.classes.len())
        .map(|class| (traces.traces.iter().filter(|trace| trace.first[class] != NEVER).count(), class))
        .filter(|(with, _)| *with >= MIN_SIDE)
        .collect();
    classes.sort_by_key(|(with, class)| (with.abs_diff(n / 2), *class));
    let of = |object: bool| {
        let kept = classes.iter().filter(|(_, class)| traces.classes[*class].kind.is_some() == object);
        kept.take(MAX_PAIRED).map(|(_, class)| *class).collect::<Vec<_>>()
    };
    (of(false), of(true))
}

/// A class and its own verb are not in order.
fn overlap(traces: &Traces, a: usize, b: usize) -> bool {
    let (one, other) = (&traces.classes[a], &traces.classes[b]);
    a == b || (one.verb == other.verb && (one.kind.is_none() || other.kind.is_none()))
}

fn tells_apart(measure: &[Option<f64>], min_episodes: usize) -> bool {
    let known: Vec<f64> = measure.iter().copied().flatten().collect();
    let Some(first) = known.first() else { return false };
    let (low, high) = known.iter().fold((*first, *first), |(low, high), x| (low.min(*x), high.max(*x)));
    if known.len() < min_episodes || high <= low {
        return false;
    }
    let middle = f64::midpoint(low, high);
    let above = known.iter().filter(|x| **x > middle).count();
    let (above_low, below_high) =
        (known.iter().filter(|x| **x > low).count(), known.iter().filter(|x| **x < high).count());
    let rare = above.min(known.len() - above) < MIN_SIDE && above_low.min(below_high) < 2 * MIN_SIDE;
    !rare
}

fn missing(trace: &Trace, class: usize) -> Option<f64> {
    let last = trace.n_turns.saturating_sub(1);
    if trace.first[class] < last {
        return Some(1.0);
    }
    (trace.chance[class] < last).then_some(0.0)
}

fn before(trace: &Trace, first: usize, second: usize) -> Option<f64> {
    let at = trace.first[second];
    if at == NEVER {
        return None;
    }
    if trace.first[first] < at {
        return Some(1.0);
    }
    (trace.chance[first] <= at).then_some(0.0)
}

/// Plays of a class by length of the episode, least squares over all episodes: [mean length, slope]. Failures
/// are longer in one world and shorter in another; neither should put the blame on what is played throughout.
fn plays_by_length(traces: &Traces, class: usize) -> [f64; 2] {
    let n = traces.traces.len().max(1);
    let points =
        || traces.traces.iter().map(|trace| (ratio(trace.n_turns, 1), ratio(plays(trace, class), 1)));
    let (length, count) = points().fold((0.0, 0.0), |(a, b), (x, y)| (a + x, b + y));
    let (length, count) = (length / ratio(n, 1), count / ratio(n, 1));
    let (xy, xx) = points()
        .fold((0.0, 0.0), |(xy, xx), (x, y)| (xy + (x - length) * (y - count), xx + (x - length).powi(2)));
    [length, if xx > 0.0 { xy / xx } else { 0.0 }]
}

fn excess(trace: &Trace, class: usize, [length, slope]: [f64; 2]) -> f64 {
    ratio(plays(trace, class), 1) - slope * (ratio(trace.n_turns, 1) - length)
}

fn plays(trace: &Trace, class: usize) -> usize {
    trace.moves.iter().filter(|it| it.is(class)).count()
}

fn early(trace: &Trace, class: usize) -> Option<f64> {
    let last = trace.moves.last()?;
    (last.verb == class && last.turn_idx + 1 == trace.n_turns).then(|| ratio(trace.n_turns, 1))
}

fn repeats(trace: &Trace, verb: Option<usize>) -> usize {
    let same = |pair: &&[super::classes::Move]| {
        pair[0].command == pair[1].command
            && pair[0].turn_idx + 1 == pair[1].turn_idx
            && verb.is_none_or(|verb| pair[1].verb == verb)
    };
    trace.moves.windows(2).filter(same).count()
}

fn revisits(trace: &Trace, n_turns: usize) -> usize {
    let moves = &trace.moves[..trace.moves.partition_point(|it| it.turn_idx < n_turns)];
    let seen = |index: usize| moves[..index].iter().any(|it| it.command == moves[index].command);
    (0..moves.len()).filter(|index| seen(*index)).count()
}

fn share(trace: &Trace, n: usize) -> Option<f64> {
    (trace.n_turns > 0).then(|| ratio(n, trace.n_turns))
}

/// If class `b` is hardly ever played without `a` before it: then `a` is what leads there.
pub(crate) fn leads_to(traces: &Traces, a: usize, b: usize) -> bool {
    let with: Vec<&Trace> = traces.traces.iter().filter(|trace| trace.first[b] != NEVER).collect();
    let led = with.iter().filter(|trace| trace.first[a] < trace.first[b]).count();
    !with.is_empty() && ratio(led, with.len()) >= NEARLY_ALL
}

#[expect(clippy::cast_precision_loss, reason = "counts of turns are small")]
pub(crate) fn ratio(n: usize, total: usize) -> f64 {
    n as f64 / total as f64
}
