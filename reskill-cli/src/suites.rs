//! Opening the configured environment.

use std::path::Path;

use anyhow::{Context, Result};
use reskill_envs::Suite;
use reskill_envs::alfworld::Alfworld;
use reskill_envs::external::External;
use reskill_envs::household::{Household, HouseholdConfig};
use reskill_envs::scienceworld::ScienceWorld;
use reskill_envs::sql::SqlSuite;
use reskill_envs::wands::Wands;

use crate::config::{EnvConfig, EnvName};
use crate::search::open_search;

/// The suite that a configuration names.
///
/// # Errors
/// What is wrong with the data, with the file and the remedy.
pub fn open_suite(config: &EnvConfig) -> Result<Box<dyn Suite>> {
    match config.name {
        EnvName::Household => Ok(Box::new(Household::generate(&config.household)?)),
        EnvName::Alfworld => {
            let suite = Alfworld::open_path(data(config)?, &config.alfworld)
                .context("env.data: give an alfworld-download tree, a pack, or a game.tw-pddl file")?;
            Ok(Box::new(suite))
        }
        EnvName::Scienceworld => {
            let path = data(config)?;
            Ok(Box::new(ScienceWorld::open_path(path, &config.scienceworld).context("env.scienceworld")?))
        }
        EnvName::Sql => Ok(Box::new(SqlSuite::open_path(data(config)?, &config.sql).context("env.sql")?)),
        EnvName::Wands => Ok(Box::new(match &config.data {
            Some(folder) => Wands::open_path(folder, &config.wands).context("env.wands")?,
            None => Wands::generate(&config.wands).context("env.wands")?,
        })),
        EnvName::Search => Ok(Box::new(open_search(config)?)),
        EnvName::External => Ok(Box::new(External::start(&config.external).context("env.external")?)),
    }
}

fn data(config: &EnvConfig) -> Result<&Path> {
    config.data.as_deref().context("`env.data` is missing: --set env.data=PATH")
}

/// The same games with other shares of closed containers and idle appliances; other environments have no such
/// switch and are opened as they are.
///
/// # Errors
/// As [`open_suite`].
pub fn open_variant(config: &EnvConfig, closed_fraction: f64, idle_fraction: f64) -> Result<Box<dyn Suite>> {
    let household = HouseholdConfig { closed_fraction, idle_fraction, ..config.household.clone() };
    open_suite(&EnvConfig { household, ..config.clone() })
}

/// A command line as its words, quotes taken away as a shell does.
///
/// # Errors
/// If a quote is not closed, or there is no word.
pub fn words(command: &str) -> Result<Vec<String>> {
    let words = shlex::split(command).with_context(|| format!("`{command}`: a quote is not closed"))?;
    anyhow::ensure!(!words.is_empty(), "the command is empty, expected a program and its arguments");
    Ok(words)
}
