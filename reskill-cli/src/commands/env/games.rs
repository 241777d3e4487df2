//! Which environment, and which of its games.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use reskill_envs::scienceworld::ScienceWorldOptions;
use reskill_envs::search::{HttpConfig, RetrieverKind, SearchConfig};
use reskill_envs::{Split, Suite, Task};

use crate::env_config::{EnvConfig, EnvName};
use crate::suites::{open_suite, words};

/// An environment.
#[derive(Debug, Clone, Args)]
pub(super) struct Source {
    /// Which environment
    #[arg(long, value_enum, required_unless_present = "env_cmd")]
    env: Option<EnvName>,
    /// ALFWorld: a download tree, a pack (games_all.jsonl.zst or its folder), or one game.tw-pddl. ScienceWorld:
    /// scienceworld.jar or its folder. SQL: a folder with ic_spider_dev.json and sqlite_sql/. WANDS: a folder with
    /// product.csv, query.csv and label.csv; without it a catalogue is generated. Search: a folder of question files with its
    /// corpus.*, or one of those files
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// External: the command that plays
    #[arg(long, value_name = "COMMAND")]
    env_cmd: Option<String>,
    /// ScienceWorld: what is made easier, comma-separated; default easy
    #[arg(long, value_name = "LIST")]
    simplification: Option<String>,
    /// ScienceWorld: lists the valid actions
    #[arg(long)]
    valid_actions: bool,
    #[command(flatten)]
    search: SearchSource,
}

/// Where the passages of the search environment come from.
#[derive(Debug, Clone, Default, Args)]
struct SearchSource {
    /// Search: an index made by `index build`; without it one is built from corpus.* and kept in the cache
    #[arg(long, value_name = "DIR")]
    index: Option<PathBuf>,
    /// Search: a retrieval server, e.g. http://127.0.0.1:8000/retrieve; may be given several times
    #[arg(long = "retriever", value_name = "URL", conflicts_with = "index")]
    urls: Vec<String>,
    /// Search: lists queries and answers to choose from
    #[arg(long)]
    candidates: bool,
}

impl SearchSource {
    /// Every question there is, whether the corpus answers it or not.
    fn config(&self) -> SearchConfig {
        let urls = self.urls.clone();
        SearchConfig {
            retriever: if urls.is_empty() { RetrieverKind::Bm25 } else { RetrieverKind::Http },
            index: self.index.clone(),
            http: HttpConfig { urls, ..HttpConfig::default() },
            candidates: self.candidates,
            answerable_only: false,
            ..SearchConfig::default()
        }
    }
}

impl Source {
    /// The configuration that takes every split.
    pub(super) fn config(&self) -> Result<EnvConfig> {
        let mut config = EnvConfig { data: self.data.clone(), ..EnvConfig::default() };
        config.alfworld.splits = Split::ALL.to_vec();
        config.scienceworld = ScienceWorldOptions {
            valid_actions: self.valid_actions,
            simplification: self.simplification.clone().unwrap_or_else(|| "easy".into()),
            objects: false,
            // One episode, as the original package plays it.
            environments_per_jvm: 1,
            reproducible: false,
            ..ScienceWorldOptions::all_tasks()
        };
        config.name = self.env.unwrap_or(EnvName::External);
        config.search = self.search.config();
        let is_scienceworld = config.name == EnvName::Scienceworld;
        if !is_scienceworld && (self.valid_actions || self.simplification.is_some()) {
            bail!("--valid-actions and --simplification are for --env scienceworld");
        }
        let is_search = config.name == EnvName::Search;
        if !is_search && (config.search != SearchSource::default().config()) {
            bail!("--index, --retriever and --candidates are for --env search");
        }
        config.name.check_data("--data", self.data.is_some())?;
        match (&self.env_cmd, config.name) {
            (Some(command), EnvName::External) => config.external.command = words(command)?,
            (None, EnvName::External) => bail!("--env-cmd is missing: give the command that plays"),
            (Some(_), _) => bail!("--env-cmd is for --env external"),
            (None, _) => {}
        }
        Ok(config)
    }

    /// All games.
    pub(super) fn open(&self) -> Result<Box<dyn Suite>> {
        open_suite(&self.config()?)
    }
}

/// All tasks of a suite, split by split.
pub(super) fn all_tasks(suite: &dyn Suite) -> impl Iterator<Item = &Arc<Task>> {
    Split::ALL.into_iter().flat_map(|split| suite.tasks(split))
}

/// The game that was asked for; without a name, the only one there is, or the first one of a generated environment.
pub(super) fn find<'a>(suite: &'a dyn Suite, game: Option<&str>) -> Result<&'a Arc<Task>> {
    let tasks: Vec<&Arc<Task>> = all_tasks(suite).collect();
    let Some(wanted) = game else {
        return match tasks.as_slice() {
            [only] => Ok(only),
            [first, ..] if suite.name() == "household" => Ok(first),
            _ => bail!(
                "--game is missing: there are {} games, `reskill-cli env list` prints their names",
                tasks.len()
            ),
        };
    };
    if let Some(task) = tasks.iter().find(|task| task.id.0 == wanted) {
        return Ok(task);
    }
    // The last part is enough where it names one game only.
    let ends = |task: &&&Arc<Task>| task.id.0.rsplit('/').next() == Some(wanted);
    if let [task] = tasks.iter().filter(ends).collect::<Vec<_>>()[..] {
        return Ok(task);
    }
    let nearest = nearest(wanted, &tasks);
    bail!("--game {wanted}: no such game among {}; the nearest: {}", tasks.len(), nearest.join(", "))
}

/// The three names most like the one that was asked for.
fn nearest<'a>(wanted: &str, tasks: &[&'a Arc<Task>]) -> Vec<&'a str> {
    let distance = |id: &str| {
        // A part of the name is as good as the whole.
        let part = id.contains(wanted) || id.split('/').any(|part| part == wanted);
        (!part, strsim::damerau_levenshtein(wanted, id))
    };
    let mut ranked: Vec<_> = tasks.iter().map(|task| (distance(&task.id.0), task.id.0.as_str())).collect();
    ranked.sort_unstable();
    ranked.into_iter().take(3).map(|(_, id)| id).collect()
}
