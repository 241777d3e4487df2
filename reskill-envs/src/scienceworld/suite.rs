//! ScienceWorld as a suite of tasks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::ScienceWorldOptions;
use super::env::ScienceWorldEnv;
use super::expert::GoldPaths;
use super::pool::Pool;
use super::tasks;
use crate::action::{ActionTemplate, ActionVocabulary};
use crate::error::EnvError;
use crate::prompt::Manner;
use crate::suite::{Split, Suite, Task, TaskId, TextEnv};

/// The simulator's file.
const JAR: &str = "scienceworld.jar";

/// The simulator's commands (`getPossibleActions` of version 1.2.3), with slots. `reset task` is left out: it would undo
/// the episode.
const COMMANDS: [&str; 27] = [
    "activate {o}",
    "close {o}",
    "connect {o} to {o}",
    "deactivate {o}",
    "disconnect {o}",
    "dunk {o} in {o}",
    "eat {o}",
    "examine {o}",
    "flush {o}",
    "focus on {o}",
    "go to {o}",
    "inventory",
    "look around",
    "look at {o}",
    "look in {o}",
    "mix {o}",
    "move {o} to {o}",
    "open {o}",
    "pick up {o}",
    "pour {o} in {o}",
    "put down {o}",
    "read {o}",
    "task",
    "teleport to {o}",
    "use {o} on {o}",
    "wait",
    "wait1",
];

/// ScienceWorld's tasks, played by its simulator.
#[derive(Debug)]
pub struct ScienceWorld {
    options: Arc<ScienceWorldOptions>,
    pool: Arc<Pool>,
    tasks: HashMap<Split, Vec<Arc<Task>>>,
    by_id: HashMap<TaskId, Arc<Task>>,
    gold_paths: Arc<GoldPaths>,
    vocabulary: Arc<ActionVocabulary>,
}

impl ScienceWorld {
    /// The tasks of a simulator: `path` is `scienceworld.jar` or the folder that holds it. No program is started before
    /// the first task is opened.
    ///
    /// # Errors
    /// [`EnvError::NoGames`] if there is no such file, [`EnvError::Config`].
    pub fn open_path(path: &Path, options: &ScienceWorldOptions) -> Result<ScienceWorld, EnvError> {
        options.validate()?;
        let jar = jar_of(path)?;
        let tasks = tasks::listed(options)?;
        let by_id = tasks.values().flatten().map(|task| (task.id.clone(), Arc::clone(task))).collect();
        Ok(ScienceWorld {
            options: Arc::new(options.clone()),
            pool: Arc::new(Pool::new(jar, options.clone())),
            tasks,
            by_id,
            gold_paths: Arc::default(),
            vocabulary: Arc::new(vocabulary()),
        })
    }

    /// Process ids of the Java machines that run now.
    #[must_use]
    pub fn process_ids(&self) -> Vec<u32> {
        self.pool.process_ids()
    }
}

impl Suite for ScienceWorld {
    fn name(&self) -> &str {
        "scienceworld"
    }

    fn tasks(&self, split: Split) -> &[Arc<Task>] {
        self.tasks.get(&split).map_or(&[], Vec::as_slice)
    }

    fn open(&self, id: &TaskId) -> Result<Box<dyn TextEnv>, EnvError> {
        let task = self.by_id.get(id).ok_or_else(|| EnvError::UnknownTask { id: id.to_string() })?;
        Ok(Box::new(ScienceWorldEnv::new(
            Arc::clone(task),
            Arc::clone(&self.pool),
            Arc::clone(&self.options),
            Arc::clone(&self.gold_paths),
            Arc::clone(&self.vocabulary),
        )))
    }

    fn vocabulary(&self) -> &ActionVocabulary {
        &self.vocabulary
    }

    fn manner(&self) -> Manner {
        Manner {
            system: "You work in a small house with a laboratory and carry out a science task step by step. Each turn you \
                     read what happened and answer with one short sentence and your action, as in \
                     <action>look around</action>. Fill the places marked {o} of an action with names of things as you \
                     read them."
                .into(),
            request: "Answer with one short sentence and then <action>your action</action>.".into(),
            paper_introduction: "You carry out a science task in a simulated house, one action at a time.".into(),
            paper_request: "Think about what the task needs next, then give one action, with the names of things in \
                            place of {o}, between <action> and </action> ."
                .into(),
            ..Manner::default()
        }
    }

    fn max_running(&self) -> usize {
        self.options.max_running()
    }

    fn full_score(&self) -> f32 {
        100.0
    }
}

/// The simulator's commands as templates.
pub(super) fn vocabulary() -> ActionVocabulary {
    let template = |template: &&str| {
        let name = template.split(" {").next().unwrap_or_default().to_string();
        ActionTemplate { name, template: (*template).to_string() }
    };
    ActionVocabulary { templates: COMMANDS.iter().map(template).collect() }
}

fn jar_of(path: &Path) -> Result<PathBuf, EnvError> {
    let jar = if path.is_dir() { path.join(JAR) } else { path.to_path_buf() };
    match jar.is_file() {
        true => Ok(jar),
        false => Err(EnvError::NoGames {
            path: path.to_path_buf(),
            expected: "scienceworld.jar, or a folder that holds it: scripts/get-scienceworld DIR fetches it",
        }),
    }
}
