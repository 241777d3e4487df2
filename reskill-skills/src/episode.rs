//! An episode with everything the skills crate must know about it, and how well skills were heeded in it.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::AddAssign;
use std::sync::Arc;

use reskill_envs::{ActionVocabulary, Episode, Outcome, Split, Task, TaskId, Turn};
use serde::{Deserialize, Serialize};

use crate::bank::SkillBank;
use crate::skill::{Skill, SkillId};
use crate::version_test::Arm;

/// One finished episode, the version it played and the skills it saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SkillEpisode {
    /// What happened.
    pub episode: Episode,
    /// The version of the bank it played.
    pub arm: Arm,
    /// GRPO group, unique over the run: episodes of one group share task and initial state.
    pub group: u64,
    /// Training step.
    pub step: u64,
    /// Per turn, the skills whose trigger fired.
    pub triggered: Vec<Vec<SkillId>>,
}

impl SkillEpisode {
    /// An episode of the incumbent from its actions alone: a training task, no observations, no list of admissible
    /// commands, no skills shown, return 1 or 0. Fields can be filled in afterwards.
    #[must_use]
    pub fn from_actions(task: &str, family: &str, goal: &str, actions: &[&str], outcome: Outcome) -> Self {
        let task = Task {
            id: TaskId(task.to_owned()),
            split: Split::Train,
            family: family.to_owned(),
            goal: goal.to_owned(),
        };
        let turns = actions.iter().map(|action| Turn {
            observation: String::new(),
            admissible: Vec::new(),
            reply: (*action).to_owned(),
            action: Some((*action).to_owned()),
            valid: true,
        });
        Self {
            episode: Episode {
                task: Arc::new(task),
                turns: turns.collect(),
                final_observation: String::new(),
                outcome,
                return_: if outcome == Outcome::Success { 1.0 } else { 0.0 },
                score: if outcome == Outcome::Success { 1.0 } else { 0.0 },
                fault: None,
            },
            arm: Arm::Incumbent,
            group: 0,
            step: 0,
            triggered: vec![Vec::new(); actions.len()],
        }
    }

    /// Each turn with its index and the action parsed on the turn before it.
    pub fn turns(&self) -> impl Iterator<Item = (usize, Option<&str>, &Turn)> {
        turns(&self.episode)
    }
}

/// Each turn of an episode with its index and the action parsed on the turn before it.
pub(crate) fn turns(episode: &Episode) -> impl Iterator<Item = (usize, Option<&str>, &Turn)> {
    episode.turns.iter().enumerate().map(|(turn_idx, turn)| {
        let previous = turn_idx.checked_sub(1).and_then(|before| episode.turns[before].action.as_deref());
        (turn_idx, previous, turn)
    })
}

/// A count out of a total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many did.
    pub hits: u64,
    /// How many could have.
    pub total: u64,
}

impl Rate {
    /// hits / total; `None` of nothing.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts of turns stay far below 2^52")]
    pub fn value(self) -> Option<f64> {
        (self.total > 0).then(|| self.hits as f64 / self.total as f64)
    }

    pub(crate) fn add(&mut self, hit: bool) {
        self.hits += u64::from(hit);
        self.total += 1;
    }
}

impl AddAssign for Rate {
    fn add_assign(&mut self, other: Rate) {
        self.hits += other.hits;
        self.total += other.total;
    }
}

impl Sum for Rate {
    fn sum<I: Iterator<Item = Rate>>(rates: I) -> Rate {
        rates.fold(Rate::default(), |mut sum, rate| {
            sum += rate;
            sum
        })
    }
}

/// How often a skill's guidance was followed where its verb was admissible.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heed {
    /// On turns on which the skill was shown.
    pub shown: Rate,
    /// On turns on which its trigger would have fired but the episode played a bank without it.
    pub unshown: Rate,
}

/// Heed rates of the bank's skills that carry guidance.
///
/// A turn counts if the guided verb was admissible on it (or the environment lists no admissible commands) and an
/// action was parsed. `unshown` is the base rate to compare with: the same situation without the skill.
#[must_use]
pub fn heed(
    episodes: &[SkillEpisode],
    bank: &SkillBank,
    vocabulary: &ActionVocabulary,
) -> BTreeMap<SkillId, Heed> {
    let guided: Vec<&Skill> = bank.skills().iter().filter(|skill| skill.content.guidance.is_some()).collect();
    let mut rates: BTreeMap<SkillId, Heed> =
        guided.iter().map(|skill| (skill.id.clone(), Heed::default())).collect();
    for played in episodes {
        for (turn_idx, previous, turn) in played.turns() {
            for skill in &guided {
                let Some(followed) = heeded(skill, turn_idx, previous, turn, vocabulary) else { continue };
                let shown = played.triggered.get(turn_idx).is_some_and(|ids| ids.contains(&skill.id));
                if let Some(rate) = rates.get_mut(&skill.id) {
                    if shown { rate.shown.add(followed) } else { rate.unshown.add(followed) }
                }
            }
        }
    }
    rates
}

/// Whether a turn did what the skill asks; `None` if the trigger does not fire, there is no guidance, no action, or the
/// verb was not admissible.
pub(crate) fn heeded(
    skill: &Skill,
    turn_idx: usize,
    previous: Option<&str>,
    turn: &Turn,
    vocabulary: &ActionVocabulary,
) -> Option<bool> {
    let guidance = skill.content.guidance.as_ref()?;
    let action = turn.action.as_deref()?;
    let admissible = || {
        turn.admissible.is_empty()
            || turn
                .admissible
                .iter()
                .any(|command| vocabulary.parse(command).is_some_and(|parsed| parsed.verb == guidance.verb))
    };
    if !skill.content.trigger.fires(turn_idx, previous) || !admissible() {
        return None;
    }
    let verb = vocabulary.parse(action).map_or("", |parsed| parsed.verb);
    Some(guidance.is_heeded_by(verb))
}
