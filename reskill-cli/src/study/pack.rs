//! A study in little: what its report is made of, compressed, to be kept with the text that speaks of it.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::runner::BEST;
use super::{PlannedRun, StudyDir};
use crate::run_dir::write_atomically;

/// Level of zstd: small, and quick enough for some megabytes.
const LEVEL: i32 = 19;
/// Files that are kept as they are, and files that are compressed.
const PLAIN: [&str; 1] = ["summary.json"];
const COMPRESSED: [&str; 2] = ["metrics.jsonl", "history.jsonl"];

/// Writes the study's finished runs into `out`, which must be new or empty; returns how many they are.
///
/// # Errors
/// One line that names the file.
pub fn pack(study: &StudyDir, out: &Path) -> Result<usize> {
    if out.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{}: is not empty; give another folder", out.display());
    }
    let packed = StudyDir::create(out, study.study().clone())?;
    let mut n_runs = 0;
    for run in study.study().plan() {
        if study.folder(&run).join("summary.json").is_file() {
            pack_run(study, &packed, &run)?;
            n_runs += 1;
        }
    }
    Ok(n_runs)
}

fn pack_run(study: &StudyDir, packed: &StudyDir, run: &PlannedRun) -> Result<()> {
    let (from, to) = (study.folder(run), packed.folder(run));
    std::fs::create_dir_all(&to).with_context(|| format!("{}: cannot be made", to.display()))?;
    let read = |name: &str| {
        let path = from.join(name);
        std::fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))
    };
    // As the study has it: a run's own file holds the paths of the machine it ran on.
    let config = study.study().config(run.arm, run.seed)?.to_toml()?;
    write_atomically(&to.join("config.toml"), config.as_bytes())?;
    if from.join(BEST).is_file() {
        write_atomically(&to.join(BEST), &without_place(&read(BEST)?, run)?)?;
    }
    for name in PLAIN.into_iter().filter(|name| from.join(name).is_file()) {
        write_atomically(&to.join(name), &read(name)?)?;
    }
    for name in COMPRESSED.into_iter().filter(|name| from.join(name).is_file()) {
        let small = zstd::encode_all(read(name)?.as_slice(), LEVEL)
            .with_context(|| format!("{name}: cannot be compressed"))?;
        write_atomically(&to.join(format!("{name}.zst")), &small)?;
    }
    Ok(())
}

/// An evaluation that names its run by the folder inside the study, not by the place it had on a machine.
fn without_place(evaluation: &[u8], run: &PlannedRun) -> Result<Vec<u8>> {
    let mut evaluation: serde_json::Value =
        serde_json::from_slice(evaluation).with_context(|| format!("{BEST}: not as expected"))?;
    if let Some(place) = evaluation.get_mut("run") {
        *place = run.folder.to_string_lossy().into();
    }
    let mut text =
        serde_json::to_vec_pretty(&evaluation).context("an evaluation cannot be written as JSON")?;
    text.push(b'\n');
    Ok(text)
}
