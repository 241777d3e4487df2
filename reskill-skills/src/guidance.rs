//! Guidance that can be measured: `next <verb>` and `do not <verb>`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::SkillError;

/// Whether guidance asks for a verb or advises against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Polarity {
    /// The verb should come next.
    Next,
    /// The verb should not come next.
    DoNot,
}

/// What a skill asks of the very next action. Its text form is `next open` or `do not look`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Guidance {
    /// For or against.
    pub polarity: Polarity,
    /// The verb, as in the environment's templates, e.g. `go to`.
    pub verb: String,
}

impl Guidance {
    /// Whether an action with `verb` does what the guidance asks.
    #[must_use]
    pub fn is_heeded_by(&self, verb: &str) -> bool {
        (verb == self.verb) == (self.polarity == Polarity::Next)
    }
}

impl fmt::Display for Guidance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.polarity {
            Polarity::Next => write!(f, "next {}", self.verb),
            Polarity::DoNot => write!(f, "do not {}", self.verb),
        }
    }
}

impl FromStr for Guidance {
    type Err = SkillError;

    fn from_str(text: &str) -> Result<Self, SkillError> {
        let (polarity, verb) = if let Some(verb) = text.strip_prefix("next ") {
            (Polarity::Next, verb)
        } else if let Some(verb) = text.strip_prefix("do not ") {
            (Polarity::DoNot, verb)
        } else {
            return Err(SkillError::Guidance { text: text.to_owned() });
        };
        if verb.trim().is_empty() || verb.trim() != verb {
            return Err(SkillError::Guidance { text: text.to_owned() });
        }
        Ok(Self { polarity, verb: verb.to_owned() })
    }
}

impl TryFrom<String> for Guidance {
    type Error = SkillError;

    fn try_from(text: String) -> Result<Self, SkillError> {
        text.parse()
    }
}

impl From<Guidance> for String {
    fn from(guidance: Guidance) -> String {
        guidance.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for text in ["next open", "do not go to"] {
            assert_eq!(text.parse::<Guidance>().unwrap().to_string(), text);
        }
        for text in ["open", "next ", "do not", "next  open"] {
            assert!(text.parse::<Guidance>().is_err(), "{text}");
        }
    }

    #[test]
    fn heeding_depends_on_polarity() {
        assert!("next open".parse::<Guidance>().unwrap().is_heeded_by("open"));
        assert!(!"do not open".parse::<Guidance>().unwrap().is_heeded_by("open"));
        assert!("do not open".parse::<Guidance>().unwrap().is_heeded_by("take"));
    }
}
