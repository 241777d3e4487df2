//! One skill, and the limits its text must keep.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::SkillError;
use crate::guidance::Guidance;
use crate::trigger::Trigger;

/// Identifier of a skill, unique over a run. It survives changes of content; names may be used again, ids are not.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SkillId(pub String);

impl fmt::Display for SkillId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One example of what to do, or of what not to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Example {
    /// Worth copying.
    Do(String),
    /// To be avoided.
    Dont(String),
}

impl Example {
    /// The text, without the label.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Example::Do(text) | Example::Dont(text) => text,
        }
    }
}

/// Whether a skill is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkillStatus {
    /// Shown when its trigger fires.
    #[default]
    Active,
    /// Kept on disk, never shown.
    Inactive,
}

impl SkillStatus {
    /// The name used in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SkillStatus::Active => "active",
            SkillStatus::Inactive => "inactive",
        }
    }
}

/// What an author writes: everything about a skill but its identity and its age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkillContent {
    /// Kebab-case name, 1-64 of a-z, 0-9 and single inner hyphens.
    pub name: String,
    /// One sentence: the situation.
    pub when_to_use: String,
    /// One or two sentences: what to do.
    pub action: String,
    /// At most one example.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Example>,
    /// When it is shown.
    pub trigger: Trigger,
    /// The measurable form of `action`, if it asks for one verb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Guidance>,
}

/// Front matter of a third-party skill that this crate does not use but must not lose.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignFields {
    /// `license`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// `compatibility`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compatibility: Option<String>,
    /// `allowed-tools`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_tools: Option<String>,
    /// Keys of `metadata` that do not begin with `reskill-`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Lines of front matter under keys that the open format does not know.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub extra: String,
    /// The whole file, if a third party wrote it: unchanged skills are written back byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A skill of a bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skill {
    /// Identity.
    pub id: SkillId,
    /// What it says and when.
    pub content: SkillContent,
    /// 1 when born, plus one for each change.
    pub version: u32,
    /// Shown or not.
    pub status: SkillStatus,
    /// Training step at which it was proposed.
    pub born_step: u64,
    /// What a third party wrote into its file.
    #[serde(default)]
    pub foreign: ForeignFields,
}

impl Skill {
    /// The skill's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.content.name
    }

    /// Whether it is shown on turn `turn_idx` after `previous_action`.
    #[must_use]
    pub fn fires(&self, turn_idx: usize, previous_action: Option<&str>) -> bool {
        self.status == SkillStatus::Active && self.content.trigger.fires(turn_idx, previous_action)
    }
}

/// Limits on skills, bundles and banks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SkillLimits {
    /// Longest `when_to_use`, in words.
    pub when_to_use_words: usize,
    /// Longest `action`, in words.
    pub action_words: usize,
    /// Longest `when_to_use`, `action` and example together, in characters.
    pub total_chars: usize,
    /// Most active skills of a bank.
    pub max_skills: usize,
    /// Most operations of a bundle.
    pub max_operations: usize,
}

impl Default for SkillLimits {
    fn default() -> Self {
        Self { when_to_use_words: 25, action_words: 50, total_chars: 500, max_skills: 8, max_operations: 3 }
    }
}

impl SkillLimits {
    /// Checks a skill's text.
    ///
    /// # Errors
    /// [`SkillError::Limit`] with the field, what it holds and what is allowed.
    pub fn check(&self, content: &SkillContent) -> Result<(), SkillError> {
        check_name(&content.name)?;
        let fail = |field: &'static str, got: String, expected: String| {
            Err(SkillError::Limit { skill: content.name.clone(), field, got, expected })
        };
        let texts = [
            ("when_to_use", content.when_to_use.as_str(), self.when_to_use_words),
            ("action", content.action.as_str(), self.action_words),
        ];
        for (field, text, max_words) in texts {
            let words = text.split_whitespace().count();
            if words == 0 || words > max_words {
                return fail(field, format!("{words} words"), format!("1 to {max_words}"));
            }
            if text.contains(['\n', '\r']) || text.trim() != text {
                return fail(field, "line breaks or outer blanks".into(), "one line".into());
            }
        }
        if let Some(example) = &content.example
            && (example.text().trim().is_empty()
                || example.text().trim() != example.text()
                || example.text().contains("\n\n")
                || example.text().contains('\r'))
        {
            return fail("example", "blank parts".into(), "one paragraph".into());
        }
        let example_chars = content.example.as_ref().map_or(0, |example| example.text().chars().count());
        let chars = content.when_to_use.chars().count() + content.action.chars().count() + example_chars;
        if chars > self.total_chars {
            return fail("text", format!("{chars} characters"), format!("at most {}", self.total_chars));
        }
        Ok(())
    }
}

/// Checks a name: 1-64 of a-z, 0-9 and single hyphens that are neither first nor last.
///
/// # Errors
/// [`SkillError::Limit`].
pub(crate) fn check_name(name: &str) -> Result<(), SkillError> {
    let legal = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if (1..=64).contains(&name.len())
        && legal
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
    {
        return Ok(());
    }
    Err(SkillError::Limit {
        skill: name.chars().take(80).collect(),
        field: "name",
        got: format!("{} characters, or others than a-z 0-9 and single inner hyphens", name.chars().count()),
        expected: "kebab-case, 1 to 64 characters".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(name: &str, action: &str) -> SkillContent {
        SkillContent {
            name: name.into(),
            when_to_use: "After going to a drawer.".into(),
            action: action.into(),
            example: None,
            trigger: Trigger::Always,
            guidance: None,
        }
    }

    #[test]
    fn names_are_kebab_case() {
        let limits = SkillLimits::default();
        for name in ["a", "open-2", &"a".repeat(64)] {
            assert!(limits.check(&content(name, "next open")).is_ok(), "{name}");
        }
        for name in ["", "-a", "a-", "a--b", "Open", "a_b", "../x", &"a".repeat(65)] {
            assert!(limits.check(&content(name, "next open")).is_err(), "{name}");
        }
    }

    #[test]
    fn texts_over_the_limit_are_refused_with_the_count() {
        let limits = SkillLimits::default();
        let error = limits.check(&content("a", "open ".repeat(51).trim_end())).unwrap_err();
        assert_eq!(error.to_string(), "skill `a`: action has 51 words, expected 1 to 50");
        let long = "x".repeat(480);
        assert!(limits.check(&content("a", &long)).is_err());
        assert!(limits.check(&content("a", "one\ntwo")).is_err());
        assert!(limits.check(&content("a", "")).is_err());
    }
}
