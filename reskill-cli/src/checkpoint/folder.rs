//! The folder of checkpoints: which there are, which is meant, which are kept.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::choice::CheckpointChoice;
use super::manifest::{Manifest, Score};
use super::newest;
use crate::config::CheckpointConfig;
use crate::progress::print_line;
use crate::run_dir::sync_dir;

/// What the names of checkpoints begin with; they sort by progress.
const KINDS: [&str; 3] = ["0-warm-start-", "1-step-", "2-done-"];
/// Where checkpoints go that a run went back behind.
const ASIDE: &str = "set-aside";

/// The folder that checkpoint `name` is written to before it has its name.
pub(super) fn temporary(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!(".{name}.tmp"))
}

/// Gives a complete checkpoint its name, in place of an older one of that name.
pub(super) fn put_in_place(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    let aside = dir.join(format!(".{name}.old"));
    let rename = |from: &Path, to: &Path| {
        std::fs::rename(from, to).with_context(|| format!("{}: cannot be made", to.display()))
    };
    if path.exists() {
        super::remove_if_there(&aside)?;
        rename(&path, &aside)?;
    }
    rename(&temporary(dir, name), &path)?;
    sync_dir(dir)?;
    super::remove_if_there(&aside)?;
    Ok(path)
}

/// Gives back its name to a checkpoint whose successor of the same name was never put in place.
pub(super) fn recover(dir: &Path) -> Result<()> {
    for entry in entries(dir)? {
        let name = file_name(&entry);
        let Some(old) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".old")) else { continue };
        let path = dir.join(old);
        if !path.exists() {
            std::fs::rename(&entry, &path).with_context(|| format!("{}: cannot be made", path.display()))?;
        }
    }
    Ok(())
}

/// All checkpoints, damaged ones included, oldest first.
pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let is_checkpoint = |path: &PathBuf| {
        let name = file_name(path);
        path.is_dir() && KINDS.iter().any(|kind| name.starts_with(kind))
    };
    let mut found: Vec<PathBuf> = entries(dir)?.into_iter().filter(is_checkpoint).collect();
    found.sort();
    Ok(found)
}

/// The checkpoint that is meant. Those that are passed over because they are damaged are named on the terminal.
///
/// # Errors
/// If there is none of that kind.
pub fn choose(dir: &Path, choice: CheckpointChoice) -> Result<PathBuf> {
    recover(dir)?;
    match choice {
        CheckpointChoice::Latest => newest(dir),
        CheckpointChoice::LastGood => last_good(dir),
        CheckpointChoice::Best => {
            let Some((path, _)) = scored(dir)?.into_iter().reduce(better) else {
                bail!(
                    "--from best: no checkpoint in {} was evaluated; checkpoint.keep_best = 1 and eval.every > 0 keep one",
                    dir.display()
                );
            };
            Ok(path)
        }
        CheckpointChoice::Step(step) => {
            let all = list(dir)?;
            let of_step = |path: &&PathBuf| step_of(path) == Some(step);
            // The end of a run before its last step: the same policy, and nothing left to do.
            all.iter().rev().find(of_step).cloned().with_context(|| {
                let mut steps: Vec<u64> = all.iter().filter_map(|path| step_of(path)).collect();
                steps.dedup();
                let steps: Vec<String> = steps.iter().map(u64::to_string).collect();
                format!("--from {step}: there is no checkpoint of that step, only of {}", steps.join(", "))
            })
        }
    }
}

fn last_good(dir: &Path) -> Result<PathBuf> {
    for path in list(dir)?.into_iter().rev() {
        match Manifest::verify(&path) {
            Ok(()) => return Ok(path),
            Err(error) => print_line(&format!("passed over: {error:#}")),
        }
    }
    bail!("{}: there is no whole checkpoint; begin a new run", dir.display())
}

/// The best score among the checkpoints.
///
/// # Errors
/// If the folder cannot be read.
pub fn best_score(dir: &Path) -> Result<Option<Score>> {
    Ok(scored(dir)?.into_iter().reduce(better).map(|(_, score)| score))
}

/// Checkpoints with a score, oldest first. A manifest that cannot be read has none.
fn scored(dir: &Path) -> Result<Vec<(PathBuf, Score)>> {
    let score = |path: PathBuf| Some((Manifest::read(&path).ok()?.score, path));
    let all = list(dir)?.into_iter().filter_map(score);
    Ok(all.filter_map(|(score, path)| Some((path, score?))).collect())
}

/// The better of two; of equal ones the later.
fn better(a: (PathBuf, Score), b: (PathBuf, Score)) -> (PathBuf, Score) {
    if b.1.success >= a.1.success { b } else { a }
}

/// Removes all but the latest `keep.keep` and the best `keep.keep_best`.
pub(super) fn prune(dir: &Path, keep: &CheckpointConfig) -> Result<()> {
    let all = list(dir)?;
    let mut best = scored(dir)?;
    // Stable, and reversed before: of equal ones the later comes first.
    best.reverse();
    best.sort_by(|a, b| b.1.success.total_cmp(&a.1.success));
    best.truncate(keep.keep_best);
    for old in &all[..all.len().saturating_sub(keep.keep)] {
        if !best.iter().any(|(path, _)| path == old) {
            std::fs::remove_dir_all(old).with_context(|| format!("{}: cannot be removed", old.display()))?;
        }
    }
    Ok(())
}

