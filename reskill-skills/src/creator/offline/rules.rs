//! Assertions from statistics: repeats, missing prerequisites, premature final actions, and the chosen habits.

use std::collections::{BTreeMap, BTreeSet};

use crate::assertion::{Assertion, AssertionEdit, Check, MAX_ASSERTIONS};
use crate::creator::CreatorContext;
use crate::creator::offline::habit::{Habit, verb_pattern};
use crate::creator::offline::text::kebab;
use crate::error::SkillError;
use crate::guidance::Polarity;
use crate::trigger::Pattern;

/// Fewest episodes of each outcome behind a rule.
const MIN_EPISODES: u32 = 10;
/// Share of successes that must keep a rule.
const MIN_SUCCESS: f64 = 0.95;
/// How far failures must fall behind.
const MIN_MARGIN: f64 = 0.2;
/// Most prerequisites added at a time.
const MAX_PREREQUISITES: usize = 3;

/// New assertions, as far as there is room.
///
/// # Errors
/// [`SkillError::BadPattern`] if a verb makes no pattern.
pub(crate) fn edits(
    context: &CreatorContext<'_>,
    chosen: &[&Habit],
    causes: Vec<Assertion>,
) -> Result<Vec<AssertionEdit>, SkillError> {
    let mut wanted = vec![Assertion {
        name: "no-repeat".into(),
        description: "no command twice in a row".into(),
        check: Check::NoConsecutiveRepeat,
    }];
    for habit in chosen {
        let guidance = &habit.evidence.guidance;
        let pattern = Pattern::new(&verb_pattern(&guidance.verb))?;
        let check = match guidance.polarity {
            Polarity::Next => Check::ActionExists { pattern },
            Polarity::DoNot => Check::ActionNotExists { pattern },
        };
        wanted.push(Assertion { name: habit.name(), description: guidance.to_string(), check });
    }
    wanted.extend(causes);
    let sequences = verb_sequences(context);
    if let Some(verb) = final_verb(&sequences) {
        wanted.push(Assertion {
            name: "final-action".into(),
            description: format!("ends with {verb}"),
            check: Check::FinalAction { pattern: Pattern::new(&verb_pattern(verb))? },
        });
    }
    for (first, second) in prerequisites(&sequences) {
        wanted.push(Assertion {
            name: format!("{}-before-{}", kebab(first), kebab(second)),
            description: format!("{first} before {second}"),
            check: Check::ActionBefore {
                first: Pattern::new(&verb_pattern(first))?,
                second: Pattern::new(&verb_pattern(second))?,
            },
        });
    }
    let live = context.assertions.assertions();
    wanted.retain(|assertion| {
        !live.iter().any(|old| old.name == assertion.name || old.check == assertion.check)
    });
    let mut names = BTreeSet::new();
    wanted.retain(|assertion| names.insert(assertion.name.clone()));
    wanted.truncate(MAX_ASSERTIONS.saturating_sub(live.len()));
    Ok(wanted.into_iter().map(AssertionEdit::Put).collect())
}

/// (success, verbs in order) of each episode.
fn verb_sequences<'a>(context: &CreatorContext<'a>) -> Vec<(bool, Vec<&'a str>)> {
    context
        .episodes
        .iter()
        .map(|played| {
            let verbs = played
                .episode
                .actions()
                .filter_map(|action| context.vocabulary.parse(action).map(|parsed| parsed.verb))
                .filter(|verb| !verb.is_empty())
                .collect();
            (played.episode.is_success(), verbs)
        })
        .collect()
}

/// The verb that ends at least 80% of the successes.
fn final_verb<'a>(sequences: &[(bool, Vec<&'a str>)]) -> Option<&'a str> {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    let mut total = 0;
    for verb in sequences.iter().filter(|(success, _)| *success).filter_map(|(_, verbs)| verbs.last()) {
        *counts.entry(verb).or_default() += 1;
        total += 1;
    }
    let (verb, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (total >= MIN_EPISODES && f64::from(count) >= 0.8 * f64::from(total)).then_some(verb)
}

/// Pairs (first, second): successes play `first` before `second`, failures much less often; the clearest first.
fn prerequisites<'a>(sequences: &[(bool, Vec<&'a str>)]) -> Vec<(&'a str, &'a str)> {
    // (first, second) -> per outcome, episodes in which `first` comes before the first `second`.
    let mut before: BTreeMap<(&str, &str), [u32; 2]> = BTreeMap::new();
    let mut with_second: BTreeMap<&str, [u32; 2]> = BTreeMap::new();
    for (success, verbs) in sequences {
        let outcome = usize::from(*success);
        let mut distinct: Vec<&str> = Vec::new();
        for verb in verbs {
            if distinct.contains(verb) {
                continue;
            }
            with_second.entry(verb).or_default()[outcome] += 1;
            for earlier in &distinct {
                before.entry((earlier, verb)).or_default()[outcome] += 1;
            }
            distinct.push(verb);
        }
    }
    let mut found: Vec<(f64, (&str, &str))> = before
        .into_iter()
        .filter_map(|(pair, counts)| {
            let totals = with_second.get(pair.1)?;
            let rate = |outcome: usize| f64::from(counts[outcome]) / f64::from(totals[outcome].max(1));
            let margin = rate(1) - rate(0);
            (totals.iter().all(|n| *n >= MIN_EPISODES) && rate(1) >= MIN_SUCCESS && margin >= MIN_MARGIN)
                .then_some((margin, pair))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    found.into_iter().take(MAX_PREREQUISITES).map(|(_, pair)| pair).collect()
}
