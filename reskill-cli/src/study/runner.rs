//! Runs what is not finished, some at once, each in a process of its own.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::{PlannedRun, StudyDir};
use crate::config::TrainConfig;
use crate::progress::print_line;
use crate::run_dir::write_atomically;
use crate::summary::Summary;

/// The file of a run that holds the evaluation of its best checkpoint.
pub const BEST: &str = "best.json";

/// How the runs of a study ended.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Runs that are finished, those of earlier times included.
    pub n_finished: usize,
    /// Runs that failed, with the file that says why.
    pub failed: Vec<(String, PathBuf)>,
    /// Whether it was stopped from outside.
    pub is_stopped: bool,
}

/// Runs the study with `program`, this program, until all runs are finished or `stop` is set; then running ones stop with a
/// checkpoint, and the next call goes on with them.
///
/// # Errors
/// If a run cannot be configured, or one that is finished was made with another configuration.
pub fn run(study: &StudyDir, program: &Path, parallel: usize, stop: &AtomicBool) -> Result<Outcome> {
    let plan = study.study().plan();
    let mut waiting = VecDeque::new();
    let n_runs = plan.len();
    for run in plan {
        if !check(study, &run)? {
            waiting.push_back(run);
        }
    }
    let n_done = AtomicUsize::new(n_runs - waiting.len());
    print_line(&format!(
        "{}: {n_runs} runs of {} arms, {} finished before; {parallel} at once",
        study.root().display(),
        study.study().arms.len(),
        n_done.load(Ordering::Relaxed)
    ));
    let (waiting, failed) = (Mutex::new(waiting), Mutex::new(Vec::new()));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    std::thread::scope(|scope| {
        for _ in 0..parallel {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let Some(run) = next() else { return };
                    let name = name(study, &run);
                    match carry_out(study, &run, program, stop) {
                        Ok(None) => return,
                        Ok(Some(line)) => {
                            let done = n_done.fetch_add(1, Ordering::SeqCst) + 1;
                            print_line(&format!("[{done:>3}/{n_runs}] {name:<28} {line}"));
                        }
                        Err(error) => {
                            print_line(&format!("[  -/{n_runs}] {name:<28} failed: {error:#}"));
                            let log = log_of(study, &run);
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push((name, log));
                        }
                    }
                }
            });
        }
    });
    Ok(Outcome {
        n_finished: n_done.into_inner(),
        failed: failed.into_inner().unwrap_or_else(PoisonError::into_inner),
        is_stopped: stop.load(Ordering::SeqCst),
    })
}

fn name(study: &StudyDir, run: &PlannedRun) -> String {
    format!("{} seed {}", study.study().arms[run.arm].name, run.seed)
}

fn log_of(study: &StudyDir, run: &PlannedRun) -> PathBuf {
    study.folder(run).with_extension("log")
}

/// Whether a run is finished. One that was made with another configuration is an error.
fn check(study: &StudyDir, run: &PlannedRun) -> Result<bool> {
    let folder = study.folder(run);
    let planned = study.study().config(run.arm, run.seed)?.with_absolute_paths()?;
    let made = folder.join("config.toml");
    if !made.is_file() {
        return Ok(false);
    }
    let before = TrainConfig::load(Some(&made), &[])?;
    if before != planned {
        bail!(
            "{}: was made with another configuration than `{}` has now (see `config diff`); remove it, or give --out another folder",
            folder.display(),
            study.study().arms[run.arm].name
        );
    }
    let lacks_best = needs_best(study, &before) && !folder.join(BEST).is_file();
    Ok(folder.join("summary.json").is_file() && !lacks_best)
}

/// Whether the run keeps a best checkpoint that is to be evaluated.
fn needs_best(study: &StudyDir, config: &TrainConfig) -> bool {
    study.study().best && config.checkpoint.keep_best > 0 && config.eval.every > 0
}

