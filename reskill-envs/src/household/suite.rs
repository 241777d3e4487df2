//! The generated games as a suite of tasks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::config::HouseholdConfig;
use super::generate::{Generated, generate};
use super::words;
use crate::action::ActionVocabulary;
use crate::alfworld::{Game, GameCache, GameEnv, GameFile, RulesCache, put_task};
use crate::error::EnvError;
use crate::suite::{Split, Suite, Task, TaskId, TextEnv};

/// Compiled games that are kept although nobody plays them, at some 30 KB each.
const CACHED_GAMES: usize = 2048;

/// The file name that ALFWorld's tools look for.
const FILE_NAME: &str = "game.tw-pddl";

/// A generated benchmark of household tasks.
#[derive(Debug)]
pub struct Household {
    config: HouseholdConfig,
    domain: String,
    grammar: String,
    tasks: HashMap<Split, Vec<Arc<Task>>>,
    games: HashMap<TaskId, Generated>,
    rules: RulesCache,
    cache: GameCache,
    vocabulary: ActionVocabulary,
}

impl Household {
    /// Generates all games. They are compiled when they are opened.
    ///
    /// # Errors
    /// [`EnvError::Config`] if the configuration is out of range.
    pub fn generate(config: &HouseholdConfig) -> Result<Household, EnvError> {
        config.validate()?;
        let rules = RulesCache::default();
        let (domain, grammar) = (words::domain(config.appliances), words::grammar(config));
        let vocabulary = rules.action_vocabulary(&domain, &grammar)?;
        let mut tasks: HashMap<Split, Vec<Arc<Task>>> = HashMap::new();
        let mut games = HashMap::new();
        for game in generate(config) {
            let family = game.goal.family.to_string();
            let task = Task { id: game.id.clone(), split: game.split, family, goal: game.goal.words() };
            tasks.entry(game.split).or_default().push(Arc::new(task));
            games.insert(game.id.clone(), game);
        }
        let cache = GameCache::new(CACHED_GAMES);
        Ok(Household { config: config.clone(), domain, grammar, tasks, games, rules, cache, vocabulary })
    }

    /// The configuration that the games were generated with.
    #[must_use]
    pub fn config(&self) -> &HouseholdConfig {
        &self.config
    }

    /// The compiled game of a task.
    ///
    /// # Errors
    /// [`EnvError::UnknownTask`].
    pub fn game(&self, id: &TaskId) -> Result<Arc<Game>, EnvError> {
        self.cache.get(id, || {
            let file = self.unsolved_file(id)?;
            let game = Game::compile(&file, &self.rules)?;
            game.with_expert_walkthrough(id)
        })
    }

    /// The game of a task as a file, its walkthrough being the expert's plan.
    ///
    /// # Errors
    /// [`EnvError::UnknownTask`].
    pub fn game_file(&self, id: &TaskId) -> Result<GameFile, EnvError> {
        let walkthrough = self.game(id)?.walkthrough().to_vec();
        Ok(GameFile { walkthrough, ..self.unsolved_file(id)? })
    }

    /// Writes every game to `dir/<split>/<task>/<trial>/game.tw-pddl`, where
    /// [`Alfworld::open_path`](crate::alfworld::Alfworld::open_path) reads them.
    ///
    /// # Errors
    /// [`EnvError::Write`].
    pub fn export(&self, dir: &Path) -> Result<(), EnvError> {
        for id in self.games.keys() {
            let folder = dir.join(&id.0);
            let path = folder.join(FILE_NAME);
            let failed = |source| EnvError::Write { path: path.clone(), source };
            std::fs::create_dir_all(&folder).map_err(failed)?;
            let json = serde_json::to_vec(&self.game_file(id)?).map_err(|error| failed(error.into()))?;
            std::fs::write(&path, json).map_err(failed)?;
        }
        Ok(())
    }

    fn unsolved_file(&self, id: &TaskId) -> Result<GameFile, EnvError> {
        let game = self.games.get(id).ok_or_else(|| EnvError::UnknownTask { id: id.to_string() })?;
        let line = serde_json::Value::from(format!("task: {}", game.goal.words())).to_string();
        Ok(GameFile {
            pddl_domain: self.domain.clone(),
            grammar: put_task(&self.grammar, &line).unwrap_or_else(|| self.grammar.clone()),
            pddl_problem: game.problem.clone(),
            solvable: true,
            walkthrough: Vec::new(),
        })
    }
}

impl Suite for Household {
    fn name(&self) -> &str {
        "household"
    }

    fn tasks(&self, split: Split) -> &[Arc<Task>] {
        self.tasks.get(&split).map_or(&[], Vec::as_slice)
    }

    fn open(&self, id: &TaskId) -> Result<Box<dyn TextEnv>, EnvError> {
        Ok(Box::new(GameEnv::new(self.game(id)?, id.clone())))
    }

    fn vocabulary(&self) -> &ActionVocabulary {
        &self.vocabulary
    }
}
