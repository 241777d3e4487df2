//! All that the report shows, read from the files of a run.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use reskill_envs::Split;
use reskill_skills::{HistoryRecord, SkillMode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::episodes::{self, EpisodeLine};
use crate::evaluate::Evaluation;
use crate::metrics_lines::{EvaluationLine, MetricsLine, StepLine, WarmStartLine};
use crate::report::compare::BestCheckpoint;
use crate::run_dir::RunDir;
use crate::study::runner::BEST;
use crate::summary::Summary;

/// The held-out splits with their names on the page and in `summary.json`.
pub(super) const HELD_OUT: [(&str, Split); 2] = [("seen", Split::ValidSeen), ("unseen", Split::ValidUnseen)];

/// The files of a run. What is missing is empty.
#[derive(Debug, Default)]
pub(super) struct RunData {
    /// Name of the run's folder.
    pub(super) name: String,
    /// `config.toml` as it is.
    pub(super) config_text: Option<String>,
    /// What the report itself needs of it.
    pub(super) config: ConfigFacts,
    /// `summary.json`; only a finished run has one.
    pub(super) summary: Option<Summary>,
    /// Mini-batches of the warm start.
    pub(super) warm_start: Vec<WarmStartLine>,
    /// Training steps, in order.
    pub(super) steps: Vec<StepLine>,
    /// Evaluations, in order.
    pub(super) evaluations: Vec<EvaluationLine>,
    /// What happened to the bank, in order.
    pub(super) history: Vec<HistoryRecord>,
    /// Episodes turn by turn: those that the run kept, and those of further files.
    pub(super) episodes: Vec<EpisodeLine>,
    /// The evaluation of the best checkpoint, which a study makes.
    pub(super) best: Option<BestCheckpoint>,
    /// Number of the first skill that was proposed: a run that began with a bank does not begin at 0.
    pub(super) first_id: u64,
    /// Files whose last line was cut off while it was written.
    pub(super) cut: Vec<String>,
}

/// The few settings that the page talks about.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConfigFacts {
    /// Seed of the run.
    pub(super) seed: Option<u64>,
    /// The bank that the run began with.
    pub(super) bank: Option<PathBuf>,
    /// `env`.
    pub(super) env: EnvFacts,
    /// `grpo`.
    pub(super) grpo: GrpoFacts,
    /// `skills`.
    pub(super) skills: SkillsFacts,
}

/// `env`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct EnvFacts {
    /// The environment.
    pub(super) name: Option<String>,
}

/// `grpo`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct GrpoFacts {
    /// Steps the run should take.
    pub(super) steps: Option<u64>,
}

/// `skills`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct SkillsFacts {
    /// What happens to the bank.
    pub(super) mode: Option<SkillMode>,
}

impl RunData {
    /// Reads what there is.
    ///
    /// # Errors
    /// If a file is there but cannot be read or does not hold what it should.
    pub(super) fn read(run: &RunDir) -> Result<RunData> {
        let folder = run.root().canonicalize().unwrap_or_else(|_| run.root().to_path_buf());
        let mut data = RunData {
            name: folder.file_name().map_or("run".into(), |name| name.to_string_lossy().into_owned()),
            config_text: read_text(&run.config())?,
            ..RunData::default()
        };
        if let Some(toml) = &data.config_text {
            data.config = toml::from_str(toml)
                .with_context(|| format!("{}: not as expected", run.config().display()))?;
        }
        if let Some(json) = read_text(&run.summary())? {
            let summary = serde_json::from_str(&json)
                .with_context(|| format!("{}: not as expected", run.summary().display()))?;
            data.summary = Some(summary);
        }
        let best = run.root().join(BEST);
        if let Some(json) = read_text(&best)? {
            let read = serde_json::from_str(&json);
            data.best = Some(read.with_context(|| format!("{}: not as expected", best.display()))?);
        }
        for line in read_lines(&run.metrics(), &mut data.cut)? {
            match line {
                MetricsLine::WarmStart(line) => data.warm_start.push(line),
                MetricsLine::Step(line) => data.steps.push(*line),
                MetricsLine::Evaluation(line) => data.evaluations.push(line),
                MetricsLine::Other => {}
            }
        }
        data.history = read_lines(&run.history(), &mut data.cut)?;
        // A bank that has moved since then is tolerated: its skills are named by other ids then.
        let began_with =
            data.config.bank.as_ref().and_then(|bank| reskill_skills::store::load_bank(bank).ok());
        let numbers = began_with
            .iter()
            .flat_map(|bank| bank.skills())
            .filter_map(|skill| skill.id.0.strip_prefix('s')?.parse::<u64>().ok());
        data.first_id = numbers.max().map_or(0, |last| last + 1);
        Ok(data)
    }

