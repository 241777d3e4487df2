//! A set of skills as an immutable value, and the operations that make another one of it.

use serde::{Deserialize, Serialize};

pub use crate::diff::BankDiff;
use crate::error::SkillError;
use crate::skill::{ForeignFields, Skill, SkillContent, SkillId, SkillLimits, SkillStatus, check_name};
use crate::trigger::Trigger;

/// One change of a bank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A new skill.
    Add(SkillContent),
    /// New content, trigger included, for a skill that keeps its id.
    Modify {
        /// The skill.
        id: SkillId,
        /// What it says from now on.
        content: SkillContent,
    },
    /// The skill goes.
    Delete {
        /// The skill.
        id: SkillId,
    },
}

impl Operation {
    /// The new text, if the operation brings one.
    #[must_use]
    pub fn content(&self) -> Option<&SkillContent> {
        match self {
            Operation::Add(content) | Operation::Modify { content, .. } => Some(content),
            Operation::Delete { .. } => None,
        }
    }

    /// The new text, to be changed.
    pub(crate) fn content_mut(&mut self) -> Option<&mut SkillContent> {
        match self {
            Operation::Add(content) | Operation::Modify { content, .. } => Some(content),
            Operation::Delete { .. } => None,
        }
    }
}

/// Skills in the order they were born. Nothing changes a bank in place: [`SkillBank::apply`] gives a new one, so
/// dropping that one is the undo.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawBank")]
pub struct SkillBank {
    skills: Vec<Skill>,
    /// Number of the next skill born; never reused.
    next_id: u64,
}

#[derive(Deserialize)]
struct RawBank {
    skills: Vec<Skill>,
    next_id: u64,
}

impl TryFrom<RawBank> for SkillBank {
    type Error = SkillError;

    fn try_from(raw: RawBank) -> Result<Self, SkillError> {
        Ok(Self::from_skills(raw.skills)?.reserving_ids_below(raw.next_id))
    }
}

impl SkillBank {
    /// A bank of skills that exist already, for example read from disk. Text limits are not applied: third-party skills
    /// may be longer than what an author here may write.
    ///
    /// # Errors
    /// [`SkillError::Duplicate`] on a shared name or id, [`SkillError::Limit`] on an illegal name.
    pub fn from_skills(skills: Vec<Skill>) -> Result<Self, SkillError> {
        for (index, skill) in skills.iter().enumerate() {
            check_name(skill.name())?;
            let earlier = &skills[..index];
            if earlier.iter().any(|other| other.name() == skill.name()) {
                return Err(SkillError::Duplicate { field: "name", value: skill.name().to_owned() });
            }
            if earlier.iter().any(|other| other.id == skill.id) {
                return Err(SkillError::Duplicate { field: "id", value: skill.id.0.clone() });
            }
        }
        let next_id = skills
            .iter()
            .filter_map(|skill| number_of(&skill.id))
            .max()
            .map_or(0, |max| max.saturating_add(1));
        Ok(Self { skills, next_id })
    }

    /// The skills in order.
    #[must_use]
    pub fn skills(&self) -> &[Skill] {
        &self.skills
    }

    /// The skill with this id.
    #[must_use]
    pub fn get(&self, id: &SkillId) -> Option<&Skill> {
        self.skills.iter().find(|skill| skill.id == *id)
    }

