//! InterCode-SQL as a suite of tasks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::config::SqlConfig;
use super::database::Database;
use super::env::SqlEnv;
use super::game::SqlGame;
use super::manner::manner;
use super::tasks;
use crate::action::{ActionTemplate, ActionVocabulary};
use crate::error::EnvError;
use crate::prompt::Manner;
use crate::suite::{Split, Suite, Task, TaskId, TextEnv};

/// The questions of InterCode-SQL over their databases.
#[derive(Debug)]
pub struct SqlSuite {
    config: Arc<SqlConfig>,
    tasks: HashMap<Split, Vec<Arc<Task>>>,
    games: HashMap<TaskId, Arc<SqlGame>>,
    vocabulary: ActionVocabulary,
}

impl SqlSuite {
    /// Reads `ic_spider_dev.json` of a folder and builds the databases that it names, from `sqlite_sql/<db>.sql` or
    /// `database/<db>/<db>.sqlite`. A task's id is its row in the file, from 0.
    ///
    /// # Errors
    /// [`EnvError::Read`], [`EnvError::Game`], [`EnvError::NoGames`], [`EnvError::Config`].
    pub fn open_path(folder: &Path, config: &SqlConfig) -> Result<SqlSuite, EnvError> {
        config.validate()?;
        let read = tasks::read(folder)?;
        let splits = tasks::splits(&read, config)?;
        let mut databases: HashMap<String, Arc<Database>> = HashMap::new();
        let mut suite = SqlSuite {
            config: Arc::new(config.clone()),
            tasks: HashMap::new(),
            games: HashMap::with_capacity(read.len()),
            vocabulary: vocabulary(),
        };
        for ((row, task), split) in read.into_iter().zip(splits) {
            let database = match databases.get(&task.db) {
                Some(database) => Arc::clone(database),
                None => {
                    let database = Arc::new(Database::open(folder, &task.db)?);
                    databases.insert(task.db.clone(), Arc::clone(&database));
                    database
                }
            };
            let id = TaskId(row.to_string());
            let (family, goal) = (task.hardness.clone(), task.question.clone());
            suite.tasks.entry(split).or_default().push(Arc::new(Task {
                id: id.clone(),
                split,
                family,
                goal,
            }));
            suite.games.insert(id.clone(), Arc::new(SqlGame::new(id.0, task, database)));
        }
        Ok(suite)
    }

    /// The database and the gold query of a task.
    #[must_use]
    pub fn gold(&self, id: &TaskId) -> Option<(&str, &str)> {
        self.games.get(id).map(|game| (game.task.db.as_str(), game.task.gold.as_str()))
    }

    /// The rows of the gold query of a task, each as Python prints it; `None` if there is no such task.
    ///
    /// # Errors
    /// [`EnvError::Gold`] if the query fails.
    #[must_use]
    pub fn gold_rows(&self, id: &TaskId) -> Option<Result<&[String], EnvError>> {
        self.games.get(id).map(|game| game.gold_rows(&self.config))
    }
}

/// The kinds of query an agent begins with have templates of their own, so that skills can speak of them.
fn vocabulary() -> ActionVocabulary {
    let templates = [
        ("Execute", "execute[{sql}]"),
        ("ShowTables", "execute[SHOW TABLES]"),
        ("Describe", "execute[DESC {table}]"),
        ("Select", "execute[SELECT {query}]"),
        ("Submit", "submit"),
        ("Skip", "skip"),
    ];
    let template = |(name, template): (&str, &str)| ActionTemplate {
        name: name.to_owned(),
        template: template.to_owned(),
    };
    ActionVocabulary { templates: templates.map(template).to_vec() }
}

impl Suite for SqlSuite {
    fn name(&self) -> &str {
        "sql"
    }

    fn tasks(&self, split: Split) -> &[Arc<Task>] {
        self.tasks.get(&split).map_or(&[], Vec::as_slice)
    }

    fn open(&self, id: &TaskId) -> Result<Box<dyn TextEnv>, EnvError> {
        let game = self.games.get(id).ok_or_else(|| EnvError::UnknownTask { id: id.to_string() })?;
        // A gold query that fails is found here, not in the middle of an episode.
        game.gold_rows(&self.config)?;
        Ok(Box::new(SqlEnv::new(Arc::clone(game), Arc::clone(&self.config))))
    }

    fn vocabulary(&self) -> &ActionVocabulary {
        &self.vocabulary
    }

    fn manner(&self) -> Manner {
        manner()
    }
}
