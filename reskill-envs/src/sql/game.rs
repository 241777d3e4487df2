//! A task with all that its episodes share.

use std::sync::{Arc, OnceLock};

use super::candidates;
use super::config::SqlConfig;
use super::database::Database;
use super::reward::reward;
use super::show;
use super::tasks::SqlTask;
use crate::error::EnvError;

/// A question, its database, and what was worked out about it.
#[derive(Debug)]
pub(crate) struct SqlGame {
    pub(crate) id: String,
    pub(crate) task: SqlTask,
    pub(crate) database: Arc<Database>,
    gold_rows: OnceLock<Vec<String>>,
    candidates: OnceLock<Vec<String>>,
    /// Which candidate has the gold rows, if one does.
    solution: OnceLock<Option<String>>,
}

impl SqlGame {
    pub(super) fn new(id: String, task: SqlTask, database: Arc<Database>) -> SqlGame {
        let (gold_rows, candidates, solution) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        SqlGame { id, task, database, gold_rows, candidates, solution }
    }

    /// The rows of the gold query.
    ///
    /// # Errors
    /// [`EnvError::Gold`] if it cannot be run.
    pub(super) fn gold_rows(&self, config: &SqlConfig) -> Result<&[String], EnvError> {
        if let Some(rows) = self.gold_rows.get() {
            return Ok(rows);
        }
        let rows = self
            .database
            .query(self.gold(), config)
            .map_err(|error| EnvError::Gold { id: self.id.clone(), reason: error.to_string() })?;
        Ok(self.gold_rows.get_or_init(|| rows))
    }

    fn gold(&self) -> &str {
        self.task.gold.split(';').next().unwrap_or_default().trim()
    }

    /// The commands that are listed for policies that choose from a list.
    pub(super) fn candidates(&self, config: &SqlConfig) -> &[String] {
        self.candidates
            .get_or_init(|| candidates::commands(&self.task.question, &self.database, config.max_candidates))
    }

    /// The command whose rows are the answer: the gold query, or the first candidate as good as it where commands are
    /// listed.
    ///
    /// # Errors
    /// [`EnvError::NoPlan`] if no candidate is.
    pub(super) fn expert_query(&self, config: &SqlConfig) -> Result<String, EnvError> {
        if !config.candidates {
            return Ok(format!("execute[{}]", self.gold()));
        }
        let gold = self.gold_rows(config)?;
        let commands = self.candidates(config);
        let solution = self.solution.get_or_init(|| {
            let is_answer = |command: &&String| {
                let sql = command.strip_prefix("execute[").and_then(|rest| rest.strip_suffix(']'));
                let Some(sql) = sql.filter(|sql| show::answer(&self.database, sql).is_none()) else {
                    return false;
                };
                self.database.query(sql, config).is_ok_and(|rows| reward(&rows, gold) >= 1.0)
            };
            commands.iter().find(is_answer).cloned()
        });
        solution.clone().ok_or_else(|| EnvError::NoPlan { id: self.id.clone(), states: commands.len() })
    }

    /// Tables and columns, as an agent is told of them.
    pub(super) fn schema(&self) -> String {
        let mut text = String::from("\nTables with their columns:");
        for table in &self.database.tables {
            let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
            text.push_str(&format!("\n{}: {}", table.name, columns.join(", ")));
        }
        text
    }
}
