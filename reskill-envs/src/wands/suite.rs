//! Product choices as a suite of tasks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::catalogue::Catalogue;
use super::config::WandsConfig;
use super::env::{Attribute, WandsEnv};
use super::manner::manner;
use super::tasks::{self, WandsTask};
use crate::action::{ActionTemplate, ActionVocabulary};
use crate::error::EnvError;
use crate::prompt::Manner;
use crate::suite::{Split, Suite, Task, TaskId, TextEnv};

/// Product choices over a catalogue.
#[derive(Debug)]
pub struct Wands {
    catalogue: Arc<Catalogue>,
    config: Arc<WandsConfig>,
    tasks: HashMap<Split, Vec<Arc<Task>>>,
    games: HashMap<TaskId, Arc<WandsTask>>,
    vocabulary: ActionVocabulary,
}

impl Wands {
    /// Tasks over the public files in a folder, see [`Catalogue::open`].
    ///
    /// # Errors
    /// [`EnvError::Read`], [`EnvError::Game`], [`EnvError::Config`]; [`EnvError::NoGames`] if the labels give no task.
    pub fn open_path(folder: &Path, config: &WandsConfig) -> Result<Wands, EnvError> {
        Wands::over(Catalogue::open(folder)?, config)?.not_empty(folder)
    }

    /// Tasks over a generated catalogue.
    ///
    /// # Errors
    /// [`EnvError::Config`].
    pub fn generate(config: &WandsConfig) -> Result<Wands, EnvError> {
        Wands::over(Catalogue::generate(&config.catalogue)?, config)
    }

    /// Tasks over a catalogue: every query with labels that differ, in the order of the ids.
    ///
    /// # Errors
    /// [`EnvError::Config`].
    pub fn over(catalogue: Catalogue, config: &WandsConfig) -> Result<Wands, EnvError> {
        config.validate()?;
        let mut suite = Wands {
            catalogue: Arc::new(catalogue),
            config: Arc::new(config.clone()),
            tasks: HashMap::new(),
            games: HashMap::new(),
            vocabulary: vocabulary(),
        };
        let catalogue = Arc::clone(&suite.catalogue);
        for (query, split) in tasks::splits(&catalogue, config) {
            for game in tasks::of_query(&catalogue, query, config) {
                let id = TaskId(game.id.clone());
                let (family, goal) =
                    (game.options.family().to_owned(), catalogue.queries[&query].text.clone());
                let goal = format!("choose the product that fits best: {goal}");
                let task = Task { id: id.clone(), split, family, goal };
                suite.tasks.entry(split).or_default().push(Arc::new(task));
                suite.games.insert(id, Arc::new(game));
            }
        }
        Ok(suite)
    }

    fn not_empty(self, folder: &Path) -> Result<Wands, EnvError> {
        if self.games.is_empty() {
            let expected = "queries with products of different labels";
            return Err(EnvError::NoGames { path: folder.to_owned(), expected });
        }
        Ok(self)
    }

    /// What the tasks are made of.
    #[must_use]
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The query of a task, its products in the order of the options, and the right option (from 0; the number of products
    /// stands for `neither`).
    #[must_use]
    pub fn gold(&self, id: &TaskId) -> Option<(u64, &[u64], usize)> {
        self.games.get(id).map(|game| (game.query, game.products.as_slice(), game.gold))
    }
}

fn vocabulary() -> ActionVocabulary {
    let look_up = |attribute: Attribute| ActionTemplate {
        name: format!("LookUp{attribute:?}"),
        template: format!("look up {} of {{option}}", attribute.as_str()),
    };
    let mut templates = Attribute::ALL.map(look_up).to_vec();
    templates.push(ActionTemplate { name: "Choose".to_owned(), template: "choose {option}".to_owned() });
    ActionVocabulary { templates }
}

impl Suite for Wands {
    fn name(&self) -> &str {
        "wands"
    }

    fn tasks(&self, split: Split) -> &[Arc<Task>] {
        self.tasks.get(&split).map_or(&[], Vec::as_slice)
    }

    fn open(&self, id: &TaskId) -> Result<Box<dyn TextEnv>, EnvError> {
        let game = self.games.get(id).ok_or_else(|| EnvError::UnknownTask { id: id.to_string() })?;
        let (catalogue, config) = (Arc::clone(&self.catalogue), Arc::clone(&self.config));
        Ok(Box::new(WandsEnv::new(catalogue, config, Arc::clone(game))))
    }

    fn vocabulary(&self) -> &ActionVocabulary {
        &self.vocabulary
    }

    fn manner(&self) -> Manner {
        manner()
    }
}
