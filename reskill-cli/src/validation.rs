//! What the evaluations of a run show when they are taken together: the score of the present policy, the course of success,
//! and what adaptation with frozen weights was worth.

use std::collections::BTreeMap;

use reskill_envs::TaskId;
use serde::{Deserialize, Serialize};

use crate::checkpoint::Score;
use crate::evaluate::{Evaluation, Played, Success};
use crate::statistics::{Difference, difference};
use crate::unknown_words::UnknownWords;

/// Evaluations so far; part of a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// The latest success on the seen validation games, with its step.
    pub score: Option<Score>,
    /// Success after each step that was evaluated, with the live bank.
    pub course: Vec<Point>,
    /// Which games of an evaluation were won, for those that are compared in pairs, by name (`final/unseen`).
    pub won: BTreeMap<String, BTreeMap<TaskId, bool>>,
}

/// Success after a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Training step; 0: before the first.
    pub step: u64,
    /// By name of the split, `seen` or `unseen`.
    pub success: BTreeMap<String, Success>,
    /// Names of the skills in the bank that was played.
    pub skills: Vec<String>,
}

/// What adaptation was worth: the bank that it led to against that which it began with, the weights being the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adaptation {
    /// Success over the steps; the first point is the bank that came with the policy.
    pub course: Vec<Point>,
    /// Success at the end minus success before the first step, game by game, by split.
    pub gain: BTreeMap<String, Difference>,
    /// What the policy has no word for; absent where it can read any text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_words: Option<UnknownWords>,
}

impl Validation {
    /// Notes an evaluation of the live bank on the split of this name.
    pub fn note(&mut self, step: u64, split: &str, evaluation: &Evaluation, skills: &[String]) {
        if split == SEEN {
            self.score = Some(Score { step, success: evaluation.overall.rate });
        }
        let is_same = |point: &&mut Point| point.step == step && point.skills == skills;
        match self.course.last_mut().filter(is_same) {
            Some(point) => {
                point.success.insert(split.to_string(), evaluation.overall);
            }
            None => self.course.push(Point {
                step,
                success: BTreeMap::from([(split.to_string(), evaluation.overall)]),
                skills: skills.to_vec(),
            }),
        }
    }

    /// Keeps which games were won in the evaluation of this name.
    pub fn keep_games(&mut self, name: &str, played: &Played) {
        let games = played.episodes.iter();
        let won = games.map(|record| (record.episode.task.id.clone(), record.episode.is_success())).collect();
        self.won.insert(name.to_string(), won);
    }

    /// The score, if it is that of this step.
    #[must_use]
    pub fn score_of(&self, step: u64) -> Option<Score> {
        self.score.filter(|score| score.step == step)
    }

    /// What came of adaptation, from the evaluations before and after it.
    #[must_use]
    pub fn adaptation(&self, before: &str, after: &str, unknown_words: Option<UnknownWords>) -> Adaptation {
        let mut gain = BTreeMap::new();
        for split in [SEEN, UNSEEN] {
            let games = |phase: &str| self.won.get(&format!("{phase}/{split}"));
            let (Some(before), Some(after)) = (games(before), games(after)) else { continue };
            let value = |won: bool| f64::from(u8::from(won));
            let pairs = after.iter().filter_map(|(id, won)| Some(value(*won) - value(*before.get(id)?)));
            gain.insert(split.to_string(), difference(&pairs.collect::<Vec<_>>()));
        }
        Adaptation { course: self.course.clone(), gain, unknown_words }
    }
}

impl Adaptation {
    /// The result for a person, as lines.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines =
            vec![format!("{:<34} {:>18} {:>18}", "success in %, with 95% interval", SEEN, UNSEEN)];
        for (index, point) in self.course.iter().enumerate() {
            let cell = |split: &str| {
                point.success.get(split).map_or("-".to_string(), |success| {
                    let [low, high] = success.interval.map(|bound| bound * 100.0);
                    format!("{:.1} ({low:.0}-{high:.0})", success.rate * 100.0)
                })
            };
            let label = match (index, point.skills.len()) {
                (0, n) => format!("no adaptation, {}", count(n, "skill")),
                (_, n) => format!("step {}, {}", point.step, count(n, "skill")),
            };
            lines.push(format!("{label:<34} {:>18} {:>18}", cell(SEEN), cell(UNSEEN)));
        }
        for (split, gain) in &self.gain {
            lines.push(format!(
                "{split}: adaptation is worth {}, p = {:.3}, on {} games",
                gain.points(),
                gain.p_value,
                gain.mean.n_games
            ));
        }
        lines
    }
}

/// Names of the validation splits.
const SEEN: &str = "seen";
const UNSEEN: &str = "unseen";

fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation(won: u64) -> Evaluation {
        Evaluation {
            split: reskill_envs::Split::ValidSeen,
            overall: Success::new(won, 4),
            families: BTreeMap::new(),
            mean_turns: 0.0,
            mean_score: 0.0,
            measures: BTreeMap::new(),
            faults: 0,
            heeded: reskill_skills::Rate::default(),
            unprompted: None,
        }
    }

    #[test]
    fn splits_of_one_step_are_one_point_and_the_score_is_that_of_the_seen_games() {
        let mut validation = Validation::default();
        let skills = ["a".to_string()];
        validation.note(0, SEEN, &evaluation(1), &[]);
        validation.note(0, UNSEEN, &evaluation(2), &[]);
        validation.note(5, SEEN, &evaluation(3), &skills);
        validation.note(5, UNSEEN, &evaluation(4), &skills);
        assert_eq!(validation.course.len(), 2);
        assert_eq!(validation.course[1].success[UNSEEN].rate, 1.0);
        assert_eq!(validation.score_of(5).unwrap().success, 0.75);
        assert!(validation.score_of(6).is_none(), "the score of another policy");
    }

    #[test]
    fn adaptation_is_compared_game_by_game() {
        let mut validation = Validation::default();
        let games = |won: [bool; 4]| {
            let ids = (0..4).map(|n| TaskId(n.to_string()));
            ids.zip(won).collect::<BTreeMap<_, _>>()
        };
        validation.won.insert("before/seen".into(), games([true, false, false, false]));
        validation.won.insert("after/seen".into(), games([true, true, true, false]));
        let adaptation = validation.adaptation("before", "after", None);
        let gain = adaptation.gain["seen"];
        assert_eq!((gain.mean.mean, gain.mean.n_games), (0.5, 4));
        // Two games differ, both upwards: one sign pattern in four is as far on this side, one on the other.
        assert_eq!(gain.p_value, 0.5);
        assert!(!adaptation.gain.contains_key("unseen"), "a split that was not played");
    }
}