    /// Whether there is no skill at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.skills.is_empty()
    }

    /// Number of active skills.
    #[must_use]
    pub fn n_active(&self) -> usize {
        self.skills.iter().filter(|skill| skill.status == SkillStatus::Active).count()
    }

    /// The active skills that are shown on every turn.
    #[must_use]
    pub fn general(&self) -> Vec<&Skill> {
        self.skills
            .iter()
            .filter(|skill| skill.status == SkillStatus::Active && skill.content.trigger == Trigger::Always)
            .collect()
    }

    /// The active skills shown on this turn only, in bank order: not the general ones.
    ///
    /// `turn_idx` is 0-based; `previous_action` is the action parsed from the reply of the turn before.
    #[must_use]
    pub fn triggered(&self, turn_idx: usize, previous_action: Option<&str>) -> Vec<&Skill> {
        self.skills
            .iter()
            .filter(|skill| {
                skill.content.trigger != Trigger::Always && skill.fires(turn_idx, previous_action)
            })
            .collect()
    }

    /// The bank after a bundle of operations: all of them apply, or none does.
    ///
    /// # Errors
    /// [`SkillError::Count`] on an empty or too large bundle or a full bank, [`SkillError::UnknownSkill`],
    /// [`SkillError::Duplicate`], [`SkillError::Limit`].
    pub fn apply(
        &self,
        operations: &[Operation],
        step: u64,
        limits: &SkillLimits,
    ) -> Result<SkillBank, SkillError> {
        if operations.is_empty() || operations.len() > limits.max_operations {
            return Err(SkillError::Count {
                what: "operations of a bundle",
                got: operations.len(),
                expected: format!("1 to {}", limits.max_operations),
            });
        }
        let mut skills = self.skills.clone();
        let mut next_id = self.next_id;
        for (index, operation) in operations.iter().enumerate() {
            if let Some(content) = operation.content() {
                limits.check(content)?;
            }
            let position = |id: &SkillId, skills: &[Skill]| {
                skills
                    .iter()
                    .position(|skill| skill.id == *id)
                    .ok_or_else(|| SkillError::UnknownSkill { index, id: id.0.clone() })
            };
            match operation {
                Operation::Add(content) => {
                    skills.push(Skill {
                        id: SkillId(format!("s{next_id:04}")),
                        content: content.clone(),
                        version: 1,
                        status: SkillStatus::Active,
                        born_step: step,
                        foreign: ForeignFields::default(),
                    });
                    next_id += 1;
                }
                Operation::Modify { id, content } => {
                    let at = position(id, &skills)?;
                    skills[at].content = content.clone();
                    skills[at].version += 1;
                }
                Operation::Delete { id } => {
                    skills.remove(position(id, &skills)?);
                }
            }
        }
        let bank = Self::from_skills(skills)?.reserving_ids_below(next_id);
        if bank.n_active() > limits.max_skills {
            return Err(SkillError::Count {
                what: "active skills",
                got: bank.n_active(),
                expected: format!("at most {}", limits.max_skills),
            });
        }
        Ok(bank)
    }

    /// The same skills, but new ones get numbers from `next_id` on at least.
    #[must_use]
    pub(crate) fn reserving_ids_below(mut self, next_id: u64) -> Self {
        self.next_id = self.next_id.max(next_id);
        self
    }

    /// Number the next skill will get.
    #[must_use]
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id
    }
}

/// The number of an id of the form `s0012`.
fn number_of(id: &SkillId) -> Option<u64> {
    id.0.strip_prefix('s')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn add(name: &str) -> Operation {
        Operation::Add(content(name, Trigger::after_action("^go to").unwrap()))
    }

    #[test]
    fn a_bundle_with_one_bad_operation_changes_nothing() {
        let limits = SkillLimits::default();
        let bank = SkillBank::default().apply(&[add("a")], 1, &limits).unwrap();
        let before = bank.clone();
        let bad = Operation::Delete { id: SkillId("nobody".into()) };
        assert!(matches!(
            bank.apply(&[add("b"), bad], 2, &limits),
            Err(SkillError::UnknownSkill { index: 1, .. })
        ));
        assert!(matches!(bank.apply(&[add("b"), add("a")], 2, &limits), Err(SkillError::Duplicate { .. })));
        assert!(matches!(bank.apply(&[], 2, &limits), Err(SkillError::Count { .. })));
        assert_eq!(bank, before);
    }

    #[test]
    fn a_full_bank_takes_a_skill_only_if_another_goes() {
        let limits = SkillLimits { max_skills: 1, ..SkillLimits::default() };
        let bank = SkillBank::default().apply(&[add("a")], 1, &limits).unwrap();
        assert!(matches!(bank.apply(&[add("b")], 2, &limits), Err(SkillError::Count { got: 2, .. })));
        let delete = Operation::Delete { id: bank.skills()[0].id.clone() };
        let swapped = bank.apply(&[add("b"), delete], 2, &limits).unwrap();
        assert_eq!(swapped.skills()[0].name(), "b");
    }

    #[test]
    fn ids_are_never_reused() {
        let limits = SkillLimits::default();
        let bank = SkillBank::default().apply(&[add("a")], 1, &limits).unwrap();
        let emptied =
            bank.apply(&[Operation::Delete { id: bank.skills()[0].id.clone() }], 2, &limits).unwrap();
        let again = emptied.apply(&[add("a")], 3, &limits).unwrap();
        assert_ne!(again.skills()[0].id, bank.skills()[0].id);
        let json = serde_json::to_string(&emptied).unwrap();
        assert_eq!(serde_json::from_str::<SkillBank>(&json).unwrap(), emptied);
    }

    #[test]
    fn triggered_leaves_general_skills_out() {
        let operations = [
            Operation::Add(content("always", Trigger::Always)),
            Operation::Add(content("start", Trigger::EpisodeStart)),
            add("after"),
        ];
        let bank = SkillBank::default().apply(&operations, 0, &SkillLimits::default()).unwrap();
        let names =
            |skills: Vec<&Skill>| skills.iter().map(|skill| skill.name().to_owned()).collect::<Vec<_>>();
        assert_eq!(names(bank.general()), ["always"]);
        assert_eq!(names(bank.triggered(0, None)), ["start"]);
        assert_eq!(names(bank.triggered(4, Some("go to bed 1"))), ["after"]);
    }
}
