//! The latest episodes, at most one for each task, arm and outcome.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::episode::SkillEpisode;
use crate::error::SkillError;
use crate::version_test::Arm;

/// What makes two episodes the same entry, beside arm and outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ReservoirKey {
    /// The task's id.
    #[default]
    Task,
    /// The goal's text, lower-cased: tasks of one wording share an entry, as in the published implementation.
    Goal,
}

/// Size of the reservoir.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ReservoirConfig {
    /// Most entries; the oldest go first.
    pub capacity: usize,
    /// Entries needed before the creator runs, 1..=capacity.
    pub min: usize,
    /// Task groups handed to creators that read group by group; the whole reservoir if it is not larger. The
    /// statistical creator reads the whole reservoir.
    pub sample_groups: usize,
    /// What makes two episodes the same entry.
    pub key: ReservoirKey,
}

impl Default for ReservoirConfig {
    fn default() -> Self {
        Self { capacity: 200, min: 100, sample_groups: 30, key: ReservoirKey::Task }
    }
}

impl ReservoirConfig {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SkillError::Config`].
    pub fn validate(&self) -> Result<(), SkillError> {
        if self.min == 0 || self.min > self.capacity {
            return Err(SkillError::Config {
                key: "reservoir.min",
                value: self.min.to_string(),
                expected: "1 to reservoir.capacity",
            });
        }
        Ok(())
    }
}

/// Key of an entry: (task id or goal, arm, success).
type Key = (String, Arm, bool);

/// Episodes in the order they came, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reservoir {
    config: ReservoirConfig,
    entries: Vec<SkillEpisode>,
}

impl Reservoir {
    /// An empty reservoir.
    #[must_use]
    pub fn new(config: ReservoirConfig) -> Self {
        Self { config, entries: Vec::new() }
    }

    /// Adds a batch, in order. An episode replaces the entry with its key and becomes the newest; what exceeds the
    /// capacity leaves, oldest first. Episodes that their environment lost do not enter. Only episodes that stay are
    /// cloned.
    pub fn extend(&mut self, episodes: &[SkillEpisode]) {
        let mut seen: BTreeSet<Key> = BTreeSet::new();
        let mut kept: Vec<SkillEpisode> = Vec::with_capacity(self.config.capacity.min(1024));
        let old = std::mem::take(&mut self.entries);
        for episode in episodes.iter().rev().filter(|played| !played.episode.is_lost()) {
            if kept.len() < self.config.capacity && seen.insert(self.key(episode)) {
                kept.push(episode.clone());
            }
        }
        for episode in old.into_iter().rev() {
            if kept.len() < self.config.capacity && seen.insert(self.key(&episode)) {
                kept.push(episode);
            }
        }
        kept.reverse();
        self.entries = kept;
    }

    /// The entries, oldest first.
    #[must_use]
    pub fn entries(&self) -> &[SkillEpisode] {
        &self.entries
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the creator has enough to read.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.len() >= self.config.min
    }

    /// Up to `n` groups of episodes that share a task: those with both outcomes first, then those that only failed, then
    /// those that only succeeded; within each, the task seen last comes first.
    #[must_use]
    pub fn task_groups(&self, n: usize) -> Vec<Vec<&SkillEpisode>> {
        task_groups(&self.entries, self.config.key, n)
    }

    fn key(&self, episode: &SkillEpisode) -> Key {
        (subject(episode, self.config.key), episode.arm, episode.episode.is_success())
    }
}

fn subject(episode: &SkillEpisode, key: ReservoirKey) -> String {
    let task = &episode.episode.task;
    match key {
        ReservoirKey::Task => task.id.0.clone(),
        ReservoirKey::Goal => task.goal.to_lowercase(),
    }
}

/// Up to `n` groups of episodes that share a task, in the order of [`Reservoir::task_groups`].
pub(crate) fn task_groups(episodes: &[SkillEpisode], key: ReservoirKey, n: usize) -> Vec<Vec<&SkillEpisode>> {
    let mut by_task: BTreeMap<String, (usize, Vec<&SkillEpisode>)> = BTreeMap::new();
    for (position, episode) in episodes.iter().enumerate() {
        let entry = by_task.entry(subject(episode, key)).or_default();
        entry.0 = position;
        entry.1.push(episode);
    }
    let mut groups: Vec<(u8, usize, Vec<&SkillEpisode>)> = by_task
        .into_values()
        .map(|(newest, group)| {
            let n_success = group.iter().filter(|episode| episode.episode.is_success()).count();
            let rank = if n_success == 0 {
                1
            } else if n_success == group.len() {
                2
            } else {
                0
            };
            (rank, usize::MAX - newest, group)
        })
        .collect();
    groups.sort_by_key(|(rank, age, _)| (*rank, *age));
    groups.into_iter().take(n).map(|(.., group)| group).collect()
}
