//! A study file: arms, seeds, and what all runs share.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;

/// A grid of configurations and seeds.
///
/// ```
/// use reskill_cli::study::StudyFile;
///
/// let study: StudyFile = toml::from_str(r#"
///     title = "Do skills help?"
///     baseline = "grpo"
///     seeds = 3
///     [[arm]]
///     name = "grpo"
///     config = "ablation-off"
///     [[arm]]
///     name = "reskill"
/// "#)?;
/// assert_eq!(study.plan().len(), 6);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFile {
    /// What is asked.
    pub title: String,
    /// Name of the arm that the others are compared with.
    pub baseline: String,
    /// Seeds of every arm that does not say otherwise, >= 1.
    pub seeds: u64,
    /// First seed.
    #[serde(default)]
    pub first_seed: u64,
    /// What all runs begin from: a configuration file or preset, `A+B` in layers.
    #[serde(default = "default_base")]
    pub base: String,
    /// Overrides of all runs, as `--set` takes them; `{seed}` stands for the seed of the run, as in the path of another run.
    #[serde(default)]
    pub set: Vec<String>,
    /// Runs at once, >= 1.
    #[serde(default = "one")]
    pub parallel: usize,
    /// Whether the checkpoint with the best validation success is evaluated on the test games as well.
    #[serde(default = "yes")]
    pub best: bool,
    /// What is compared.
    #[serde(rename = "arm")]
    pub arms: Vec<ArmSpec>,
}

/// One configuration of a study.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArmSpec {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// What it is, in a sentence; shown in the report.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// A further layer over `base`, e.g. `ablation-uniform`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Overrides of its runs, after those of the study.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<String>,
    /// Seeds, if not those of the study.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<u64>,
    /// Whether it is a negative control, for which no version of the bank can be better: the report says so.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub control: bool,
}

/// One run of a study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRun {
    /// Index of its arm.
    pub arm: usize,
    /// Its seed.
    pub seed: u64,
    /// Its folder below that of the study.
    pub folder: PathBuf,
}

fn default_base() -> String {
    "default".to_string()
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

impl StudyFile {
    /// Reads and checks a study.
    ///
    /// # Errors
    /// One line that names the file, the key and what to do.
    pub fn read(path: &Path) -> Result<StudyFile> {
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("{name}: cannot be read"))?;
        let study: StudyFile = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            anyhow::anyhow!("{name}: line {line}: {}", error.message().replace('\n', " "))
        })?;
        study.validate().with_context(|| name.to_string())?;
        Ok(study)
    }

    fn validate(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for arm in &self.arms {
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if arm.name.is_empty() || !arm.name.chars().all(is_plain) {
                bail!("`arm.name` = {:?}, expected letters, digits, `-` and `_`", arm.name);
            }
            if !names.insert(&arm.name) {
                bail!("two arms are called `{}`", arm.name);
            }
            if arm.seeds == Some(0) {
                bail!("arm `{}`: `seeds` = 0, expected at least 1", arm.name);
            }
        }
        if self.seeds == 0 || self.parallel == 0 {
            bail!("`seeds` and `parallel` are {} and {}, expected at least 1", self.seeds, self.parallel);
        }
        if !names.contains(&self.baseline) {
            bail!("`baseline` = {:?} is the name of no arm", self.baseline);
        }
        Ok(())
    }

    /// What `--config` is given for an arm.
    #[must_use]
    pub fn source(&self, arm: usize) -> String {
        let layers = [Some(self.base.as_str()), self.arms[arm].config.as_deref()];
        layers.into_iter().flatten().collect::<Vec<_>>().join("+")
    }

    /// What `--set` is given for a run, once each; `{seed}` stands for its seed.
    #[must_use]
    pub fn overrides(&self, arm: usize, seed: u64) -> Vec<String> {
        let all = self.set.iter().chain(&self.arms[arm].set);
        all.map(|assignment| assignment.replace("{seed}", &seed.to_string())).collect()
    }

    /// The configuration of a run, with which it must be possible to begin.
    ///
    /// # Errors
    /// One line that names the arm, the key and what to do.
    pub fn config(&self, arm: usize, seed: u64) -> Result<TrainConfig> {
        let mut overrides = self.overrides(arm, seed);
        overrides.push(format!("seed={seed}"));
        let source = self.source(arm);
        TrainConfig::load(Some(Path::new(&source)), &overrides)
            .with_context(|| format!("arm `{}`", self.arms[arm].name))
    }

    /// All runs: seed by seed, so that a study that is stopped early has some of every arm.
    #[must_use]
    pub fn plan(&self) -> Vec<PlannedRun> {
        let seeds = |arm: &ArmSpec| arm.seeds.unwrap_or(self.seeds);
        let most = self.arms.iter().map(seeds).max().unwrap_or(0);
        let run = |offset: u64, arm: usize| {
            let seed = self.first_seed + offset;
            let folder = Path::new("runs").join(&self.arms[arm].name).join(format!("seed-{seed}"));
            PlannedRun { arm, seed, folder }
        };
        (0..most)
            .flat_map(|offset| {
                let of_seed = (0..self.arms.len()).filter(move |arm| offset < seeds(&self.arms[*arm]));
                of_seed.map(move |arm| run(offset, arm))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study(text: &str) -> Result<StudyFile> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("study.toml");
        std::fs::write(&path, text)?;
        StudyFile::read(&path)
    }

    const TWO: &str = "title = 't'\nbaseline = 'off'\nseeds = 2\n[[arm]]\nname = 'off'\nconfig = 'ablation-off'\nseeds = 3\n[[arm]]\nname = 'on'\nset = ['grpo.steps=3']\n";

    #[test]
    fn runs_go_seed_by_seed() {
        let study = study(TWO).unwrap();
        let plan: Vec<(usize, u64)> = study.plan().iter().map(|run| (run.arm, run.seed)).collect();
        assert_eq!(plan, [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2)]);
        assert_eq!(study.plan()[1].folder, Path::new("runs/on/seed-0"));
        assert_eq!((study.source(0).as_str(), study.source(1).as_str()), ("default+ablation-off", "default"));
        let with_seed = self::study(&TWO.replace("grpo.steps=3", "bank=other/seed-{seed}/skills")).unwrap();
        assert_eq!(with_seed.overrides(1, 7), ["bank=other/seed-7/skills"]);
        assert_eq!(with_seed.config(1, 7).unwrap().bank, Some("other/seed-7/skills".into()));
    }

    #[test]
    fn a_bad_study_is_refused_by_key() {
        let check = |from: &str, to: &str, expected: &str| {
            let error = format!("{:#}", study(&TWO.replace(from, to)).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        check("baseline = 'off'", "baseline = 'grpo'", "is the name of no arm");
        check("name = 'on'", "name = 'off'", "two arms are called `off`");
        check("name = 'on'", "name = 'a/b'", "expected letters");
        check("seeds = 2", "seeds = 0", "expected at least 1");
        check("seeds = 2", "sedes = 2", "line 3: unknown field `sedes`");
    }

    #[test]
    fn an_arm_that_cannot_be_configured_is_named() {
        let study = study(&TWO.replace("grpo.steps=3", "grpo.stepps=3")).unwrap();
        assert!(study.config(0, 0).is_ok());
        let error = format!("{:#}", study.config(1, 0).unwrap_err());
        assert!(error.starts_with("arm `on`") && error.contains("did you mean `steps`?"), "{error}");
    }
}
