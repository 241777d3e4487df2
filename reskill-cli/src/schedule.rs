//! Who learns when: policy and bank together, or one after the other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of the two learns in which half of the steps.
///
/// The first half of n steps is 1..=n/2, rounded down. While the policy is frozen no update is made: weights, moments and
/// the optimizer's step count stay. While the bank is frozen all rollouts play the live bank; nothing is proposed and
/// nothing is tested, but episodes are still collected for the creator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Both in every step.
    #[default]
    Joint,
    /// The bank in the first half, the policy in the second.
    SkillFirst,
    /// The policy in the first half, the bank in the second.
    PolicyFirst,
    /// The bank in every step, the policy in none: adaptation with frozen weights.
    SkillsOnly,
}

impl Schedule {
    /// Whether the policy is updated in this step, from 1, of a run of `steps`.
    #[must_use]
    pub fn updates_policy(self, step: u64, steps: u64) -> bool {
        match self {
            Schedule::Joint => true,
            Schedule::SkillFirst => step > steps / 2,
            Schedule::PolicyFirst => step <= steps / 2,
            Schedule::SkillsOnly => false,
        }
    }

    /// Whether versions of the bank are proposed and tested in this step, from 1, of a run of `steps`.
    #[must_use]
    pub fn evolves_bank(self, step: u64, steps: u64) -> bool {
        self == Schedule::Joint || !self.updates_policy(step, steps)
    }

    /// Its name in a configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Schedule::Joint => "joint",
            Schedule::SkillFirst => "skill_first",
            Schedule::PolicyFirst => "policy_first",
            Schedule::SkillsOnly => "skills_only",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternating_schedules_give_each_step_to_one_of_the_two() {
        let policy = |schedule: Schedule, steps: u64| -> Vec<bool> {
            (1..=steps).map(|step| schedule.updates_policy(step, steps)).collect()
        };
        assert_eq!(policy(Schedule::SkillFirst, 4), [false, false, true, true]);
        assert_eq!(policy(Schedule::PolicyFirst, 4), [true, true, false, false]);
        // Of an odd number the second half is the longer one.
        assert_eq!(policy(Schedule::SkillFirst, 3), [false, true, true]);
        for schedule in [Schedule::SkillFirst, Schedule::PolicyFirst] {
            for step in 1..=7 {
                assert_ne!(schedule.updates_policy(step, 7), schedule.evolves_bank(step, 7));
            }
        }
        assert!((1..=7).all(|step| {
            !Schedule::SkillsOnly.updates_policy(step, 7) && Schedule::SkillsOnly.evolves_bank(step, 7)
        }));
        assert!((1..=7).all(|step| {
            Schedule::Joint.updates_policy(step, 7) && Schedule::Joint.evolves_bank(step, 7)
        }));
    }
}
