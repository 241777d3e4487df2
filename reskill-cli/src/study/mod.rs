//! Studies: a grid of configurations and seeds, run once each and put into one table.
//!
//! A study's folder holds `study.toml`, a run directory for every arm and seed under `runs/ARM/seed-N`, and what
//! [`report`] writes. Runs that are finished are not run again.

pub mod spec;
pub mod runner;
pub mod report;
pub mod pack;
pub mod banks;

pub use spec::{ArmSpec, PlannedRun, StudyFile};

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run_dir::write_atomically;

/// A study on disk.
#[derive(Debug, Clone)]
pub struct StudyDir {
    root: PathBuf,
    study: StudyFile,
}

impl StudyDir {
    /// The folder of a study, made if it is not there. A folder of a study with other arms, or of something else, is refused;
    /// more seeds and more arms are welcome.
    ///
    /// # Errors
    /// One line that names the folder.
    pub fn create(root: &Path, study: StudyFile) -> Result<StudyDir> {
        let name = root.display();
        let file = root.join("study.toml");
        let is_used = root.read_dir().is_ok_and(|mut entries| entries.next().is_some());
        if is_used && !file.is_file() {
            bail!("{name}: is not empty and holds no study; give --out another folder");
        }
        std::fs::create_dir_all(root).with_context(|| format!("{name}: cannot be made"))?;
        let text = toml::to_string(&study).context("the study cannot be written as TOML")?;
        write_atomically(&file, text.as_bytes())?;
        Ok(StudyDir { root: root.to_path_buf(), study })
    }

    /// The study in a folder.
    ///
    /// # Errors
    /// One line that names the folder or file.
    pub fn open(root: &Path) -> Result<StudyDir> {
        let file = root.join("study.toml");
        if !file.is_file() {
            bail!("{}: holds no study.toml; `study run STUDY.toml --out {0}` makes it", root.display());
        }
        Ok(StudyDir { root: root.to_path_buf(), study: StudyFile::read(&file)? })
    }

    /// What is compared.
    #[must_use]
    pub fn study(&self) -> &StudyFile {
        &self.study
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The run directory of a run.
    #[must_use]
    pub fn folder(&self, run: &PlannedRun) -> PathBuf {
        self.root.join(&run.folder)
    }
}
