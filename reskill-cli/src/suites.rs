//! Opening the configured environment.

use anyhow::{Context, Result};
use reskill_envs::Suite;
use reskill_envs::alfworld::Alfworld;
use reskill_envs::household::{Household, HouseholdConfig};

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
            let path = config.data.as_ref().context("`env.data` is missing: --set env.data=DIR")?;
            let suite = Alfworld::open_path(path, &config.alfworld)
                .context("env.data: give an alfworld-download tree, a pack, or a game.tw-pddl file")?;
            Ok(Box::new(suite))
        }
        EnvName::Search => Ok(Box::new(open_search(config)?)),
    }
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
