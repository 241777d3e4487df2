//! The directory of a run.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

/// Where a run keeps its files.
#[derive(Debug, Clone)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// A directory for a new run, which must not exist or be empty. Nothing is made yet.
    ///
    /// # Errors
    /// If it holds anything, or cannot be read.
    pub fn new(root: &Path) -> Result<RunDir> {
        let shown = root.display();
        if root.exists() {
            let entries = std::fs::read_dir(root)
                .with_context(|| format!("--out {shown}: is not a directory that can be read"))?;
            // What a run leaves that was killed before its configuration was there.
            let is_left = |name: &std::ffi::OsStr| name == "config.tmp";
            if entries.flatten().any(|entry| !is_left(&entry.file_name())) {
                bail!(
                    "--out {shown}: the directory is not empty; give another one, or go on with --resume {shown}"
                );
            }
        }
        Ok(RunDir { root: root.to_path_buf() })
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(&self) -> Result<()> {
        std::fs::create_dir_all(self.checkpoints())
            .with_context(|| format!("--out {}: cannot be made", self.root.display()))
    }

    /// An existing run.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(root: &Path) -> Result<RunDir> {
        let run = RunDir { root: root.to_path_buf() };
        if !run.config().is_file() {
            bail!("{}: not a run directory (it has no config.toml)", root.display());
        }
        Ok(run)
    }

    /// `runs/<config>-<UTC time>`; a number is added if that exists.
    #[must_use]
    pub fn default_path(config_name: &str) -> PathBuf {
        let stamp = utc_stamp(SystemTime::now());
        let base = PathBuf::from("runs").join(format!("{config_name}-{stamp}"));
        let numbered = (2..).map(|n| PathBuf::from(format!("{}-{n}", base.display())));
        std::iter::once(base.clone()).chain(numbered).find(|path| !path.exists()).unwrap_or(base)
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The resolved configuration.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The numbers of every step.
    #[must_use]
    pub fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// The same as TensorBoard event files, where they are asked for.
    #[must_use]
    pub fn tensorboard(&self) -> PathBuf {
        self.root.join("tensorboard")
    }

    /// Kept episodes, turn by turn.
    #[must_use]
    pub fn episodes(&self) -> PathBuf {
        self.root.join("episodes.jsonl")
    }

    /// The result.
    #[must_use]
    pub fn summary(&self) -> PathBuf {
        self.root.join("summary.json")
    }

    /// The report for people.
    #[must_use]
    pub fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// The bank as Agent Skills folders.
    #[must_use]
    pub fn skills(&self) -> PathBuf {
        self.root.join("skills")
    }

    /// Every proposed, accepted and rejected operation.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.root.join("history.jsonl")
    }

    /// The trained policy: config.json, model.safetensors, tokenizer.json.
    #[must_use]
    pub fn policy(&self) -> PathBuf {
        self.root.join("policy")
    }

    /// What a language model as creator was asked and answered, stage by stage.
    #[must_use]
    pub fn creator(&self) -> PathBuf {
        self.root.join("creator")
    }

    /// Batches whose update was skipped because it was not finite.
    #[must_use]
    pub fn skipped(&self) -> PathBuf {
        self.root.join("skipped")
    }

    /// The checkpoints.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }
}

/// Writes a file under a temporary name, syncs it, and renames it: a reader sees the old content or the new.
///
/// # Errors
/// If it cannot be written; no temporary file is left.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let temporary = path.with_extension("tmp");
    let write = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write()
        .inspect_err(|_| {
            // What is left of it takes room that others need; that it cannot be removed is the lesser trouble.
            let _ = std::fs::remove_file(&temporary);
        })
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Waits until the names in a folder are on the disk. Only Unix lets a folder be synced.
///
/// # Errors
/// If the disk refuses.
pub fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
        synced.with_context(|| format!("{}: cannot be written", dir.display()))?;
    }
    Ok(())
}

/// `20260131T235959Z`.
fn utc_stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Gregorian date of a day counted from 1970-01-01, by counting 400-year eras that begin on 1 March.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        assert_eq!(civil_from_days(0), (1970, 1, 1));
        assert_eq!(civil_from_days(11_016), (2000, 2, 29));
        assert_eq!(civil_from_days(20_819), (2027, 1, 1));
    }

    #[test]
    fn a_directory_with_files_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("precious"), "x").unwrap();
        let error = RunDir::new(dir.path()).unwrap_err().to_string();
        assert!(error.contains("not empty"), "{error}");
        assert_eq!(std::fs::read_to_string(dir.path().join("precious")).unwrap(), "x");
    }
}
