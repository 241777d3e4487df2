//! Who plays: a run with one of its banks, or episodes that were played before.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use reskill_envs::{Split, TaskId};
use reskill_skills::{SkillBank, SkillEpisode};

use crate::checkpoint::CheckpointChoice;
use crate::device::DeviceArgs;
use crate::episodes::EpisodeLine;
use crate::trainer::{HowToPlay, Trained};

/// What is kept of an episode.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) family: String,
    pub(super) won: bool,
    pub(super) score: f64,
    pub(super) turns: usize,
}

/// The outcomes of one contestant on one split.
#[derive(Debug)]
pub(super) struct Outcomes {
    pub(super) name: String,
    /// By game, then by seed.
    pub(super) games: BTreeMap<TaskId, BTreeMap<u64, Outcome>>,
    /// Episodes that the environment lost.
    pub(super) faults: u64,
}

impl Outcomes {
    fn new(name: &str) -> Outcomes {
        Outcomes { name: name.to_string(), games: BTreeMap::new(), faults: 0 }
    }

    fn add(&mut self, seed: u64, record: &SkillEpisode) {
        let episode = &record.episode;
        let outcome = Outcome {
            family: episode.task.family.clone(),
            won: episode.is_success(),
            score: f64::from(episode.score),
            turns: episode.turns.len(),
        };
        self.games.entry(episode.task.id.clone()).or_default().insert(seed, outcome);
    }
}

/// Writes episodes as they are played.
pub(super) struct Recorder {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Recorder {
    pub(super) fn create(path: &Path) -> Result<Recorder> {
        let file =
            File::create(path).with_context(|| format!("--episodes {}: cannot be made", path.display()))?;
        Ok(Recorder { path: path.to_path_buf(), out: BufWriter::new(file) })
    }

    fn write(&mut self, line: &EpisodeLine) -> Result<()> {
        let text = serde_json::to_string(line).context("an episode cannot be written as JSON")?;
        writeln!(self.out, "{text}").with_context(|| format!("{}: cannot be written", self.path.display()))
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.out.flush().with_context(|| format!("{}: cannot be written", self.path.display()))
    }
}

/// One way to play.
pub(super) struct Contestant {
    name: String,
    kind: Kind,
}

enum Kind {
    Run { trained: Rc<Trained>, bank: SkillBank },
    Played(PathBuf),
}

impl Contestant {
    /// The run with the bank that was asked for, and after it with none where both are.
    pub(super) fn of_run(trained: Trained, bank: Option<&str>) -> Result<Vec<Contestant>> {
        let trained = Rc::new(trained);
        let has_skills = !trained.bank.is_empty();
        let contestant = |name: &str, bank: SkillBank| Contestant {
            name: name.to_string(),
            kind: Kind::Run { trained: Rc::clone(&trained), bank },
        };
        let live = || contestant("its bank", trained.bank.clone());
        let off = || contestant("bank off", SkillBank::default());
        Ok(match bank {
            None if has_skills => vec![live(), off()],
            None | Some("off") => vec![off()],
            Some("live" | "both") if !has_skills => {
                bail!("--bank {}: the run's bank holds no skill; leave it out", bank.unwrap_or_default())
            }
            Some("live") => vec![live()],
            Some("both") => vec![live(), off()],
            Some(folder) => {
                let bank = crate::commands::skills::bank(Path::new(folder)).with_context(|| {
                    format!("--bank {folder}: expected live, off, both, or a folder of Agent Skills")
                })?;
                vec![contestant(folder, bank), off()]
            }
        })
    }

    /// Another run with its live bank, or a file of episodes.
    pub(super) fn against(
        path: &Path,
        overrides: &[String],
        device: &DeviceArgs,
        slots: Option<usize>,
    ) -> Result<Contestant> {
        let name = path.display().to_string();
        if path.is_file() {
            return Ok(Contestant { name, kind: Kind::Played(path.to_path_buf()) });
        }
        let trained = Rc::new(
            Trained::open(path, CheckpointChoice::Latest, overrides, device, slots).context("--against")?,
        );
        let bank = trained.bank.clone();
        Ok(Contestant { name, kind: Kind::Run { trained, bank } })
    }

    /// Plays a split, or looks up what was played.
    pub(super) fn play(
        &mut self,
        split: Split,
        how: &HowToPlay,
        record: Option<&mut Recorder>,
    ) -> Result<Outcomes> {
        match &self.kind {
            Kind::Run { trained, bank } => play_run(&self.name, trained, bank, split, how, record),
            Kind::Played(path) => read(&self.name, path, split, &how.seeds),
        }
    }
}

fn play_run(
    name: &str,
    trained: &Trained,
    bank: &SkillBank,
    split: Split,
    how: &HowToPlay,
    mut record: Option<&mut Recorder>,
) -> Result<Outcomes> {
    let mut outcomes = Outcomes::new(name);
    trained.play(name, split, bank, how, |seed, played| {
        outcomes.faults += played.faults;
        for episode in played.episodes {
            outcomes.add(seed, &episode);
            if let Some(record) = &mut record {
                record.write(&EpisodeLine::new(name, seed, bank, episode))?;
            }
        }
        Ok(())
    })?;
    Ok(outcomes)
}

/// The episodes of `split` and `seeds` that a file holds of whoever played first in it.
fn read(name: &str, path: &Path, split: Split, seeds: &[u64]) -> Result<Outcomes> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("--against {shown}: cannot be read"))?;
    let mut outcomes = Outcomes::new(name);
    let mut first: Option<String> = None;
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("--against {shown}: cannot be read"))?;
        let line: EpisodeLine = serde_json::from_str(&line).with_context(|| {
            format!("--against {shown}: line {}: not an episode that --episodes wrote", index + 1)
        })?;
        let is_first = *first.get_or_insert_with(|| line.played.clone()) == line.played;
        if is_first && line.record.episode.task.split == split && seeds.contains(&line.seed) {
            outcomes.add(line.seed, &line.record);
        }
    }
    if outcomes.games.is_empty() {
        bail!(
            "--against {shown}: holds no episode of {split} with seed {seeds:?}; play the same splits and seeds"
        );
    }
    Ok(outcomes)
}
