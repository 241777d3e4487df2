//! `reskill-cli config`: what a configuration resolves to, whether it is valid, how two differ.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::skills::{FOUND, print_json};
use crate::config::TrainConfig;
use crate::presets::{OVERLAYS, PRESETS, Preset, title};
use crate::progress::{print_data, print_line};

/// Shows, checks and compares configurations.
#[derive(Debug, Args)]
#[command(
    after_help = "A SOURCE is a TOML file, a run directory, or the name of a preset (`config list`). A+B lays B over A: tables are merged,
every other value of B takes the place of A's. The presets named ablation-... are made for that.

Examples:
  reskill-cli config list
  reskill-cli config show alfworld --set env.data=DIR > mine.toml     every key with its value
  reskill-cli config show default+ablation-uniform                    a preset with an ablation over it
  reskill-cli config check mine.toml
  reskill-cli config schema > configs/schema.json                     for editors
  reskill-cli config diff runs/one runs/two                           what was set differently

Exit codes: 0 done, 1 a check found something (check; diff with --exit-code), 2 an error."
)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Prints the names of the presets
    #[command(after_help = "Examples:
  reskill-cli config list
  reskill-cli config list --json | jq -r '.[] | select(.overlay) | .name'")]
    List {
        /// Prints JSON: [{"name", "title", "overlay"}]
        #[arg(long)]
        json: bool,
    },
    /// Prints the JSON schema of a configuration, which editors complete and check TOML files with
    #[command(after_help = "Examples:
  reskill-cli config schema > configs/schema.json
  head -1 configs/mine.toml      #:schema ./schema.json")]
    Schema,
    /// Prints every key of a configuration with its value, as TOML
    #[command(after_help = "Examples:
  reskill-cli config show alfworld --set env.data=DIR > mine.toml
  reskill-cli config show default+ablation-uniform --json")]
    Show {
        /// File, run or preset
        #[arg(default_value = "default")]
        source: PathBuf,
        /// Overrides one value; may be given several times
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
        /// Prints JSON instead
        #[arg(long)]
        json: bool,
    },
    /// Says whether configurations are valid: one line each
    #[command(after_help = "Examples:
  reskill-cli config check mine.toml default+ablation-off
  
  Exit codes: 0 all are valid, 1 one is not, 2 an error.")]
    Check {
        /// Files, runs or presets
        #[arg(required = true)]
        sources: Vec<PathBuf>,
        /// Overrides one value in all of them; may be given several times
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
        /// Prints JSON: {"source": null, or what is wrong}
        #[arg(long)]
        json: bool,
    },
    /// Prints the keys whose values differ
    #[command(after_help = "Examples:
  reskill-cli config diff runs/one runs/two
  reskill-cli config diff default default+ablation-uniform --json")]
    Diff {
        /// File, run or preset
        old: PathBuf,
        /// File, run or preset
        new: PathBuf,
        /// Overrides one value in both; may be given several times
        #[arg(long = "set", value_name = "KEY=VALUE")]
        overrides: Vec<String>,
        /// Exits with 1 if there is a difference
        #[arg(long)]
        exit_code: bool,
        /// Prints JSON: {"key": [old, new]}
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &ConfigArgs) -> Result<u8> {
    match &args.command {
        ConfigCommand::List { json } => {
            list(*json)?;
            Ok(0)
        }
        ConfigCommand::Schema => {
            print_data(crate::schema::text()?.as_bytes())?;
            Ok(0)
        }
        ConfigCommand::Show { source, overrides, json } => {
            let config = load(source, overrides)?;
            if *json {
                print_json(&config)?;
            } else {
                print_data(config.to_toml()?.as_bytes())?;
            }
            Ok(0)
        }
        ConfigCommand::Check { sources, overrides, json } => check(sources, overrides, *json),
        ConfigCommand::Diff { old, new, overrides, exit_code, json } => {
            let differences = differences(&flat(old, overrides)?, &flat(new, overrides)?);
            if *json {
                print_json(&differences)?;
            } else {
                let lines = differences.iter().map(|(key, [old, new])| format!("{key}: {old} -> {new}\n"));
                print_data(lines.collect::<String>().as_bytes())?;
            }
            Ok(if *exit_code && !differences.is_empty() { FOUND } else { 0 })
        }
    }
}

/// The names, those that stand alone first.
fn list(json: bool) -> Result<()> {
    let all = || PRESETS.iter().map(|it| (it, false)).chain(OVERLAYS.iter().map(|it| (it, true)));
    if json {
        let entry = |(preset, overlay): (&Preset, bool)| json!({ "name": preset.name, "title": title(preset), "overlay": overlay });
        return print_json(&all().map(entry).collect::<Vec<_>>());
    }
    let names: String = all().map(|(preset, _)| format!("{}\n", preset.name)).collect();
    print_data(names.as_bytes())?;
    Ok(())
}

/// Says of each source what is wrong with it, if anything is.
fn check(sources: &[PathBuf], overrides: &[String], json: bool) -> Result<u8> {
    let problem = |source: &PathBuf| load(source, overrides).err().map(|error| format!("{error:#}"));
    let checked: Vec<(&PathBuf, Option<String>)> =
        sources.iter().map(|source| (source, problem(source))).collect();
    if json {
        let entry =
            |(source, problem): &(&PathBuf, Option<String>)| (source.display().to_string(), json!(problem));
        print_json(&checked.iter().map(entry).collect::<BTreeMap<_, _>>())?;
    } else {
        for (source, problem) in &checked {
            let found = problem.as_deref().unwrap_or("valid");
            print_line(&format!("{}: {found}", source.display()));
        }
    }
    Ok(if checked.iter().any(|(_, problem)| problem.is_some()) { FOUND } else { 0 })
}

fn load(source: &Path, overrides: &[String]) -> Result<TrainConfig> {
    let of_run = source.join("config.toml");
    TrainConfig::load(Some(if of_run.is_file() { &of_run } else { source }), overrides)
}

/// Every key with its value.
fn flat(source: &Path, overrides: &[String]) -> Result<BTreeMap<String, Value>> {
    let config = load(source, overrides)?;
    let value = serde_json::to_value(&config).context("a configuration cannot be written as JSON")?;
    let mut keys = BTreeMap::new();
    flatten(String::new(), value, &mut keys);
    Ok(keys)
}

fn flatten(prefix: String, value: Value, keys: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(key, value, keys);
            }
        }
        value => {
            keys.insert(prefix, value);
        }
    }
}

/// The keys whose values differ; one that is absent is null.
fn differences(old: &BTreeMap<String, Value>, new: &BTreeMap<String, Value>) -> BTreeMap<String, [Value; 2]> {
    let keys = old.keys().chain(new.keys());
    let value = |of: &BTreeMap<String, Value>, key: &str| of.get(key).cloned().unwrap_or(json!(null));
    keys.map(|key| (key.clone(), [value(old, key), value(new, key)]))
        .filter(|(_, [old, new])| old != new)
        .collect()
}
