//! The difference of two banks: for people, as JSON, and as something that can be applied.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::bank::SkillBank;
use crate::error::SkillError;
use crate::skill::{Example, Skill, SkillId};

/// The difference of two banks, by skill id. `old.patch(&old.diff(&new))` is `new`, and the diff the other way leads back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankDiff {
    /// Only in the later bank.
    pub added: Vec<Skill>,
    /// In both, not alike: (before, after).
    pub modified: Vec<(Skill, Skill)>,
    /// Only in the earlier bank.
    pub deleted: Vec<Skill>,
    /// All skills of the later bank in their order.
    #[serde(default)]
    pub order: Vec<SkillId>,
    /// Number of the next skill born in the later bank.
    #[serde(default)]
    pub next_id: u64,
}

/// One field of a changed skill: its name, the text before and the text after.
pub type FieldChange = (&'static str, String, String);

impl SkillBank {
    /// What must be done to get from this bank to `other`.
    #[must_use]
    pub fn diff(&self, other: &SkillBank) -> BankDiff {
        let missing_in = |bank: &SkillBank, skill: &Skill| bank.get(&skill.id).is_none();
        BankDiff {
            added: other.skills().iter().filter(|skill| missing_in(self, skill)).cloned().collect(),
            modified: self
                .skills()
                .iter()
                .filter_map(|old| {
                    let new = other.get(&old.id)?;
                    (new != old).then(|| (old.clone(), new.clone()))
                })
                .collect(),
            deleted: self.skills().iter().filter(|skill| missing_in(other, skill)).cloned().collect(),
            order: other.skills().iter().map(|skill| skill.id.clone()).collect(),
            next_id: other.next_id(),
        }
    }

    /// The bank after a diff that was taken from it.
    ///
    /// # Errors
    /// [`SkillError::Patch`] if the bank is not the one the diff was taken from; [`SkillError::Duplicate`].
    pub fn patch(&self, diff: &BankDiff) -> Result<SkillBank, SkillError> {
        let fail = |reason: String| Err(SkillError::Patch { reason });
        for gone in diff.deleted.iter().chain(diff.modified.iter().map(|(before, _)| before)) {
            if self.get(&gone.id) != Some(gone) {
                return fail(format!("`{}` ({}) is not there, or not as expected", gone.name(), gone.id));
            }
        }
        let mut skills = Vec::with_capacity(diff.order.len());
        for id in &diff.order {
            let changed = diff.added.iter().chain(diff.modified.iter().map(|(_, after)| after));
            let Some(skill) = changed.into_iter().find(|skill| skill.id == *id).or_else(|| self.get(id))
            else {
                return fail(format!("`{id}` is neither in the bank nor in the diff"));
            };
            skills.push(skill.clone());
        }
        if skills.len() + diff.deleted.len() != self.skills().len() + diff.added.len() {
            return fail("the bank holds skills that the diff does not know".to_owned());
        }
        Ok(SkillBank::from_skills(skills)?.reserving_ids_below(diff.next_id))
    }
}

impl BankDiff {
    /// Whether the banks hold the same skills.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.deleted.is_empty()
    }
}

/// The fields in which two versions of a skill differ.
#[must_use]
pub fn field_changes(before: &Skill, after: &Skill) -> Vec<FieldChange> {
    let (old, new) = (fields(before), fields(after));
    old.into_iter().zip(new).filter(|(a, b)| a != b).map(|((field, a), (_, b))| (field, a, b)).collect()
}

