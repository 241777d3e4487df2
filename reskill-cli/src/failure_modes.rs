//! Why an episode failed, as far as its course alone tells.

use std::collections::{BTreeMap, HashMap};

use reskill_envs::Episode;
use reskill_skills::SkillEpisode;
use serde::{Deserialize, Serialize};

/// So many times the same action on the same observation make a loop.
const LOOP: usize = 3;

/// How an episode failed; the first of these that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureMode {
    /// Half of its turns or more had no valid action.
    Invalid,
    /// The same action was taken three times or more on the same observation.
    Loop,
    /// It ended before the turn limit: the environment ended it, or its context was full.
    EndedEarly,
    /// It reached the turn limit without any of these.
    OutOfTurns,
}

impl FailureMode {
    /// All of them, in order.
    pub const ALL: [FailureMode; 4] =
        [FailureMode::Invalid, FailureMode::Loop, FailureMode::EndedEarly, FailureMode::OutOfTurns];

    /// Its name in records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            FailureMode::Invalid => "invalid",
            FailureMode::Loop => "loop",
            FailureMode::EndedEarly => "ended_early",
            FailureMode::OutOfTurns => "out_of_turns",
        }
    }

    /// How `episode` failed; `None` if it succeeded or its environment lost it. `max_turns` is the turn limit it had.
    #[must_use]
    pub fn of(episode: &Episode, max_turns: usize) -> Option<FailureMode> {
        if episode.is_success() || episode.is_lost() {
            return None;
        }
        let n_invalid = episode.turns.iter().filter(|turn| !turn.valid).count();
        if n_invalid > 0 && 2 * n_invalid >= episode.turns.len() {
            return Some(FailureMode::Invalid);
        }
        let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
        for turn in &episode.turns {
            if let Some(action) = turn.action.as_deref() {
                let times = seen.entry((&turn.observation, action)).or_default();
                *times += 1;
                if *times >= LOOP {
                    return Some(FailureMode::Loop);
                }
            }
        }
        let is_early = episode.turns.len() < max_turns;
        Some(if is_early { FailureMode::EndedEarly } else { FailureMode::OutOfTurns })
    }
}

/// How many of `episodes` failed in each way.
#[must_use]
pub fn count(episodes: &[SkillEpisode], max_turns: usize) -> BTreeMap<FailureMode, u64> {
    let mut counts: BTreeMap<FailureMode, u64> = FailureMode::ALL.into_iter().map(|mode| (mode, 0)).collect();
    for mode in episodes.iter().filter_map(|record| FailureMode::of(&record.episode, max_turns)) {
        *counts.entry(mode).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use reskill_envs::Outcome;

    use super::*;

    fn check(actions: &[&str], change: impl Fn(&mut Episode), expected: Option<FailureMode>) {
        let mut episode = SkillEpisode::from_actions("t", "f", "g", actions, Outcome::Failure).episode;
        // Each turn sees something else.
        for (index, turn) in episode.turns.iter_mut().enumerate() {
            turn.observation = format!("room {index}");
        }
        change(&mut episode);
        assert_eq!(FailureMode::of(&episode, 4), expected, "{actions:?}");
    }

    #[test]
    fn a_failure_is_named_after_the_first_mode_that_fits() {
        let nothing = |_: &mut Episode| {};
        check(&["a", "b", "c", "d"], nothing, Some(FailureMode::OutOfTurns));
        check(&["a", "b"], nothing, Some(FailureMode::EndedEarly));
        // The same action three times is no loop while the world answers differently.
        check(&["a", "a", "a", "d"], nothing, Some(FailureMode::OutOfTurns));
        let same_room =
            |episode: &mut Episode| episode.turns.iter_mut().for_each(|turn| turn.observation.clear());
        check(&["a", "b", "a", "a"], same_room, Some(FailureMode::Loop));
        check(&["a", "b", "a", "c"], same_room, Some(FailureMode::OutOfTurns));
        let half_invalid = |episode: &mut Episode| {
            episode.turns.iter_mut().take(2).for_each(|turn| turn.valid = false);
        };
        check(&["a", "a", "a", "a"], half_invalid, Some(FailureMode::Invalid));
        check(&[], nothing, Some(FailureMode::EndedEarly));
    }

    #[test]
    fn successes_and_lost_episodes_have_no_failure_mode() {
        check(&["a"], |episode| episode.outcome = Outcome::Success, None);
        check(&["a"], |episode| episode.fault = Some("gone".into()), None);
    }
}
