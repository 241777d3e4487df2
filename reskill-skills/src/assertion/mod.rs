//! Rules that an episode passes or fails: a diagnosis, never a reward.

pub mod check;
pub mod report;

use serde::{Deserialize, Serialize};

use crate::error::SkillError;

pub use check::Check;
pub use report::{AssertionReport, AssertionRow};

/// Most assertions alive at a time.
pub const MAX_ASSERTIONS: usize = 15;

/// A named check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assertion {
    /// Name, unique in a set.
    pub name: String,
    /// What it checks, in words.
    pub description: String,
    /// The check.
    pub check: Check,
}

/// One change of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssertionEdit {
    /// Adds an assertion, or replaces the one with its name.
    Put(Assertion),
    /// Removes the one with this name; no such name is no error.
    Remove(String),
}

/// The live assertions, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AssertionSet {
    assertions: Vec<Assertion>,
}

impl AssertionSet {
    /// The assertions in order.
    #[must_use]
    pub fn assertions(&self) -> &[Assertion] {
        &self.assertions
    }

    /// The set after some edits: all of them apply, or none does.
    ///
    /// # Errors
    /// [`SkillError::Count`] if more than [`MAX_ASSERTIONS`] would live.
    pub fn apply(&self, edits: &[AssertionEdit]) -> Result<Self, SkillError> {
        let mut assertions = self.assertions.clone();
        for edit in edits {
            match edit {
                AssertionEdit::Put(assertion) => {
                    if let Some(old) = assertions.iter_mut().find(|old| old.name == assertion.name) {
                        *old = assertion.clone();
                    } else {
                        assertions.push(assertion.clone());
                    }
                }
                AssertionEdit::Remove(name) => assertions.retain(|old| old.name != *name),
            }
        }
        if assertions.len() > MAX_ASSERTIONS {
            return Err(SkillError::Count {
                what: "live assertions",
                got: assertions.len(),
                expected: format!("at most {MAX_ASSERTIONS}"),
            });
        }
        Ok(Self { assertions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(name: &str) -> AssertionEdit {
        let check = Check::NoConsecutiveRepeat;
        AssertionEdit::Put(Assertion { name: name.into(), description: String::new(), check })
    }

    #[test]
    fn edits_apply_all_or_none_and_at_most_fifteen_live() {
        let edits: Vec<_> = (0..15).map(|i| put(&format!("a{i}"))).collect();
        let full = AssertionSet::default().apply(&edits).unwrap();
        assert!(full.apply(&[put("one-more")]).is_err());
        let swapped = full.apply(&[AssertionEdit::Remove("a3".into()), put("one-more"), put("a4")]).unwrap();
        assert_eq!(swapped.assertions().len(), 15);
    }
}
