//! `reskill-cli train`: a policy and its skills, from nothing to a report.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use clap::Args;

use crate::checkpoint::CheckpointChoice;
use crate::config::TrainConfig;
use crate::config_source::short_name;
use crate::device::DeviceArgs;
use crate::model_source;
use crate::progress::print_line;
use crate::run_dir::RunDir;
use crate::suites::words;
use crate::summary::Summary;
use crate::trainer::{Ending, Trainer};
use crate::tui::{self, Plan, Screen};

/// Exit code of a run that was interrupted and can be resumed.
pub const INTERRUPTED: u8 = 130;

/// Trains a policy whose skills evolve with it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli train                                  the default run: household games, on the CPU, in minutes
  reskill-cli train --seed 1 --out runs/one
  reskill-cli train --set skills.mode=off            plain GRPO, everything else equal
  reskill-cli train --device cuda --precision bf16   the same on a CUDA device
  reskill-cli train --config configs/alfworld.toml --set env.data=DIR
  reskill-cli train --config configs/smollm2-alfworld.toml --set env.data=DIR --set model.path=MODEL
  reskill-cli train --config configs/scienceworld.toml --set env.data=DIR
  reskill-cli train --env-cmd 'python3 my_env.py'
  reskill-cli train --tui                            curves, groups in flight, posteriors; also over ssh
  reskill-cli train --set log.tensorboard=true --set log.prometheus=127.0.0.1:9090
  reskill-cli train --config default+ablation-uniform                  an ablation over a preset (`config list`)
  reskill-cli train --resume runs/one                goes on after an interruption
  reskill-cli train --resume runs/one --from last-good    where the newest checkpoint is damaged

Exit codes: 0 the run is finished, 2 an error: one line says what and what to do, 130 interrupted by Ctrl-C after a
checkpoint (go on with --resume).")]
pub struct TrainArgs {
    /// Configuration file (TOML) or preset; A+B lays B over A. Without it the embedded default runs, which is also at
    /// configs/default.toml
    #[arg(long, value_name = "FILE|PRESET")]
    pub(super) config: Option<PathBuf>,
    /// Run directory, new or empty.
    #[arg(
        long,
        value_name = "DIR",
        help = "Run directory, new or empty [default: runs/<config>-<UTC time>]"
    )]
    pub(super) out: Option<PathBuf>,
    /// Seed of every random choice; overrides the configuration
    #[arg(long, value_name = "N")]
    pub(super) seed: Option<u64>,
    #[command(flatten)]
    pub(super) device: DeviceArgs,
    /// Trains on the environment that this command plays; without --config by the preset configs/external.toml
    #[arg(long, value_name = "COMMAND")]
    pub(super) env_cmd: Option<String>,
    /// Overrides one value of the configuration; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) overrides: Vec<String>,
    /// Shows the run as it goes, on the whole terminal; lines where standard output is none
    #[arg(long)]
    pub(super) tui: bool,
    /// Goes on with an interrupted run, as its own config.toml says
    #[arg(long, value_name = "RUN", conflicts_with_all = ["config", "out", "seed", "overrides", "env_cmd", "device", "precision", "gemm"])]
    pub(super) resume: Option<PathBuf>,
    /// Checkpoint to go on from: latest, last-good (the newest that is whole), best (by validation success), or a step; later
    /// ones step aside
    #[arg(long, value_name = "CHECKPOINT", requires = "resume", default_value_t)]
    pub(super) from: CheckpointChoice,
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &TrainArgs) -> Result<u8> {
    let stop = Arc::new(AtomicBool::new(false));
    let trainer = match &args.resume {
        Some(path) => resumed(path, args.from, &stop)?,
        None => {
            let mut overrides = args.env_cmd.as_deref().map_or(Ok(Vec::new()), overrides_of_command)?;
            overrides.extend(args.overrides.iter().cloned());
            overrides.extend(args.seed.map(|seed| format!("seed={seed}")));
            overrides.extend(args.device.overrides());
            let external = args.env_cmd.as_ref().map(|_| Path::new("external"));
            let config = TrainConfig::load(args.config.as_deref().or(external), &overrides)?;
            let name = args.config.as_deref().map_or("default".into(), short_name);
            begun(config, args.out.as_deref(), &name, &stop)?
        }
    };
    Ok(carry_out(trainer, stop, args.tui)?.0)
}

/// A run as a checkpoint left it.
pub(super) fn resumed(path: &Path, from: CheckpointChoice, stop: &Arc<AtomicBool>) -> Result<Trainer> {
    let run = RunDir::open(path)?;
    let config = TrainConfig::load(Some(&run.config()), &[])?;
    limit_threads(config.threads)?;
    print_line(&format!("going on with {}", path.display()));
    Trainer::resume(config, run, from, Arc::clone(stop))
}

/// A new run in `out`, or in a folder called `name` and the time.
pub(super) fn begun(
    config: TrainConfig,
    out: Option<&Path>,
    name: &str,
    stop: &Arc<AtomicBool>,
) -> Result<Trainer> {
    let mut config = config.with_absolute_paths()?;
    config.model.path = model_source::pinned(&config.model.path)?;
    limit_threads(config.threads)?;
    let path = out.map_or_else(|| RunDir::default_path(name), Path::to_path_buf);
    let run = RunDir::new(&path)?;
    print_line(&format!("writing to {}", path.display()));
    Trainer::new(config, run, Arc::clone(stop))
}