fn fields(skill: &Skill) -> [(&'static str, String); 9] {
    let content = &skill.content;
    let example = match &content.example {
        None => String::new(),
        Some(Example::Do(text)) => format!("do: {text}"),
        Some(Example::Dont(text)) => format!("don't: {text}"),
    };
    [
        ("name", content.name.clone()),
        ("when to use", content.when_to_use.clone()),
        ("action", content.action.clone()),
        ("example", example),
        ("trigger", content.trigger.to_string()),
        ("guidance", content.guidance.as_ref().map_or_else(String::new, ToString::to_string)),
        ("version", skill.version.to_string()),
        ("status", skill.status.as_str().to_owned()),
        ("other front matter", front_matter(skill)),
    ]
}

fn front_matter(skill: &Skill) -> String {
    let foreign = &skill.foreign;
    let named = [
        ("license", &foreign.license),
        ("compatibility", &foreign.compatibility),
        ("allowed-tools", &foreign.allowed_tools),
    ];
    let mut lines: Vec<String> =
        named.iter().filter_map(|(key, value)| Some(format!("{key}: {}", value.as_ref()?))).collect();
    lines.extend(foreign.metadata.iter().map(|(key, value)| format!("{key}: {value}")));
    lines.extend(foreign.extra.lines().map(str::to_owned));
    lines.join("; ")
}

impl fmt::Display for BankDiff {
    /// One paragraph a skill: `+` added, `-` deleted, `~` modified, then the fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "no difference");
        }
        for (sign, skills) in [('-', &self.deleted), ('+', &self.added)] {
            for skill in skills {
                writeln!(f, "{sign} {} ({})", skill.name(), skill.id)?;
                for (field, text) in fields(skill).iter().skip(1).filter(|(_, text)| !text.is_empty()) {
                    writeln!(f, "    {sign} {field}: {}", indented(text))?;
                }
            }
        }
        for (before, after) in &self.modified {
            writeln!(f, "~ {} ({})", after.name(), after.id)?;
            for (field, old, new) in field_changes(before, after) {
                for (sign, text) in [('-', old), ('+', new)].iter().filter(|(_, text)| !text.is_empty()) {
                    writeln!(f, "    {sign} {field}: {}", indented(text))?;
                }
            }
        }
        Ok(())
    }
}

fn indented(text: &str) -> String {
    text.replace('\n', "\n        ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Operation, SkillContent, SkillLimits, Trigger};

    fn content(name: &str, trigger: Trigger) -> SkillContent {
        SkillContent {
            name: name.into(),
            when_to_use: "Now.".into(),
            action: "next open".into(),
            example: None,
            trigger,
            guidance: None,
        }
    }

    #[test]
    fn a_diff_names_what_was_added_modified_and_deleted() {
        let limits = SkillLimits::default();
        let add = |name: &str| Operation::Add(content(name, Trigger::EpisodeStart));
        let old = SkillBank::default().apply(&[add("a"), add("b")], 1, &limits).unwrap();
        let (a, b) = (old.skills()[0].id.clone(), old.skills()[1].id.clone());
        let modify = Operation::Modify { id: a, content: content("a", Trigger::Always) };
        let new = old.apply(&[modify, Operation::Delete { id: b }, add("c")], 2, &limits).unwrap();
        let diff = old.diff(&new);
        assert_eq!((diff.added.len(), diff.modified.len(), diff.deleted.len()), (1, 1, 1));
        assert_eq!(diff.modified[0].1.version, 2);
        assert!(old.diff(&old).is_empty());
        let text = diff.to_string();
        for line in [
            "- b (s0001)",
            "+ c (s0002)",
            "~ a (s0000)",
            "    - trigger: beginning",
            "    + trigger: general",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("- action: next open\n    +"), "{text}");
        let json = serde_json::to_string(&diff).unwrap();
        assert_eq!(serde_json::from_str::<BankDiff>(&json).unwrap(), diff);
    }

    #[test]
    fn a_diff_leads_there_and_back_and_fits_no_other_bank() {
        let limits = SkillLimits::default();
        let add = |name: &str| Operation::Add(content(name, Trigger::Always));
        let old = SkillBank::default().apply(&[add("a"), add("b")], 1, &limits).unwrap();
        let gone = Operation::Delete { id: old.skills()[0].id.clone() };
        let new = old.apply(&[gone, add("c")], 2, &limits).unwrap();
        assert_eq!(old.patch(&old.diff(&new)).unwrap(), new);
        assert_eq!(new.patch(&new.diff(&old)).unwrap().skills(), old.skills());
        assert!(matches!(new.patch(&old.diff(&new)), Err(SkillError::Patch { .. })));
        assert!(SkillBank::default().patch(&old.diff(&new)).is_err());
    }
}