/// Moves the checkpoints after `chosen` out of the way of a run that goes on from it; returns where they went.
///
/// # Errors
/// If one cannot be moved.
pub fn set_aside_after(dir: &Path, chosen: &Path) -> Result<Vec<PathBuf>> {
    let later: Vec<PathBuf> = list(dir)?.into_iter().filter(|path| path.as_path() > chosen).collect();
    let mut moved = Vec::new();
    for path in later {
        let aside = dir.join(ASIDE);
        std::fs::create_dir_all(&aside).with_context(|| format!("{}: cannot be made", aside.display()))?;
        let name = file_name(&path);
        let numbered = (2..).map(|n| aside.join(format!("{name}-{n}")));
        let free = std::iter::once(aside.join(&name)).chain(numbered).find(|path| !path.exists());
        let target = free.unwrap_or_else(|| aside.join(&name));
        std::fs::rename(&path, &target).with_context(|| format!("{}: cannot be moved", path.display()))?;
        moved.push(target);
    }
    Ok(moved)
}

/// The step in a checkpoint's name; `None` within the warm start.
fn step_of(path: &Path) -> Option<u64> {
    let name = file_name(path);
    KINDS[1..].iter().find_map(|kind| name.strip_prefix(kind)?.parse().ok())
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("{}: cannot be read", dir.display());
    let read = std::fs::read_dir(dir).with_context(cannot)?;
    read.map(|entry| Ok(entry.with_context(cannot)?.path())).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of checkpoints of these steps, with these scores.
    fn folder(scores: &[(u64, Option<f64>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for &(step, success) in scores {
            let path = dir.path().join(format!("1-step-{step:06}"));
            std::fs::create_dir_all(&path).unwrap();
            Manifest::new(success.map(|success| Score { step, success })).write(&path).unwrap();
        }
        dir
    }

    fn names(dir: &Path) -> Vec<u64> {
        list(dir).unwrap().iter().filter_map(|path| step_of(path)).collect()
    }

    #[test]
    fn the_latest_and_the_best_are_kept() {
        let scores =
            [(5, Some(0.4)), (10, Some(0.7)), (15, None), (20, Some(0.7)), (25, Some(0.1)), (30, None)];
        for (keep, keep_best, want) in [
            (2, 0, vec![25, 30]),
            (2, 1, vec![20, 25, 30]),
            (2, 2, vec![10, 20, 25, 30]),
            (1, 3, vec![5, 10, 20, 30]),
            (9, 1, vec![5, 10, 15, 20, 25, 30]),
        ] {
            let dir = folder(&scores);
            prune(dir.path(), &CheckpointConfig { every: 5, keep, keep_best }).unwrap();
            assert_eq!(names(dir.path()), want, "keep {keep}, keep_best {keep_best}");
        }
    }

    #[test]
    fn best_is_the_later_of_equals_and_a_damaged_manifest_is_no_score() {
        let dir = folder(&[(5, Some(0.9)), (10, Some(0.7)), (15, Some(0.7))]);
        std::fs::write(dir.path().join("1-step-000005/manifest.json"), "{").unwrap();
        let chosen = choose(dir.path(), CheckpointChoice::Best).unwrap();
        assert!(chosen.ends_with("1-step-000015"), "{}", chosen.display());
        assert_eq!(best_score(dir.path()).unwrap().unwrap().step, 15);
        // Nothing is thrown away because it cannot be read.
        prune(dir.path(), &CheckpointConfig { every: 5, keep: 3, keep_best: 1 }).unwrap();
        assert_eq!(names(dir.path()), [5, 10, 15]);
    }

    #[test]
    fn a_step_without_checkpoint_is_refused_with_those_there_are() {
        let dir = folder(&[(5, None), (10, None)]);
        let message = format!("{:#}", choose(dir.path(), CheckpointChoice::Step(7)).unwrap_err());
        assert!(message.contains("--from 7") && message.contains("5, 10"), "{message}");
        let message = format!("{:#}", choose(dir.path(), CheckpointChoice::Best).unwrap_err());
        assert!(message.contains("keep_best"), "{message}");
    }

    #[test]
    fn later_checkpoints_step_aside_and_nothing_is_lost() {
        let dir = folder(&[(5, None), (10, None), (15, None)]);
        for _ in 0..2 {
            let chosen = choose(dir.path(), CheckpointChoice::Step(5)).unwrap();
            set_aside_after(dir.path(), &chosen).unwrap();
            assert_eq!(names(dir.path()), [5]);
            let again = dir.path().join("1-step-000010");
            std::fs::create_dir_all(&again).unwrap();
            Manifest::new(None).write(&again).unwrap();
        }
        let mut aside: Vec<String> =
            entries(&dir.path().join(ASIDE)).unwrap().iter().map(|path| file_name(path)).collect();
        aside.sort();
        assert_eq!(aside, ["1-step-000010", "1-step-000010-2", "1-step-000015"]);
    }

    #[test]
    fn a_replacement_that_was_broken_off_gives_the_old_one_back() {
        let dir = folder(&[(5, None)]);
        std::fs::rename(dir.path().join("1-step-000005"), dir.path().join(".1-step-000005.old")).unwrap();
        std::fs::create_dir(dir.path().join(".1-step-000005.tmp")).unwrap();
        assert!(choose(dir.path(), CheckpointChoice::Latest).unwrap().ends_with("1-step-000005"));
    }
}
