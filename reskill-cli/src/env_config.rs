//! Which environment a run is about, and its own settings.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use reskill_envs::alfworld::AlfworldOptions;
use reskill_envs::household::HouseholdConfig;
use reskill_envs::sql::SqlConfig;
use serde::{Deserialize, Serialize};

/// Which environment, and its own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvConfig {
    /// One of [`EnvName`].
    pub name: EnvName,
    /// The data of the environment; what it is, [`EnvName::data`] says.
    pub data: Option<PathBuf>,
    /// Household: what is generated.
    pub household: HouseholdConfig,
    /// ALFWorld: which games are read.
    pub alfworld: AlfworldOptions,
    /// InterCode-SQL: splits, limits, help.
    pub sql: SqlConfig,
}

/// The environments that can be trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum EnvName {
    /// Generated household games; needs no data
    Household,
    /// ALFWorld games, from `--data`
    Alfworld,
    /// InterCode-SQL: questions over databases, from `--data`
    Sql,
}

/// What an environment reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Nothing: it generates its tasks.
    None,
    /// What is described here.
    Needed(&'static str),
}

impl EnvName {
    /// What `env.data` and `--data` hold for this environment.
    #[must_use]
    pub fn data(self) -> Data {
        match self {
            EnvName::Household => Data::None,
            EnvName::Alfworld => Data::Needed("a download tree, a pack, or a game.tw-pddl file"),
            EnvName::Sql => Data::Needed("a folder with ic_spider_dev.json and sqlite_sql/"),
        }
    }

    /// The word for it in a configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            EnvName::Household => "household",
            EnvName::Alfworld => "alfworld",
            EnvName::Sql => "sql",
        }
    }
}

impl Default for EnvConfig {
    fn default() -> Self {
        EnvConfig {
            name: EnvName::Household,
            data: None,
            household: HouseholdConfig::default(),
            alfworld: AlfworldOptions::default(),
            sql: SqlConfig::default(),
        }
    }
}

impl EnvConfig {
    /// Refuses values out of range, naming the key.
    ///
    /// # Errors
    /// One line.
    pub fn validate(&self) -> Result<()> {
        if let (Data::Needed(what), None) = (self.name.data(), &self.data) {
            bail!("`env.data` is missing, expected {what}: --set env.data=PATH");
        }
        match self.name {
            EnvName::Household => self.household.validate().context("env.household"),
            EnvName::Alfworld => Ok(()),
            EnvName::Sql => self.sql.validate().context("env.sql"),
        }
    }
}