/// Runs to the end and prints the result; returns the exit code, and the summary of a run that is finished.
pub(super) fn carry_out(
    trainer: Trainer,
    stop: Arc<AtomicBool>,
    tui: bool,
) -> Result<(u8, Option<Box<Summary>>)> {
    let root = trainer.run_dir().root().to_path_buf();
    stop_on_interrupt(Arc::clone(&stop))?;
    let screen = if tui { start_screen(&trainer, stop)? } else { None };
    let ending = trainer.run();
    if let Some(screen) = screen {
        screen.finish();
    }
    match ending? {
        Ending::Finished(summary) => {
            print_summary(&summary);
            print_line(&format!(
                "\n{}  the report; summary.json and the other results lie beside it",
                root.join("report.html").display()
            ));
            Ok((0, Some(summary)))
        }
        Ending::Interrupted => {
            print_line(&format!(
                "stopped with a checkpoint; go on with: reskill-cli train --resume {}",
                root.display()
            ));
            Ok((INTERRUPTED, None))
        }
    }
}

/// The live view, if there is a terminal for it.
fn start_screen(trainer: &Trainer, stop: Arc<AtomicBool>) -> Result<Option<Screen>> {
    let run = trainer.run_dir();
    let plan = Plan { name: run.root().display().to_string(), steps: trainer.config().grpo.steps };
    let screen = Screen::start(plan, &run.metrics(), stop)?;
    if screen.is_none() {
        print_line("--tui: standard output is no terminal; printing lines");
    }
    Ok(screen)
}

/// What `--env-cmd` sets.
fn overrides_of_command(command: &str) -> Result<Vec<String>> {
    let words = toml::Value::from(words(command)?);
    Ok(vec!["env.name=external".into(), format!("env.external.command={words}")])
}

fn limit_threads(threads: usize) -> Result<()> {
    if threads == 0 {
        return Ok(());
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global()
        .with_context(|| format!("`threads` = {threads}: the threads cannot be started"))
}

/// The first Ctrl-C asks for a stop after the current step, the second ends the program at once.
pub(super) fn stop_on_interrupt(stop: Arc<AtomicBool>) -> Result<()> {
    let handler = move || {
        if stop.swap(true, Ordering::SeqCst) {
            tui::give_back();
            #[expect(clippy::exit, reason = "the person insists; the last checkpoint stays")]
            std::process::exit(i32::from(INTERRUPTED));
        }
        print_line("stopping after this step; press Ctrl-C again to stop at once");
    };
    ctrlc::set_handler(handler).context("Ctrl-C cannot be handled")
}

fn print_summary(summary: &Summary) {
    match &summary.adaptation {
        Some(adaptation) => {
            print_line("");
            adaptation.lines().iter().for_each(|line| print_line(line));
        }
        None => print_results(summary),
    }
    print_versions(summary);
    print_line(&format!(
        "\n{:.0} s, {:.2} GiB resident at most",
        summary.seconds,
        summary.peak_rss_bytes as f64 / f64::from(1 << 30)
    ));
}

/// Success before and after training, by split and family.
fn print_results(summary: &Summary) {
    print_line(
        "\nsuccess in %, with 95% interval        after warm start      after training       bank off",
    );
    for name in ["seen", "unseen"] {
        let cell = |phase: &str, family: Option<&str>| {
            let evaluation = summary.evaluations.get(&format!("{phase}/{name}"));
            let success = evaluation.and_then(|evaluation| match family {
                Some(family) => evaluation.families.get(family).copied(),
                None => Some(evaluation.overall),
            });
            success.map_or("-".to_string(), |success| {
                let [low, high] = success.interval.map(|bound| bound * 100.0);
                format!("{:.1} ({low:.0}-{high:.0})", success.rate * 100.0)
            })
        };
        let row = |label: &str, family: Option<&str>| {
            print_line(&format!(
                "{label:<36} {:>18} {:>19} {:>14}",
                cell("warm_start", family),
                cell("final", family),
                cell("final_bank_off", family)
            ));
        };
        row(name, None);
        if let Some(evaluation) = summary.evaluations.get(&format!("final/{name}")) {
            for family in evaluation.families.keys() {
                row(&format!("  {family}"), Some(family));
            }
            let percent = |rate: reskill_skills::Rate| {
                rate.value().map_or("-".into(), |v| format!("{:.0}%", v * 100.0))
            };
            print_line(&format!(
                "  guidance followed: {} of {} turns that showed it; same action without it: {}",
                percent(evaluation.heeded),
                evaluation.heeded.total,
                evaluation.unprompted.map_or("-".into(), percent),
            ));
        }
    }
}

fn print_versions(summary: &Summary) {
    print_line("\nversions of the skill bank that were tested");
    for version in &summary.versions {
        let verdict = serde_json::to_value(version.verdict).ok();
        print_line(&format!(
            "  step {:>3}  {:<6} by {:<11} P(new better) {:.3}  z {}  success old {:.2}, new {:.2}  {}",
            version.step,
            verdict.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default(),
            version.rule,
            version.p_new_better,
            version.z.map_or("-".into(), |z| format!("{z:+.2}")),
            version.success.first().copied().unwrap_or_default(),
            version.success.last().copied().unwrap_or_default(),
            version.change,
        ));
    }
    if summary.versions.is_empty() {
        print_line("  none");
    }
}
