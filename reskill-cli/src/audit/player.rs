//! Plays the same games with one bank after the other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use reskill_envs::{Split, TaskId};
use reskill_skills::episode::{Heed, heed};
use reskill_skills::{SkillBank, SkillContent, SkillEpisode, SkillId, SkillStatus};

use super::AuditSettings;
use crate::evaluate::play;
use crate::failure_modes::{self, FailureMode};
use crate::progress::Progress;
use crate::rollout::RolloutSettings;
use crate::trainer::Trained;

/// What one bank came to on the games.
#[derive(Debug, Clone, Default)]
pub(super) struct Played {
    /// Share of its episodes that were won, by game.
    pub(super) won: BTreeMap<TaskId, f64>,
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
        self.won.values().copied().collect()
    }

    /// Game by game, this minus the other.
    pub(super) fn minus(&self, other: &Played) -> Vec<f64> {
        self.won.iter().filter_map(|(game, won)| Some(won - other.won.get(game)?)).collect()
    }

    fn add(&mut self, episodes: &[SkillEpisode], max_turns: usize) {
        self.n_episodes += episodes.len();
        for record in episodes {
            *self.won.entry(record.episode.task.id.clone()).or_default() +=
                f64::from(u8::from(record.episode.is_success()));
            self.turns += record.episode.turns.len();
            let mut shown: Vec<&SkillId> = record.triggered.iter().flatten().collect();
            shown.sort();
            shown.dedup();
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
            for (sum, more) in [(&mut sum.shown, heed.shown), (&mut sum.unshown, heed.unshown)] {
                sum.hits += more.hits;
                sum.total += more.total;
            }
        }
    }
}

/// Plays games of one split; banks that show the same skills are played once.
pub(super) struct Player<'a> {
    trained: &'a Trained,
    settings: &'a AuditSettings,
    split: Split,
    rollout: RolloutSettings,
    played: Vec<(Vec<SkillContent>, Played)>,
}

impl<'a> Player<'a> {
    /// # Errors
    /// If the split has no games.
    pub(super) fn new(trained: &'a Trained, settings: &'a AuditSettings, split: Split) -> Result<Player<'a>> {
        let Trained { config, suite, policy, .. } = trained;
        if suite.tasks(split).is_empty() {
            bail!("--split: {} has no games in {split}", suite.name());
        }
        let rollout = RolloutSettings::new(&config.rollout, policy, 0, settings.temperature);
        Ok(Player { trained, settings, split, rollout, played: Vec::new() })
    }

    /// Banks that were played.
    pub(super) fn n_banks(&self) -> usize {
        self.played.len()
    }

    /// Share of games that were won at least once with some bank.
    pub(super) fn within_reach(&self) -> f64 {
        let won = |played: &Played| {
            played
                .won
                .iter()
                .filter(|(_, share)| **share > 0.0)
                .map(|(game, _)| game.clone())
                .collect::<Vec<_>>()
        };
        let reached: BTreeSet<TaskId> = self.played.iter().flat_map(|(_, played)| won(played)).collect();
        let games: BTreeSet<&TaskId> = self.played.iter().flat_map(|(_, played)| played.won.keys()).collect();
        reached.len() as f64 / games.len().max(1) as f64
    }

    /// What `bank` comes to; `name` is shown while it is played.
    ///
    /// # Errors
    /// If a game cannot be played.
    pub(super) fn play(&mut self, name: &str, bank: &SkillBank) -> Result<Played> {
        let active = bank.skills().iter().filter(|skill| skill.status == SkillStatus::Active);
        let contents: Vec<SkillContent> = active.map(|skill| skill.content.clone()).collect();
        if let Some((_, played)) = self.played.iter().find(|(same, _)| *same == contents) {
            return Ok(played.clone());
        }
        let Trained { suite, policy, bank: audited, .. } = self.trained;
        let n_games = self.settings.games.min(suite.tasks(self.split).len());
        let seeds = &self.settings.seeds;
        let mut progress = Progress::new(name, "games", (n_games * seeds.len()) as u64, true);
        let mut result = Played::default();
        for (pass, &seed) in seeds.iter().enumerate() {
            let mut show =
                |done: usize, _: usize| progress.set((pass * n_games + done) as u64, self.split.as_str());
            let slots = self.settings.slots.unwrap_or(policy.evaluation_slots);
            let suite = suite.as_ref();
            let of_seed =
                play(policy, suite, self.split, n_games, bank, &self.rollout, seed, slots, &mut show)?;
            result.add(&of_seed.episodes, self.rollout.max_turns);
            result.faults += of_seed.faults;
            result.add_heed(heed(&of_seed.episodes, audited, suite.vocabulary()));
        }
        progress.finish();
        for won in result.won.values_mut() {
            *won /= seeds.len() as f64;
        }
        self.played.push((contents, result.clone()));
        Ok(result)
    }
}
