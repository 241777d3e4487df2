//! `reskill-cli adapt`: the skills of a trained policy evolve in another environment, its weights stay.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::skills::print_json;
use super::train::{begun, carry_out, resumed};
use crate::checkpoint::CheckpointChoice;
use crate::config::TrainConfig;
use crate::config_source::{Layered, read_layers, short_name};
use crate::device::DeviceArgs;
use crate::run_dir::RunDir;

/// Evolves skills for a policy whose weights are frozen: test-time adaptation to another environment
#[derive(Debug, Args)]
#[command(
    after_help = "The policy and its prompts are those of SOURCE; environment, rollouts, skills and evaluation are those of --config, or of
the run itself. The bank that came with the policy is measured first, on the same games: what adaptation is worth is the
difference. A run of `adapt` is a run like any other: eval, skills, report and --resume read it.

A small policy knows the words it was trained on and no others. How much of the new environment it cannot read is printed;
beyond `policy.max_unknown` (0.2 of the words) it is refused.

Examples:
  reskill-cli adapt runs/one --set env.household.closed_fraction=1.0 --steps 20 --out runs/closed
  reskill-cli adapt runs/smollm2 --config scienceworld --set env.data=DIR --steps 15
  reskill-cli adapt hf:org/name --config smollm2-alfworld --set env.data=DIR --bank my-skills
  reskill-cli adapt --resume runs/closed
  reskill-cli eval runs/closed --against runs/one          the adapted bank against the old one, game by game

Exit codes: 0 done, 2 an error: one line says what and what to do, 130 interrupted by Ctrl-C after a checkpoint."
)]
pub struct AdaptArgs {
    /// A run whose policy and bank are taken, or a pretrained model: a folder, a .gguf file, hf:org/name
    #[arg(value_name = "SOURCE", required_unless_present = "resume")]
    source: Option<PathBuf>,
    /// Configuration file (TOML) or preset of the new environment; A+B lays B over A [default: that of the run]
    #[arg(long, value_name = "FILE|PRESET")]
    config: Option<PathBuf>,
    /// Steps of adaptation; as --set grpo.steps=N
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Folder of Agent Skills to begin with [default: the bank of the run; of a model, none]
    #[arg(long, value_name = "FOLDER")]
    bank: Option<PathBuf>,
    /// Shows the run as it goes, on the whole terminal; lines where standard output is none
    #[arg(long)]
    tui: bool,
    /// Run directory, new or empty.
    #[arg(
        long,
        value_name = "DIR",
        help = "Run directory, new or empty [default: runs/adapt-<name>-<UTC time>]"
    )]
    out: Option<PathBuf>,
    /// Seed of every random choice; overrides the configuration
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    device: DeviceArgs,
    /// Overrides one value of the configuration; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Goes on with an interrupted adaptation, as its own config.toml says
    #[arg(long, value_name = "RUN", conflicts_with_all = ["source", "config", "steps", "bank", "out", "seed", "overrides", "device", "precision", "gemm"])]
    resume: Option<PathBuf>,
    /// Checkpoint to go on from: latest, last-good (the newest that is whole), best, or a step
    #[arg(long, value_name = "CHECKPOINT", requires = "resume", default_value_t)]
    from: CheckpointChoice,
    /// Prints the result as JSON: {"course": [{"step", "success", "skills"}], "gain", "unknown_words"}
    #[arg(long)]
    json: bool,
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &AdaptArgs) -> Result<u8> {
    let stop = Arc::new(AtomicBool::new(false));
    let trainer = match (&args.resume, &args.source) {
        (Some(path), _) => resumed(path, args.from, &stop)?,
        (None, Some(source)) => {
            let config = configured(source, args)?;
            let name = args.config.as_deref().map_or_else(|| short_name(source), short_name);
            begun(config, args.out.as_deref(), &format!("adapt-{name}"), &stop)?
        }
        (None, None) => bail!("give a run or a model to adapt"),
    };
    let (code, summary) = carry_out(trainer, stop, args.tui)?;
    if let (true, Some(summary)) = (args.json, summary) {
        print_json(&summary.adaptation)?;
    }
    Ok(code)
}

