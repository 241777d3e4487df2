//! Plays the same games with one bank after the other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use reskill_envs::{Split, TaskId};
use reskill_skills::episode::{Heed, heed};
use reskill_skills::{Rate, SkillBank, SkillContent, SkillEpisode, SkillId, SkillStatus};

use crate::failure_modes::{self, FailureMode};
use crate::trainer::{HowToPlay, Trained};

/// What one bank came to on the games.
#[derive(Debug, Clone, Default)]
pub(super) struct Played {
    /// Episodes won, of those played, by game.
    pub(super) games: BTreeMap<TaskId, Rate>,
    /// Turns of all episodes.
    turns: usize,
    /// Episodes.
    pub(super) n_episodes: usize,
    /// Episodes that failed, by how.
    pub(super) failures: BTreeMap<FailureMode, u64>,
    /// Episodes that the environment lost.
    pub(super) faults: u64,
    /// Episodes in which each skill of the bank was shown.
    pub(super) shown_in: BTreeMap<SkillId, u64>,
    /// How often the guidance of the audited bank's skills was followed.
    pub(super) heed: BTreeMap<SkillId, Heed>,
}

impl Played {
    pub(super) fn mean_turns(&self) -> f64 {
        self.turns as f64 / self.n_episodes.max(1) as f64
    }

    pub(super) fn values(&self) -> Vec<f64> {
        self.games.values().filter_map(|won| won.value()).collect()
    }

    /// Game by game, this minus the other.
    pub(super) fn minus(&self, other: &Played) -> Vec<f64> {
        let share = |(game, won): (&TaskId, &Rate)| Some(won.value()? - other.games.get(game)?.value()?);
        self.games.iter().filter_map(share).collect()
    }

    fn add(&mut self, episodes: &[SkillEpisode], max_turns: usize) {
        self.n_episodes += episodes.len();
        for record in episodes {
            let won = u64::from(record.episode.is_success());
            *self.games.entry(record.episode.task.id.clone()).or_default() += Rate { hits: won, total: 1 };
            self.turns += record.episode.turns.len();
            let shown: BTreeSet<&SkillId> = record.triggered.iter().flatten().collect();
            for id in shown {
                *self.shown_in.entry(id.clone()).or_default() += 1;
            }
        }
        for (mode, count) in failure_modes::count(episodes, max_turns) {
            *self.failures.entry(mode).or_default() += count;
        }
    }

    fn add_heed(&mut self, more: BTreeMap<SkillId, Heed>) {
        for (id, heed) in more {
            let sum = self.heed.entry(id).or_default();
            sum.shown += heed.shown;
            sum.unshown += heed.unshown;
        }
    }
}

/// Plays games of one split; banks that show the same skills are played once.
pub(super) struct Player<'a> {
    trained: &'a Trained,
    how: &'a HowToPlay,
    split: Split,
    played: Vec<(Vec<SkillContent>, Played)>,
}

impl<'a> Player<'a> {
    pub(super) fn new(trained: &'a Trained, how: &'a HowToPlay, split: Split) -> Player<'a> {
        Player { trained, how, split, played: Vec::new() }
    }

    /// Banks that were played.
    pub(super) fn n_banks(&self) -> usize {
        self.played.len()
    }

    /// Share of games that were won at least once with some bank.
    pub(super) fn within_reach(&self) -> f64 {
        let played = || self.played.iter().flat_map(|(_, played)| &played.games);
        let all: BTreeSet<&TaskId> = played().map(|(game, _)| game).collect();
        let reached: BTreeSet<&TaskId> =
            played().filter(|(_, won)| won.hits > 0).map(|(game, _)| game).collect();
        reached.len() as f64 / all.len().max(1) as f64
    }

    /// What `bank` comes to; `name` is shown while it is played.
    ///
    /// # Errors
    /// If the split has no games, or one cannot be played.
    pub(super) fn play(&mut self, name: &str, bank: &SkillBank) -> Result<Played> {
        let active = bank.skills().iter().filter(|skill| skill.status == SkillStatus::Active);
        let contents: Vec<SkillContent> = active.map(|skill| skill.content.clone()).collect();
        if let Some((_, played)) = self.played.iter().find(|(same, _)| *same == contents) {
            return Ok(played.clone());
        }
        let Trained { config, suite, bank: audited, .. } = self.trained;
        let mut result = Played::default();
        self.trained.play(name, self.split, bank, self.how, |_, of_seed| {
            result.add(&of_seed.episodes, config.rollout.max_turns);
            result.faults += of_seed.faults;
            result.add_heed(heed(&of_seed.episodes, audited, suite.vocabulary()));
            Ok(())
        })?;
        self.played.push((contents, result.clone()));
        Ok(result)
    }
}
