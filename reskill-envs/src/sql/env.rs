//! One running episode: a question, a database, ten turns.

use std::sync::Arc;

use super::action::{SqlAction, read};
use super::config::SqlConfig;
use super::game::SqlGame;
use super::python;
use super::reward::reward;
use super::show;
use crate::error::EnvError;
use crate::suite::{Observation, Step, TextEnv};

/// What begins the observation of a query that failed.
pub const ERROR: &str = "Error executing query: ";

/// A running episode.
#[derive(Debug, Clone)]
pub struct SqlEnv {
    game: Arc<SqlGame>,
    config: Arc<SqlConfig>,
    /// Rows of the last query, each as Python prints it; `None` if it failed, or if there was none.
    rows: Option<Vec<String>>,
    /// Actions so far.
    n_turns: usize,
    /// The reward, once the episode is over.
    reward: Option<f64>,
}

impl SqlEnv {
    pub(super) fn new(game: Arc<SqlGame>, config: Arc<SqlConfig>) -> SqlEnv {
        SqlEnv { game, config, rows: None, n_turns: 0, reward: None }
    }

    /// Runs SQL and returns what the agent reads.
    fn execute(&mut self, sql: &str) -> String {
        let database = &self.game.database;
        let result = if sql.is_empty() {
            Err("there is no SQL in the action".to_owned())
        } else if let Some(shown) = show::answer(database, sql) {
            shown
        } else {
            database.query(sql, &self.config).map_err(|error| error.to_string())
        };
        match result {
            Ok(rows) => {
                let text = self.shown(&rows);
                self.rows = Some(rows);
                text
            }
            Err(reason) => {
                self.rows = None;
                self.cut(format!("{ERROR}{reason}"))
            }
        }
    }

    /// The list of rows, cut to what the configuration shows. The rest is told by its number.
    fn shown(&self, rows: &[String]) -> String {
        let limit = self.config.shown_rows;
        if limit == 0 || rows.len() <= limit {
            return self.cut(python::list(rows));
        }
        let more = format!(" and {} more rows", rows.len() - limit);
        self.cut(python::list(&rows[..limit])) + &more
    }

    fn cut(&self, text: String) -> String {
        let limit = self.config.shown_chars;
        match text.char_indices().nth(limit) {
            Some((end, _)) if limit > 0 => format!("{}...", &text[..end]),
            _ => text,
        }
    }

    /// Ends the episode with the reward of what was seen last.
    fn submit(&mut self) -> Result<(), EnvError> {
        let gold = self.game.gold_rows(&self.config)?;
        self.reward = Some(self.rows.as_ref().map_or(0.0, |rows| reward(rows, gold)));
        Ok(())
    }

    fn observation(&self, text: String) -> Result<Observation, EnvError> {
        let is_listed = self.config.candidates && self.reward.is_none();
        let admissible = if is_listed { self.game.candidates(&self.config).to_vec() } else { Vec::new() };
        Ok(Observation::new(text, admissible))
    }

    fn outcome(&self, text: String) -> Result<Step, EnvError> {
        let reward = self.reward.unwrap_or(0.0);
        Ok(Step {
            observation: self.observation(text)?,
            score: reward as f32,
            done: self.reward.is_some(),
            won: reward >= 1.0,
        })
    }
}

impl TextEnv for SqlEnv {
    fn reset(&mut self) -> Result<Observation, EnvError> {
        (self.rows, self.n_turns, self.reward) = (None, 0, None);
        let mut text = self.game.task.question.clone();
        if self.config.show_schema {
            text.push_str(&self.game.schema());
        }
        self.observation(text)
    }

    fn step(&mut self, action: &str) -> Result<Step, EnvError> {
        if self.reward.is_some() {
            return self.outcome("The task is over.".to_owned());
        }
        self.n_turns += 1;
        let text = match read(action) {
            SqlAction::Execute(sql) => self.execute(&sql),
            SqlAction::Submit => {
                self.submit()?;
                // Upstream shows the last observation once more.
                match &self.rows {
                    Some(rows) => self.shown(rows),
                    None => "Nothing was submitted.".to_owned(),
                }
            }
            SqlAction::Skip => {
                self.reward = Some(0.0);
                "skipped".to_owned()
            }
            SqlAction::Unreadable => {
                format!("{ERROR}there is no SQL in the action; write execute[SQL], submit or skip")
            }
        };
        if self.reward.is_none() && self.n_turns == self.config.max_turns {
            self.submit()?;
        }
        self.outcome(text)
    }

    fn expert(&mut self) -> Result<Vec<String>, EnvError> {
        if self.reward.is_some() {
            return Err(EnvError::NoPlan { id: self.game.id.clone(), states: 0 });
        }
        let gold = self.game.gold_rows(&self.config)?;
        let query = self.game.expert_query(&self.config)?;
        let is_answered = self.rows.as_ref().is_some_and(|rows| reward(rows, gold) >= 1.0);
        let submit = "submit".to_owned();
        Ok(if is_answered { vec![submit] } else { vec![query, submit] })
    }

    fn boxed_clone(&self) -> Result<Box<dyn TextEnv>, EnvError> {
        Ok(Box::new(self.clone()))
    }
}
