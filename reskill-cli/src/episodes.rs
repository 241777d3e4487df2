//! `episodes.jsonl`: episodes turn by turn, one a line; also what `eval --episodes` writes.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result};
use reskill_skills::{SkillBank, SkillEpisode, SkillId};
use serde::{Deserialize, Serialize};

/// One episode: who played it, and what happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpisodeLine {
    /// Who played: `training`, an evaluation of a run (`warm_start`, `final`, `final_bank_off`), or a contestant of `eval`
    /// (`its bank`, `bank off`, a folder, a run).
    pub played: String,
    /// Seed of the draws.
    pub seed: u64,
    /// The skills that were shown in it.
    #[serde(default)]
    pub shown: BTreeMap<SkillId, ShownSkill>,
    /// What happened.
    #[serde(flatten)]
    pub record: SkillEpisode,
}

/// A skill as an episode showed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownSkill {
    /// Its name.
    pub name: String,
    /// What it said.
    pub action: String,
    /// When it is shown.
    pub trigger: String,
}

impl EpisodeLine {
    /// An episode that played `bank`.
    #[must_use]
    pub fn new(played: &str, seed: u64, bank: &SkillBank, record: SkillEpisode) -> EpisodeLine {
        let triggered: HashSet<&SkillId> = record.triggered.iter().flatten().collect();
        let general = bank.general();
        let shown = bank
            .skills()
            .iter()
            .filter(|skill| triggered.contains(&skill.id) || general.iter().any(|other| other.id == skill.id))
            .map(|skill| {
                let shown = ShownSkill {
                    name: skill.content.name.clone(),
                    action: skill.content.action.clone(),
                    trigger: skill.content.trigger.to_string(),
                };
                (skill.id.clone(), shown)
            })
            .collect();
        EpisodeLine { played: played.to_string(), seed, shown, record }
    }
}

/// The episodes of a file. A last line that was cut off while it was written is left out.
///
/// # Errors
/// If the file cannot be read or a line is no episode; the message names file and line.
pub fn read(path: &Path) -> Result<Vec<EpisodeLine>> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("{shown}: cannot be read"))?;
    let mut episodes = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str(line) {
            Ok(episode) => episodes.push(episode),
            Err(_) if line.trim().is_empty() || !line.ends_with('\n') => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("{shown}: line {}: not an episode as episodes.jsonl holds them", index + 1)
                });
            }
        }
    }
    Ok(episodes)
}

/// At most `n` indices of `0..total`, evenly spread, the first included.
#[must_use]
pub fn spread(total: usize, n: usize) -> Vec<usize> {
    let n = n.min(total);
    (0..n).map(|index| index * total / n).collect()
}

/// In how many episodes each skill was shown, and on how many turns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Use {
    /// Episodes.
    pub episodes: u64,
    /// Turns; a skill that is always shown counts every turn.
    pub turns: u64,
}

/// How much every skill was used in `episodes`, which played the banks that `bank` gives for them.
pub fn uses<'a>(
    episodes: &[SkillEpisode],
    bank: impl Fn(&SkillEpisode) -> &'a SkillBank,
) -> BTreeMap<SkillId, Use> {
    let mut uses: BTreeMap<SkillId, Use> = BTreeMap::new();
    for record in episodes {
        let mut turns: BTreeMap<&SkillId, u64> = BTreeMap::new();
        for id in record.triggered.iter().flatten() {
            *turns.entry(id).or_default() += 1;
        }
        for skill in bank(record).general() {
            turns.insert(&skill.id, record.episode.turns.len() as u64);
        }
        for (id, turns) in turns {
            let sum = uses.entry(id.clone()).or_default();
            sum.episodes += 1;
            sum.turns += turns;
        }
    }
    uses
}

#[cfg(test)]
mod tests {
    use reskill_envs::Outcome;
    use reskill_skills::{Operation, SkillContent, SkillLimits, Trigger};

    use super::*;

    fn bank() -> SkillBank {
        let skill = |name: &str, trigger: Trigger| {
            Operation::Add(SkillContent {
                name: name.into(),
                when_to_use: "x".into(),
                action: format!("do {name}"),
                example: None,
                trigger,
                guidance: None,
            })
        };
        let skills =
            [skill("always", Trigger::Always), skill("after-go", Trigger::after_action("^go").unwrap())];
        SkillBank::default().apply(&skills, 0, &SkillLimits::default()).unwrap()
    }

    fn played() -> SkillEpisode {
        let mut record =
            SkillEpisode::from_actions("t", "f", "g", &["go a", "look", "go b"], Outcome::Success);
        record.triggered[1] = vec![SkillId("s0001".into())];
        record
    }

    #[test]
    fn a_line_reads_back_as_it_was_written_with_the_skills_it_showed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("episodes.jsonl");
        let line = EpisodeLine::new("training", 3, &bank(), played());
        let names: Vec<&str> = line.shown.values().map(|skill| skill.name.as_str()).collect();
        assert_eq!(names, ["always", "after-go"]);
        let json = serde_json::to_string(&line).unwrap();
        std::fs::write(&path, format!("{json}\n\n{}", &json[..40])).unwrap();
        assert_eq!(read(&path).unwrap(), [line]);
        std::fs::write(&path, format!("{}\n", &json[..40])).unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains("episodes.jsonl: line 1"));
    }

    #[test]
    fn use_counts_episodes_and_turns_of_triggered_and_of_general_skills() {
        let bank = bank();
        let uses = uses(&[played(), played()], |_| &bank);
        assert_eq!(uses[&SkillId("s0000".into())], Use { episodes: 2, turns: 6 });
        assert_eq!(uses[&SkillId("s0001".into())], Use { episodes: 2, turns: 2 });
    }

    #[test]
    fn spread_takes_distinct_indices_and_all_if_there_are_fewer() {
        assert_eq!(spread(10, 3), [0, 3, 6]);
        assert_eq!(spread(2, 5), [0, 1]);
        assert!(spread(0, 5).is_empty() && spread(5, 0).is_empty());
    }
}