/// Carries out one run; a line about it, or nothing if it was stopped.
fn carry_out(
    study: &StudyDir,
    run: &PlannedRun,
    program: &Path,
    stop: &AtomicBool,
) -> Result<Option<String>> {
    let folder = study.folder(run);
    let log = log_of(study, run);
    if !folder.join("summary.json").is_file() {
        let mut command = Command::new(program);
        command.arg("train");
        if has_checkpoint(&folder) {
            command.arg("--resume").arg(&folder);
        } else {
            if folder.exists() {
                // Killed before its first checkpoint: nothing of it can be used.
                std::fs::remove_dir_all(&folder)
                    .with_context(|| format!("{}: cannot be removed", folder.display()))?;
            }
            command.arg("--config").arg(study.study().source(run.arm)).arg("--out").arg(&folder);
            command.arg("--seed").arg(run.seed.to_string());
            for assignment in study.study().overrides(run.arm, run.seed) {
                command.arg("--set").arg(assignment);
            }
        }
        if wait(command, &log, None, stop)?.is_none() {
            return Ok(None);
        }
    }
    let config = study.study().config(run.arm, run.seed)?;
    if needs_best(study, &config) && !folder.join(BEST).is_file() && has_checkpoint(&folder) {
        let mut command = Command::new(program);
        command.arg("eval").arg(&folder).args(["--from", "best", "--json"]);
        let written = folder.join("best.json.part");
        if wait(command, &log, Some(&written), stop)?.is_none() {
            return Ok(None);
        }
        let text =
            std::fs::read(&written).with_context(|| format!("{}: cannot be read", written.display()))?;
        write_atomically(&folder.join(BEST), &text)?;
        // What is left of it does no harm.
        let _ = std::fs::remove_file(&written);
    }
    let path = folder.join("summary.json");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
    let summary: Summary =
        serde_json::from_str(&text).with_context(|| format!("{}: not as expected", path.display()))?;
    Ok(Some(format!(
        "unseen {:5.1} -> {:5.1}   seen {:5.1} -> {:5.1}   {} versions   {:.0} s",
        summary.unseen.warm_start * 100.0,
        summary.unseen.r#final * 100.0,
        summary.seen.warm_start * 100.0,
        summary.seen.r#final * 100.0,
        summary.versions.len(),
        summary.seconds
    )))
}

fn has_checkpoint(folder: &Path) -> bool {
    folder.join("checkpoints").read_dir().is_ok_and(|mut entries| entries.next().is_some())
}

/// Runs a command to its end, its messages appended to `log`; `None` if it was stopped.
fn wait(mut command: Command, log: &Path, out: Option<&Path>, stop: &AtomicBool) -> Result<Option<()>> {
    if let Some(parent) = log.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("{}: cannot be made", parent.display()))?;
    }
    let messages = File::options().create(true).append(true).open(log);
    let messages = messages.with_context(|| format!("{}: cannot be written", log.display()))?;
    let answers = match out {
        Some(path) => {
            File::create(path).with_context(|| format!("{}: cannot be made", path.display()))?.into()
        }
        None => Stdio::null(),
    };
    // A group of its own: Ctrl-C is passed on once, below.
    let child = command.stdin(Stdio::null()).stdout(answers).stderr(messages).process_group(0).spawn();
    let mut child = child.context("this program cannot be started again")?;
    let status = wait_for(&mut child, stop)?;
    if stop.load(Ordering::SeqCst) && !status.success() {
        return Ok(None);
    }
    if !status.success() {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        bail!("{status}: {last} ({})", log.display());
    }
    Ok(Some(()))
}

fn wait_for(child: &mut Child, stop: &AtomicBool) -> Result<ExitStatus> {
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait().context("a run cannot be waited for")? {
            return Ok(status);
        }
        match asked {
            None if stop.load(Ordering::SeqCst) => {
                // It may have ended this moment.
                let _ = kill_process(Pid::from_child(child), Signal::INT);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() > Duration::from_secs(600) => {
                let _ = child.kill();
            }
            _ => {}
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
