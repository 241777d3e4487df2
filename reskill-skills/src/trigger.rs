//! When a skill is shown: triggers and the patterns inside them.

use std::fmt;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::error::SkillError;

/// Largest compiled size of a pattern, in bytes: enough for any list of kinds, too small to exhaust memory.
const SIZE_LIMIT: usize = 1 << 20;
/// Deepest nesting of a pattern.
const NEST_LIMIT: u32 = 50;
/// Longest source of a pattern, in bytes.
const SOURCE_LIMIT: usize = 1000;

/// A compiled, case-insensitive regular expression that remembers its source.
///
/// Two patterns are equal if their sources are; serde reads and writes the source, so a pattern that exists compiles.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Compiles `source`.
    ///
    /// # Errors
    /// [`SkillError::BadPattern`] if it does not compile, is too large, or matches the empty text (it would match
    /// every action: say [`Trigger::Always`] instead).
    pub fn new(source: &str) -> Result<Self, SkillError> {
        let bad =
            |reason: String| SkillError::BadPattern { pattern: source.chars().take(120).collect(), reason };
        if source.len() > SOURCE_LIMIT {
            return Err(bad(format!("{} bytes, expected at most {SOURCE_LIMIT}", source.len())));
        }
        let regex = RegexBuilder::new(source)
            .case_insensitive(true)
            .size_limit(SIZE_LIMIT)
            .dfa_size_limit(SIZE_LIMIT)
            .nest_limit(NEST_LIMIT)
            .build()
            .map_err(|error| bad(crate::error::one_line(&error)))?;
        if regex.is_match("") {
            return Err(bad("matches the empty text, so it would match everything".into()));
        }
        Ok(Self { source: source.to_owned(), regex })
    }

    /// Whether the pattern is found anywhere in `text`.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The source it was compiled from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl TryFrom<String> for Pattern {
    type Error = SkillError;

    fn try_from(source: String) -> Result<Self, SkillError> {
        Self::new(&source)
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.source
    }
}

/// The condition under which a skill is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// On every turn.
    Always,
    /// On the first turn of an episode.
    EpisodeStart,
    /// On a turn whose previous parsed action contains the pattern.
    AfterAction(Pattern),
}

impl Trigger {
    /// A trigger that fires after actions that match `source`.
    ///
    /// # Errors
    /// [`SkillError::BadPattern`], see [`Pattern::new`].
    pub fn after_action(source: &str) -> Result<Self, SkillError> {
        Ok(Trigger::AfterAction(Pattern::new(source)?))
    }

    /// A trigger that fires after actions that begin with `verb`, whatever characters it has.
    ///
    /// # Errors
    /// [`SkillError::BadPattern`] if the verb is too long for a pattern.
    pub fn after_verb(verb: &str) -> Result<Self, SkillError> {
        Trigger::after_action(&format!("^{}", regex::escape(verb)))
    }

    /// Whether it fires on turn `turn_idx` (0-based) after `previous_action`, the action parsed from the reply of the
    /// turn before. The last action of an episode is nobody's previous action, so it never fires anything.
    #[must_use]
    pub fn fires(&self, turn_idx: usize, previous_action: Option<&str>) -> bool {
        match self {
            Trigger::Always => true,
            Trigger::EpisodeStart => turn_idx == 0,
            Trigger::AfterAction(pattern) => previous_action.is_some_and(|action| pattern.is_match(action)),
        }
    }

    /// The pattern's source, if there is one.
    #[must_use]
    pub fn pattern(&self) -> Option<&str> {
        match self {
            Trigger::AfterAction(pattern) => Some(pattern.as_str()),
            Trigger::Always | Trigger::EpisodeStart => None,
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trigger::Always => f.write_str("general"),
            Trigger::EpisodeStart => f.write_str("beginning"),
            Trigger::AfterAction(pattern) => write!(f, "after /{}/", pattern.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_action_searches_the_previous_action_ignoring_case() {
        let trigger = Trigger::after_action("^GO to (drawer|cabinet)").unwrap();
        assert!(trigger.fires(1, Some("go to Drawer 3")));
        assert!(!trigger.fires(1, Some("please go to drawer 3")));
        assert!(!trigger.fires(1, None));
    }

    #[test]
    fn after_verb_takes_the_verb_as_it_is() {
        let trigger = Trigger::after_verb("execute[DESC").unwrap();
        assert!(trigger.fires(1, Some("execute[desc cakes]")));
        assert!(!trigger.fires(1, Some("executeD")));
        assert_eq!(Trigger::after_verb("go to").unwrap().pattern(), Some("^go to"));
    }

    #[test]
    fn patterns_that_do_not_compile_or_match_everything_are_refused() {
        for source in [
            "(",
            "",
            ".*",
            "go|",
            "a{1000}{1000}{100}",
            &"(".repeat(300),
            &format!("{}a{}", "(".repeat(80), ")".repeat(80)),
        ] {
            assert!(matches!(Pattern::new(source), Err(SkillError::BadPattern { .. })), "{source}");
        }
        assert!(Pattern::new(&"a".repeat(2000)).is_err());
        assert!(serde_json::from_str::<Trigger>(r#"{"after_action":"("}"#).is_err());
    }

    #[test]
    fn triggers_round_trip_through_json() {
        for trigger in [Trigger::Always, Trigger::EpisodeStart, Trigger::after_action("^go to").unwrap()] {
            let json = serde_json::to_string(&trigger).unwrap();
            assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger, "{json}");
        }
    }
}
