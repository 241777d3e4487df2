//! `reskill-cli study`: a grid of configurations and seeds, and its table.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::commands::train::{INTERRUPTED, stop_on_interrupt};
use crate::progress::{print_data, print_line};
use crate::run_dir::write_atomically;
use crate::study::{StudyDir, StudyFile, banks, pack, report, runner};

/// Runs a grid of configurations and seeds, and puts it into one table
#[derive(Debug, Args)]
#[command(after_help = "A study file:
  title = \"Do skills help?\"
  baseline = \"grpo\"
  seeds = 5                                  # of every arm: 0 to 4
  set = [\"threads=1\"]                        # of every run, as --set; {seed} is the seed of the run
  parallel = 2
  [[arm]]
  name = \"grpo\"
  config = \"ablation-off\"                    # laid over `base`, which is the preset `default`
  [[arm]]
  name = \"reskill\"
  note = \"the default run\"

Examples:
  reskill-cli study run configs/studies/a.toml --out studies/a     runs what is not finished; Ctrl-C stops with checkpoints
  reskill-cli study report studies/a                             studies/a/table.md and studies/a/report.html
  reskill-cli study pack studies/a docs/results/study-a          what the report is made of, compressed
  reskill-cli study banks studies/a skills --arm reskill         the banks that its runs ended with

Exit codes: 0 done; 1 a run failed; 2 an error: one line says what and what to do; 130 interrupted, go on with the same command.")]
pub struct StudyArgs {
    #[command(subcommand)]
    command: StudyCommand,
}

#[derive(Debug, Subcommand)]
enum StudyCommand {
    /// Runs what is not finished, a line a run
    #[command(
        after_help = "A run of which there is a checkpoint goes on; one that was made with another configuration is refused.

Examples:
  reskill-cli study run configs/studies/a.toml --out studies/a
  reskill-cli study run configs/studies/a.toml --out studies/a --parallel 8"
    )]
    Run {
        /// The study
        #[arg(value_name = "STUDY.toml")]
        study: PathBuf,
        /// Folder of the study: new, empty, or that of an earlier call
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Runs at once [default: `parallel` of the study]
        #[arg(long, value_name = "N")]
        parallel: Option<usize>,
    },
    /// Writes the table and the page of the runs that are finished, and prints the table
    #[command(after_help = "Examples:
  reskill-cli study report studies/a
  reskill-cli study report docs/results/study-a --out new       from what `pack` kept")]
    Report {
        /// Folder of the study, or what `pack` made of it
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Folder for table.md and report.html [default: DIR]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Copies what the report is made of, compressed
    #[command(after_help = "Examples:
  reskill-cli study pack studies/a docs/results/study-a")]
    Pack {
        /// Folder of the study
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// New folder
        #[arg(value_name = "OUT")]
        out: PathBuf,
    },
    /// Writes the banks that the runs of an arm ended with, as Agent Skills with the decision that each skill comes from
    #[command(after_help = "Every skill says under `metadata`, `provenance`, in which test it was accepted.

Examples:
  reskill-cli study banks studies/a skills --arm reskill        skills/reskill/seed-0/NAME/SKILL.md and so on")]
    Banks {
        /// Folder of the study
        #[arg(value_name = "DIR")]
        dir: PathBuf,
        /// Folder for the banks
        #[arg(value_name = "OUT")]
        out: PathBuf,
        /// Arm whose runs are meant
        #[arg(long, value_name = "NAME")]
        arm: String,
    },
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &StudyArgs) -> Result<u8> {
    match &args.command {
        StudyCommand::Run { study, out, parallel } => {
            let study = StudyDir::create(out, StudyFile::read(study)?)?;
            let stop = Arc::new(AtomicBool::new(false));
            stop_on_interrupt(Arc::clone(&stop))?;
            let program = std::env::current_exe().context("this program cannot be found")?;
            let parallel = parallel.unwrap_or(study.study().parallel).max(1);
            let outcome = runner::run(&study, &program, parallel, &stop)?;
            for (name, log) in &outcome.failed {
                print_line(&format!("{name} failed: {}", log.display()));
            }
            if outcome.is_stopped {
                print_line("stopped; the same command goes on");
                return Ok(INTERRUPTED);
            }
            print_line(&format!(
                "{} runs finished; reskill-cli study report {}",
                outcome.n_finished,
                out.display()
            ));
            Ok(u8::from(!outcome.failed.is_empty()))
        }
        StudyCommand::Report { dir, out } => {
            let study = StudyDir::open(dir)?;
            let made = report::make(&study)?;
            let out = out.as_deref().unwrap_or(dir);
            std::fs::create_dir_all(out).with_context(|| format!("{}: cannot be made", out.display()))?;
            write_atomically(&out.join("table.md"), made.markdown.as_bytes())?;
            write_atomically(&out.join("report.html"), made.html.as_bytes())?;
            print_data(made.markdown.as_bytes())?;
            Ok(0)
        }
        StudyCommand::Pack { dir, out } => {
            let n_runs = pack::pack(&StudyDir::open(dir)?, out)?;
            print_line(&format!("{n_runs} runs in {}", out.display()));
            Ok(0)
        }
        StudyCommand::Banks { dir, out, arm } => {
            let (n_banks, n_skills) = banks::export(&StudyDir::open(dir)?, arm, out)?;
            print_line(&format!("{n_banks} banks, {n_skills} skills in {}", out.display()));
            Ok(0)
        }
    }
}
