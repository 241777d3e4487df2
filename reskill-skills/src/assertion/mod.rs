//! Rules that an episode passes or fails: a diagnosis, never a reward.

pub mod check;
pub mod report;

use serde::{Deserialize, Serialize};

use crate::error::SkillError;

pub use check::Check;
pub use report::{AssertionReport, AssertionRow, Discrimination};

/// Longest name, in characters.
const MAX_NAME: usize = 80;

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
    /// A new assertion; its name must be free.
    Add(Assertion),
    /// Other words or another check for the assertion of this name, which must be live.
    Modify(Assertion),
    /// The assertion of this name goes; it must be live.
    Delete(String),
    /// Adds an assertion, or replaces the one with its name.
    Put(Assertion),
    /// Removes the one with this name; no such name is no error.
    Remove(String),
}

/// An edit that was not applied, with the reason, for whoever proposed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedEdit {
    /// Position among the edits.
    pub index: usize,
    /// The edit.
    pub edit: AssertionEdit,
    /// Why.
    pub reason: String,
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
    /// [`SkillError::AssertionEdit`] for the first edit that is refused, with the reason; [`SkillError::Count`] if more
    /// than [`MAX_ASSERTIONS`] would live in the end.
    pub fn apply(&self, edits: &[AssertionEdit]) -> Result<Self, SkillError> {
        let mut set = self.clone();
        for (index, edit) in edits.iter().enumerate() {
            set.edit(edit).map_err(|reason| SkillError::AssertionEdit { index, reason })?;
        }
        if set.assertions.len() > MAX_ASSERTIONS {
            return Err(SkillError::Count {
                what: "live assertions",
                got: set.assertions.len(),
                expected: format!("at most {MAX_ASSERTIONS}"),
            });
        }
        Ok(set)
    }

    /// The set after as many of the edits as are valid, deletions first, and those that are not, with the reason.
    #[must_use]
    pub fn apply_valid(&self, edits: &[AssertionEdit]) -> (Self, Vec<RefusedEdit>) {
        let mut set = self.clone();
        let mut refused = Vec::new();
        let removes =
            |edit: &AssertionEdit| matches!(edit, AssertionEdit::Delete(_) | AssertionEdit::Remove(_));
        let numbered = || edits.iter().enumerate();
        let ordered = numbered().filter(|it| removes(it.1)).chain(numbered().filter(|it| !removes(it.1)));
        for (index, edit) in ordered {
            let mut next = set.clone();
            let outcome = next.edit(edit).and_then(|()| {
                let n = next.assertions.len();
                if n > MAX_ASSERTIONS && n > set.assertions.len() {
                    return Err(format!("{MAX_ASSERTIONS} assertions are live already; delete one first"));
                }
                Ok(())
            });
            match outcome {
                Ok(()) => set = next,
                Err(reason) => refused.push(RefusedEdit { index, edit: edit.clone(), reason }),
            }
        }
        refused.sort_by_key(|it| it.index);
        (set, refused)
    }

    fn edit(&mut self, edit: &AssertionEdit) -> Result<(), String> {
        let position = |name: &str| self.assertions.iter().position(|old| old.name == name);
        match edit {
            AssertionEdit::Add(new) | AssertionEdit::Modify(new) | AssertionEdit::Put(new) => {
                new.check.satisfiable().map_err(|why| format!("`{}`: {why}", new.name))?;
                if new.name.trim().is_empty() || new.name.chars().count() > MAX_NAME {
                    return Err(format!("a name has 1 to {MAX_NAME} characters"));
                }
                match (position(&new.name), edit) {
                    (Some(_), AssertionEdit::Add(_)) => {
                        return Err(format!(
                            "`{}` is live already; modify it or choose another name",
                            new.name
                        ));
                    }
                    (None, AssertionEdit::Modify(_)) => {
                        return Err(format!("no live assertion `{}`", new.name));
                    }
                    (Some(at), _) => self.assertions[at] = new.clone(),
                    (None, _) => self.assertions.push(new.clone()),
                }
            }
            AssertionEdit::Delete(name) => {
                let at = position(name).ok_or_else(|| format!("no live assertion `{name}`"))?;
                self.assertions.remove(at);
            }
            AssertionEdit::Remove(name) => self.assertions.retain(|old| old.name != *name),
        }
        Ok(())
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

    #[test]
    fn invalid_edits_are_refused_with_the_reason_and_the_others_apply() {
        let assertion =
            |name: &str, check: Check| Assertion { name: name.into(), description: String::new(), check };
        let empty = Check::ActionCount { pattern: "go".to_owned().try_into().unwrap(), min: 3, max: Some(1) };
        let edits = [
            AssertionEdit::Add(assertion("a", Check::MinSteps { min: 2 })),
            AssertionEdit::Add(assertion("a", Check::MinSteps { min: 3 })),
            AssertionEdit::Modify(assertion("b", Check::MinSteps { min: 3 })),
            AssertionEdit::Delete("c".into()),
            AssertionEdit::Add(assertion("d", empty)),
            AssertionEdit::Modify(assertion("a", Check::MinSteps { min: 4 })),
        ];
        let (set, refused) = AssertionSet::default().apply_valid(&edits);
        assert_eq!(set.assertions(), [assertion("a", Check::MinSteps { min: 4 })]);
        let reasons: Vec<(usize, &str)> = refused.iter().map(|it| (it.index, it.reason.as_str())).collect();
        assert_eq!(
            reasons,
            [
                (1, "`a` is live already; modify it or choose another name"),
                (2, "no live assertion `b`"),
                (3, "no live assertion `c`"),
                (4, "`d`: min 3 is above max 1, so no episode passes"),
            ]
        );
        assert!(matches!(
            AssertionSet::default().apply(&edits),
            Err(SkillError::AssertionEdit { index: 1, .. })
        ));
    }

    #[test]
    fn a_full_set_takes_an_assertion_in_exchange_only() {
        let edits: Vec<_> = (0..15).map(|i| put(&format!("a{i}"))).collect();
        let full = AssertionSet::default().apply(&edits).unwrap();
        let (same, refused) = full.apply_valid(&[put("x")]);
        assert_eq!((same, refused.len()), (full.clone(), 1));
        let (swapped, refused) = full.apply_valid(&[put("x"), AssertionEdit::Delete("a0".into())]);
        assert!(refused.is_empty() && swapped.assertions().len() == 15);
    }
}
