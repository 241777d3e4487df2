//! The kinds of checks and how each is evaluated.

use reskill_envs::Episode;
use serde::{Deserialize, Serialize};

use crate::trigger::Pattern;

/// A check of one episode. Patterns are compiled when a check is built, so a check that exists can be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// Some action matches.
    ActionExists {
        /// The action.
        pattern: Pattern,
    },
    /// No action matches.
    ActionNotExists {
        /// The action.
        pattern: Pattern,
    },
    /// Wherever `second` occurs, `first` has occurred before. Passes if `second` never occurs.
    ActionBefore {
        /// The prerequisite.
        first: Pattern,
        /// What needs it.
        second: Pattern,
    },
    /// No action equals the one before it.
    NoConsecutiveRepeat,
    /// The last action matches.
    FinalAction {
        /// The action.
        pattern: Pattern,
    },
    /// At least so many turns.
    MinSteps {
        /// Turns.
        min: usize,
    },
    /// At most so many turns.
    MaxSteps {
        /// Turns.
        max: usize,
    },
    /// The number of matching actions lies in a range.
    ActionCount {
        /// The action.
        pattern: Pattern,
        /// Fewest.
        #[serde(default)]
        min: usize,
        /// Most; no limit if null.
        #[serde(default)]
        max: Option<usize>,
    },
    /// Some observation matches; with `after`, one that directly follows such an action.
    ObservationContains {
        /// The observation.
        pattern: Pattern,
        /// The action before it.
        #[serde(default)]
        after: Option<Pattern>,
    },
}

impl Check {
    /// Whether some episode could pass and some could fail.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn satisfiable(&self) -> Result<(), String> {
        match self {
            Check::ActionCount { min, max: Some(max), .. } if min > max => {
                Err(format!("min {min} is above max {max}, so no episode passes"))
            }
            Check::ActionCount { min: 0, max: None, .. } => {
                Err("neither min nor max is given, so every episode passes".to_owned())
            }
            Check::MinSteps { min: 0 | 1 } => {
                Err("every episode has a turn, so every episode passes".to_owned())
            }
            Check::MaxSteps { max: 0 } => Err("no episode is without a turn, so none passes".to_owned()),
            Check::ActionBefore { first, second } if first == second => {
                Err("an action does not precede itself, so nothing is checked".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether the episode passes.
    #[must_use]
    pub fn eval(&self, episode: &Episode) -> bool {
        match self {
            Check::ActionExists { pattern } => episode.actions().any(|action| pattern.is_match(action)),
            Check::ActionNotExists { pattern } => !episode.actions().any(|action| pattern.is_match(action)),
            Check::ActionBefore { first, second } => {
                let mut actions = episode.actions();
                // An action that is both does not precede itself.
                let decisive = actions.find(|action| first.is_match(action) || second.is_match(action));
                decisive.is_none_or(|action| !second.is_match(action))
            }
            Check::NoConsecutiveRepeat => {
                let turns = &episode.turns;
                !turns.windows(2).any(|pair| pair[0].action.is_some() && pair[0].action == pair[1].action)
            }
            Check::FinalAction { pattern } => {
                episode.actions().last().is_some_and(|action| pattern.is_match(action))
            }
            Check::MinSteps { min } => episode.turns.len() >= *min,
            Check::MaxSteps { max } => episode.turns.len() <= *max,
            Check::ActionCount { pattern, min, max } => {
                let count = episode.actions().filter(|action| pattern.is_match(action)).count();
                count >= *min && max.is_none_or(|max| count <= max)
            }
            Check::ObservationContains { pattern, after: None } => {
                episode.turns.iter().any(|turn| pattern.is_match(&turn.observation))
                    || pattern.is_match(&episode.final_observation)
            }
            Check::ObservationContains { pattern, after: Some(after) } => {
                episode.turns.iter().enumerate().any(|(turn_idx, turn)| {
                    turn.action.as_deref().is_some_and(|action| after.is_match(action))
                        && pattern.is_match(episode.feedback(turn_idx))
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reskill_envs::{Outcome, Split, Task, TaskId, Turn};

    use super::*;

    fn episode(actions: &[&str]) -> Episode {
        let task = Task { id: TaskId("t".into()), split: Split::Train, family: "f".into(), goal: "g".into() };
        let turn = |(index, action): (usize, &&str)| Turn {
            observation: format!("room {index}"),
            admissible: Vec::new(),
            reply: (*action).to_owned(),
            action: (!action.is_empty()).then(|| (*action).to_owned()),
            valid: true,
        };
        Episode {
            task: Arc::new(task),
            turns: actions.iter().enumerate().map(turn).collect(),
            final_observation: "done".into(),
            outcome: Outcome::Success,
            return_: 1.0,
            score: 1.0,
            fault: None,
        }
    }

    fn check(json: &str, actions: &[&str], expected: bool) {
        let check: Check = serde_json::from_str(json).unwrap();
        assert_eq!(check.eval(&episode(actions)), expected, "{json} on {actions:?}");
    }

    #[test]
    fn nine_kinds_pass_and_fail_where_they_should() {
        let actions = ["go to bed 1", "take pen 1 from bed 1", "look"];
        for (json, expected) in [
            (r#"{"kind":"action_exists","pattern":"^TAKE"}"#, true),
            (r#"{"kind":"action_exists","pattern":"^open"}"#, false),
            (r#"{"kind":"action_not_exists","pattern":"^open"}"#, true),
            (r#"{"kind":"action_before","first":"^go","second":"^take"}"#, true),
            (r#"{"kind":"action_before","first":"^look","second":"^take"}"#, false),
            (r#"{"kind":"action_before","first":"^look","second":"^open"}"#, true),
            (r#"{"kind":"no_consecutive_repeat"}"#, true),
            (r#"{"kind":"final_action","pattern":"^look$"}"#, true),
            (r#"{"kind":"final_action","pattern":"^go"}"#, false),
            (r#"{"kind":"min_steps","min":3}"#, true),
            (r#"{"kind":"max_steps","max":2}"#, false),
            (r#"{"kind":"action_count","pattern":"bed","min":2,"max":2}"#, true),
            (r#"{"kind":"action_count","pattern":"bed","max":1}"#, false),
            (r#"{"kind":"observation_contains","pattern":"room 1"}"#, true),
            (r#"{"kind":"observation_contains","pattern":"done","after":"^look"}"#, true),
            (r#"{"kind":"observation_contains","pattern":"done","after":"^go"}"#, false),
        ] {
            check(json, &actions, expected);
        }
        check(r#"{"kind":"no_consecutive_repeat"}"#, &["look", "look"], false);
        // An unreadable reply is no repeat.
        check(r#"{"kind":"no_consecutive_repeat"}"#, &["", ""], true);
    }

    #[test]
    fn a_check_that_cannot_be_evaluated_cannot_be_built() {
        assert!(serde_json::from_str::<Check>(r#"{"kind":"action_exists","pattern":"("}"#).is_err());
        assert!(serde_json::from_str::<Check>(r#"{"kind":"action_exists"}"#).is_err());
    }
}