/// The configuration of the adaptation: that of a training run which never updates.
fn configured(source: &Path, args: &AdaptArgs) -> Result<TrainConfig> {
    let Layered { name, mut table } = match source.join("config.toml").is_file() {
        true => of_run(source, args)?,
        false => of_model(source, args)?,
    };
    if let Some(bank) = &args.bank {
        table.insert("bank".into(), text(bank).into());
    }
    table.insert("schedule".into(), "skills_only".into());
    section(&mut table, "sft")?.insert("steps".into(), 0.into());
    section(&mut table, "skills")?.insert("mode".into(), "evolve".into());
    let mut overrides = args.overrides.clone();
    overrides.extend(args.steps.map(|steps| format!("grpo.steps={steps}")));
    overrides.extend(args.seed.map(|seed| format!("seed={seed}")));
    overrides.extend(args.device.overrides());
    let mut config = TrainConfig::from_table(&name, table, &overrides)?;
    if !config.is_frozen() {
        bail!("--set: adaptation keeps the weights as they are; leave out schedule and sft");
    }
    if !overrides.iter().any(|one| one.starts_with("eval.games_during")) {
        // The course is compared with the games before the first step.
        config.eval.games_during = config.eval.games;
    }
    Ok(config)
}

/// Policy, prompts and device of a run; the rest of `--config`, or of the run as well.
fn of_run(source: &Path, args: &AdaptArgs) -> Result<Layered> {
    let run = RunDir::open(source)?;
    let trained = TrainConfig::load(Some(&run.config()), &[])?;
    let mut own = toml::Table::try_from(with_policy_of(&run, trained)?)
        .context("the configuration of the run cannot be written as TOML")?;
    own.insert("bank".into(), text(&run.skills()).into());
    let Some(new) = &args.config else {
        return Ok(Layered { name: run.config().display().to_string(), table: own });
    };
    let mut layered = read_layers(new)?;
    for key in ["policy", "model", "device", "bank"] {
        match own.remove(key) {
            Some(value) => layered.table.insert(key.into(), value),
            None => layered.table.remove(key),
        };
    }
    Ok(layered)
}

/// The configuration of a run, with the policy that it left as the one to begin with.
fn with_policy_of(run: &RunDir, mut config: TrainConfig) -> Result<TrainConfig> {
    if config.is_frozen() {
        // An adaptation itself: its policy lies where it took it from.
        return Ok(config);
    }
    let policy = std::path::absolute(run.policy()).context("the current folder is gone")?;
    if !policy.is_dir() {
        let root = run.root().display();
        bail!("{root}: has no policy yet; let the run finish: reskill-cli train --resume {root}");
    }
    if !config.model.is_pretrained() {
        config.policy.path = Some(policy);
    } else if config.model.lora.is_some() && !config.model.merge {
        config.model.adapter = Some(policy);
    } else {
        config.model.path = policy;
        (config.model.lora, config.model.adapter, config.model.merge) = (None, None, false);
    }
    Ok(config)
}

/// A pretrained model under a configuration.
fn of_model(source: &Path, args: &AdaptArgs) -> Result<Layered> {
    let Some(config) = &args.config else {
        bail!(
            "{}: is not a run, so nothing says what to adapt to; give --config (a run has a config.toml)",
            source.display()
        );
    };
    let mut layered = read_layers(config)?;
    let model = section(&mut layered.table, "model")?;
    model.insert("path".into(), text(source).into());
    model.remove("lora");
    Ok(layered)
}

/// A section of a configuration, made if it is not there.
fn section<'a>(table: &'a mut toml::Table, key: &str) -> Result<&'a mut toml::Table> {
    let value = table.entry(key).or_insert_with(|| toml::Table::new().into());
    value.as_table_mut().with_context(|| format!("`{key}` is a value, expected a section"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
