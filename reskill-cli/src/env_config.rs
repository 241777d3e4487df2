//! Which environment a run is about, and its own settings.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use reskill_envs::alfworld::AlfworldOptions;
use reskill_envs::external::ExternalOptions;
use reskill_envs::household::HouseholdConfig;
use reskill_envs::scienceworld::ScienceWorldOptions;
use reskill_envs::search::SearchConfig;
use reskill_envs::sql::SqlConfig;
use reskill_envs::wands::WandsConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which environment, and its own settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EnvConfig {
    /// The environment, e.g. `household`.
    pub name: EnvName,
    /// What the environment reads, see [`EnvName::data`].
    pub data: Option<PathBuf>,
    /// Household: what is generated.
    pub household: HouseholdConfig,
    /// ALFWorld: which games are read.
    pub alfworld: AlfworldOptions,
    /// ScienceWorld: which tasks, and how the simulator is run.
    pub scienceworld: ScienceWorldOptions,
    /// InterCode-SQL: splits, limits, help.
    pub sql: SqlConfig,
    /// WANDS: the kinds of tasks, splits, the generated catalogue.
    pub wands: WandsConfig,
    /// Search: which questions, which retriever.
    pub search: SearchConfig,
    /// External: the command that plays.
    pub external: ExternalOptions,
}

/// The environments that can be trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum EnvName {
    /// Generated household games; needs no data
    Household,
    /// ALFWorld games, from `--data`
    Alfworld,
    /// ScienceWorld tasks, by the simulator in `--data`
    Scienceworld,
    /// InterCode-SQL: questions over the databases in `--data`
    Sql,
    /// Questions in `--data`, answered with a search engine
    Search,
    /// Product choices, over the catalogue in `--data` or a generated one
    Wands,
    /// What the program of `--env-cmd` plays
    External,
}

/// What an environment reads from `env.data`, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnvData {
    /// Nothing, for this reason.
    Nothing(&'static str),
    /// This, or nothing.
    Optional(&'static str),
    /// This.
    Needed(&'static str),
}

impl EnvName {
    /// What the environment reads.
    #[must_use]
    pub fn data(self) -> EnvData {
        match self {
            EnvName::Household => EnvData::Nothing(
                "household games are generated; leave it out, or read exported ones with --env alfworld",
            ),
            EnvName::Alfworld => EnvData::Needed("a download tree, a pack, or a game.tw-pddl file"),
            EnvName::Scienceworld => {
                EnvData::Needed("scienceworld.jar or its folder; scripts/get-scienceworld fetches it")
            }
            EnvName::Sql => EnvData::Needed("a folder with ic_spider_dev.json and sqlite_sql/"),
            EnvName::Search => {
                EnvData::Needed("a folder of question files with its corpus.*, or one of those files")
            }
            EnvName::Wands => EnvData::Optional("a folder with product.csv, query.csv and label.csv"),
            EnvName::External => EnvData::Nothing("the program of --env-cmd has its own data"),
        }
    }

    /// Refuses data where none is read, and its lack where it is needed. `key` names where it would be given.
    ///
    /// # Errors
    /// One line.
    pub fn check_data(self, key: &str, is_given: bool) -> Result<()> {
        match (self.data(), is_given) {
            (EnvData::Nothing(reason), true) => bail!("{key}: {reason}"),
            (EnvData::Needed(what), false) => bail!("{key} is missing: give {what}"),
            _ => Ok(()),
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
            scienceworld: ScienceWorldOptions::default(),
            sql: SqlConfig::default(),
            wands: WandsConfig::default(),
            search: SearchConfig::default(),
            external: ExternalOptions::default(),
        }
    }
}

impl EnvConfig {
    /// Refuses values out of range, naming the key.
    ///
    /// # Errors
    /// One line.
    pub fn validate(&self) -> Result<()> {
        if matches!(self.name.data(), EnvData::Needed(_)) {
            self.name.check_data("`env.data` (--set env.data=PATH)", self.data.is_some())?;
        }
        match self.name {
            EnvName::Household => self.household.validate().context("env.household"),
            EnvName::Alfworld => Ok(()),
            EnvName::Scienceworld => self.scienceworld.validate().context("env.scienceworld"),
            EnvName::Sql => self.sql.validate().context("env.sql"),
            EnvName::Wands => self.wands.validate().context("env.wands"),
            EnvName::Search => self.search.validate().context("env.search"),
            EnvName::External => self.external.validate().context("env.external"),
        }
    }
}