    /// Adds the episodes that the run kept, and those of `further` files.
    ///
    /// # Errors
    /// If a file cannot be read or does not hold episodes.
    pub(super) fn with_episodes(mut self, run: &RunDir, further: &[PathBuf]) -> Result<RunData> {
        let own = Some(run.episodes()).filter(|path| path.exists());
        for path in own.iter().chain(further) {
            self.episodes.extend(episodes::read(path)?);
        }
        Ok(self)
    }

    /// Whether weights were frozen and only skills evolved: the run then begins with a bank, not with a warm start.
    pub(super) fn is_adaptation(&self) -> bool {
        self.summary.as_ref().is_some_and(|summary| summary.adaptation.is_some())
    }

    /// The last evaluation of a phase on a split.
    pub(super) fn evaluation(&self, phase: &str, name: &str, split: Split) -> Option<&Evaluation> {
        let in_summary =
            self.summary.as_ref().and_then(|summary| summary.evaluations.get(&format!("{phase}/{name}")));
        let matches = |line: &&EvaluationLine| line.phase == phase && line.evaluation.split == split;
        in_summary.or_else(|| self.evaluations.iter().rev().find(matches).map(|line| &line.evaluation))
    }

    /// The last training step that is recorded; 0 if there is none.
    pub(super) fn last_step(&self) -> u64 {
        let steps = self.steps.iter().map(|line| line.step);
        let summary = self.summary.iter().map(|summary| summary.steps);
        steps.chain(summary).chain(self.history.iter().map(|record| record.step)).max().unwrap_or(0)
    }

    /// Whether skills could play a part in this run.
    pub(super) fn has_skills(&self) -> bool {
        self.config.skills.mode != Some(SkillMode::Off) || !self.history.is_empty()
    }

    /// Wall-clock seconds by phase: of the whole run if it finished, else what the metrics tell.
    pub(super) fn seconds_by_phase(&self) -> Vec<(String, f64)> {
        const ORDER: [&str; 6] =
            ["demonstrations", "warm_start", "rollout", "update", "skills", "evaluation"];
        let mut phases: Vec<(String, f64)> = match &self.summary {
            Some(summary) => {
                summary.seconds_by_phase.iter().map(|(phase, seconds)| (phase.clone(), *seconds)).collect()
            }
            None => {
                let steps = |seconds: fn(&StepLine) -> f64| self.steps.iter().map(seconds).sum::<f64>();
                vec![
                    ("warm_start".into(), self.warm_start.iter().map(|line| line.time.seconds).sum()),
                    ("rollout".into(), steps(|line| line.time.rollout_seconds)),
                    ("update".into(), steps(|line| line.time.update_seconds)),
                    ("skills".into(), steps(|line| line.time.skills_seconds)),
                    ("evaluation".into(), self.evaluations.iter().map(|line| line.time.seconds).sum()),
                ]
            }
        };
        phases.retain(|(_, seconds)| *seconds > 0.0);
        phases.sort_by_key(|(phase, _)| ORDER.iter().position(|known| known == phase).unwrap_or(ORDER.len()));
        phases
    }
}

/// A file's text; `None` if there is no such file.
fn read_text(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => read_packed(path),
        Err(error) => Err(error).with_context(|| format!("{}: cannot be read", path.display())),
    }
}

/// The same file as a study packs it, compressed.
fn read_packed(path: &Path) -> Result<Option<String>> {
    let mut packed = path.as_os_str().to_os_string();
    packed.push(".zst");
    let packed = PathBuf::from(packed);
    if !packed.is_file() {
        return Ok(None);
    }
    let read = || -> std::io::Result<String> {
        std::io::read_to_string(zstd::Decoder::new(std::fs::File::open(&packed)?)?)
    };
    Ok(Some(read().with_context(|| format!("{}: cannot be read", packed.display()))?))
}

/// One JSON value a line. Every record is written with its line break at once, so a last line without one was cut off by
/// the end of the process: it is left out and the file's name is added to `cut`.
fn read_lines<T: DeserializeOwned>(path: &Path, cut: &mut Vec<String>) -> Result<Vec<T>> {
    let Some(text) = read_text(path)? else { return Ok(Vec::new()) };
    let mut records = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(record) => records.push(record),
            Err(_) if !line.ends_with('\n') => {
                cut.push(
                    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
                );
            }
            Err(error) => {
                return Err(error).with_context(|| format!("{}, line {}", path.display(), index + 1));
            }
        }
    }
    Ok(records)
}
