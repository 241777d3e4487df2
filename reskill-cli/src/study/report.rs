//! The report of a study: a Markdown table, and one page with the curves.

use anyhow::{Result, bail};

use super::{ArmSpec, StudyDir};
use crate::report::compare::{NamedArm, StudyFacts, render_study};
use crate::run_dir::RunDir;

/// What is made of a study.
#[derive(Debug, Clone)]
pub struct StudyReport {
    /// The table with what it says in words.
    pub markdown: String,
    /// The page.
    pub html: String,
}

/// Makes the report of the runs that are there; it depends on their files alone, so the same files give the same bytes.
///
/// # Errors
/// If the baseline has no finished run, or a file does not hold what it should.
pub fn make(dir: &StudyDir) -> Result<StudyReport> {
    let study = dir.study();
    let named = |(index, arm): (usize, &ArmSpec)| -> Result<NamedArm> {
        Ok(NamedArm {
            name: arm.name.clone(),
            note: arm.note.clone(),
            is_control: arm.control,
            settings: study.config(index, study.first_seed)?.to_toml()?,
            runs: Vec::new(),
        })
    };
    let mut arms = study.arms.iter().enumerate().map(named).collect::<Result<Vec<_>>>()?;
    let plan = study.plan();
    for run in &plan {
        let folder = dir.folder(run);
        if folder.join("summary.json").is_file() {
            arms[run.arm].runs.push(RunDir::open(&folder)?);
        }
    }
    let n_runs: usize = arms.iter().map(|arm| arm.runs.len()).sum();
    if arms.iter().any(|arm| arm.name == study.baseline && arm.runs.is_empty()) {
        bail!(
            "{}: the baseline `{}` has no finished run; go on with `study run`",
            dir.root().display(),
            study.baseline
        );
    }
    arms.retain(|arm| !arm.runs.is_empty());
    // The baseline first: the page measures the others against it.
    arms.sort_by_key(|arm| arm.name != study.baseline);
    let facts = StudyFacts { title: study.title.clone(), n_planned: plan.len(), n_runs };
    let (markdown, html) = render_study(&arms, &facts)?;
    Ok(StudyReport { markdown, html })
}
