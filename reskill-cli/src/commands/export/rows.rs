//! An episode as rows, one a turn.

use serde::Serialize;

use crate::episodes::EpisodeLine;

/// A turn, with what is known of its episode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TurnRow {
    /// Number of the episode in the file, from 0.
    pub(super) episode: i64,
    /// Number of the turn in it, from 0.
    pub(super) turn: i64,
    /// Who played.
    pub(super) played: String,
    /// Seed of the draws.
    pub(super) seed: i64,
    /// Training step.
    pub(super) step: i64,
    /// GRPO group.
    pub(super) group: i64,
    /// Version of the bank: `incumbent`, `candidate 0`.
    pub(super) arm: String,
    /// Split of the game.
    pub(super) split: String,
    /// Id of the game.
    pub(super) task: String,
    /// Its family.
    pub(super) family: String,
    /// Its goal.
    pub(super) goal: String,
    /// What was seen.
    pub(super) observation: String,
    /// What could be done; empty if the environment does not list it.
    pub(super) admissible: Vec<String>,
    /// Ids of the skills that fired.
    pub(super) skills: Vec<String>,
    /// What they said, in the same order.
    pub(super) guidance: Vec<String>,
    /// The reply as it was sampled.
    pub(super) reply: String,
    /// The action read from it; none if there was none.
    pub(super) action: Option<String>,
    /// Whether it was admissible.
    pub(super) valid: bool,
    /// What followed.
    pub(super) next_observation: String,
    /// Whether this is the last turn.
    pub(super) last: bool,
    /// Whether the episode reached its goal.
    pub(super) won: bool,
    /// Return of the episode.
    #[serde(rename = "return")]
    pub(super) return_: f32,
    /// Score at its end.
    pub(super) score: f32,
    /// Why the environment lost it.
    pub(super) fault: Option<String>,
}

/// The turns of an episode.
pub(super) fn of(line: &EpisodeLine, index: i64) -> Vec<TurnRow> {
    let (record, episode) = (&line.record, &line.record.episode);
    let row = |turn_idx: usize| {
        let turn = &episode.turns[turn_idx];
        let fired = record.triggered.get(turn_idx).map_or(&[][..], Vec::as_slice);
        let said = |id| line.shown.get(id).map_or(String::new(), |skill| skill.action.clone());
        TurnRow {
            episode: index,
            turn: turn_idx as i64,
            played: line.played.clone(),
            seed: line.seed.cast_signed(),
            step: record.step.cast_signed(),
            group: record.group.cast_signed(),
            arm: record.arm.to_string(),
            split: episode.task.split.as_str().to_string(),
            task: episode.task.id.0.clone(),
            family: episode.task.family.clone(),
            goal: episode.task.goal.clone(),
            observation: turn.observation.clone(),
            admissible: turn.admissible.clone(),
            skills: fired.iter().map(|id| id.0.clone()).collect(),
            guidance: fired.iter().map(said).collect(),
            reply: turn.reply.clone(),
            action: turn.action.clone(),
            valid: turn.valid,
            next_observation: episode.feedback(turn_idx).to_string(),
            last: turn_idx + 1 == episode.turns.len(),
            won: episode.is_success(),
            return_: episode.return_,
            score: episode.score,
            fault: episode.fault.clone(),
        }
    };
    (0..episode.turns.len()).map(row).collect()
}
