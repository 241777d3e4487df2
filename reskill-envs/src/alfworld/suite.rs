//! ALFWorld as a suite of tasks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::cache::GameCache;
use super::env::GameEnv;
use super::game::Game;
use super::game_file::{GameFile, goal_of, in_file};
use super::rules::RulesCache;
use super::source::{AlfworldOptions, Content, Source, family_of};
use crate::action::ActionVocabulary;
use crate::error::EnvError;
use crate::suite::{Split, Suite, Task, TaskId, TextEnv};

/// Compiled games that are kept although nobody plays them, at some 0.3 MB each.
const CACHED_GAMES: usize = 256;

/// ALFWorld's games, read from disk.
#[derive(Debug)]
pub struct Alfworld {
    source: Source,
    tasks: HashMap<Split, Vec<Arc<Task>>>,
    contents: HashMap<TaskId, Content>,
    rules: RulesCache,
    games: GameCache,
    vocabulary: ActionVocabulary,
}

impl Alfworld {
    /// Lists the games under a path: a tree `json_2.1.1` or the folder above it, one `game.tw-pddl`, a pack
    /// `games_all.jsonl.zst` with `logic/` beside it, or the folder of a pack. Games that are not solvable are left
    /// out. Games are compiled when they are opened.
    ///
    /// # Errors
    /// [`EnvError::NoGames`], [`EnvError::Read`], [`EnvError::Game`].
    pub fn open_path(path: &Path, options: &AlfworldOptions) -> Result<Alfworld, EnvError> {
        let (source, listed) = Source::open(path, options)?;
        let mut suite = Alfworld {
            source,
            tasks: HashMap::new(),
            contents: HashMap::with_capacity(listed.len()),
            rules: RulesCache::default(),
            games: GameCache::new(CACHED_GAMES),
            vocabulary: ActionVocabulary::default(),
        };
        let first = listed.first().map(|game| game.id.clone());
        for game in listed {
            let goal = goal_of(&game.task_line).to_owned();
            let family = family_of(&game.id).to_owned();
            let task = Task { id: game.id.clone(), split: game.split, family, goal };
            suite.tasks.entry(game.split).or_default().push(Arc::new(task));
            suite.contents.insert(game.id, game.content);
        }
        if let Some(first) = first {
            suite.vocabulary = suite.game(&first)?.vocabulary().clone();
        }
        Ok(suite)
    }

    /// The compiled game of a task.
    ///
    /// # Errors
    /// [`EnvError::UnknownTask`], [`EnvError::Read`], [`EnvError::Game`].
    pub fn game(&self, id: &TaskId) -> Result<Arc<Game>, EnvError> {
        self.games.get(id, || {
            let (file, path) = self.read(id)?;
            Game::compile(&file, &self.rules).map_err(|error| in_file(error, &path))
        })
    }

    /// The file of a task.
    ///
    /// # Errors
    /// [`EnvError::UnknownTask`], [`EnvError::Read`], [`EnvError::Game`].
    pub fn game_file(&self, id: &TaskId) -> Result<GameFile, EnvError> {
        self.read(id).map(|(file, _)| file)
    }

    /// The commands that the file of a task gives as its solution.
    ///
    /// # Errors
    /// Those of [`Alfworld::game`].
    pub fn walkthrough(&self, id: &TaskId) -> Result<Vec<String>, EnvError> {
        Ok(self.game(id)?.walkthrough().to_vec())
    }

    fn read(&self, id: &TaskId) -> Result<(GameFile, std::path::PathBuf), EnvError> {
        let content = self.contents.get(id).ok_or_else(|| EnvError::UnknownTask { id: id.to_string() })?;
        self.source.read(content)
    }
}

impl Suite for Alfworld {
    fn name(&self) -> &str {
        "alfworld"
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
