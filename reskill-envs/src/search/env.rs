//! One running episode: a question, searches, an answer.

use std::sync::Arc;

use super::action::SearchAction;
use super::candidates::candidates;
use super::config::SearchConfig;
use super::expert;
use super::information::information;
use super::questions::Question;
use super::retriever::{Passage, Retriever};
use super::scores::{AnswerScores, score_answer};
use crate::error::EnvError;
use crate::suite::{Observation, Step, TaskId, TextEnv};

/// What an action that cannot be read is answered with.
const UNREADABLE: &str = "Nothing was done: an action is either a search for something or an answer.";

/// What all episodes of a suite share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) retriever: Arc<dyn Retriever>,
    pub(super) config: SearchConfig,
}

/// How far an episode is.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// Queries so far.
    pub(super) queries: Vec<String>,
    /// What they brought, in the same order.
    pub(super) retrieved: Vec<Vec<Passage>>,
    /// The last answer.
    pub(super) answer: Option<String>,
    n_steps: usize,
    /// What the agent sees.
    text: String,
}

/// A running episode. Copies share the question and the retriever.
#[derive(Debug, Clone)]
pub struct SearchEnv {
    pub(super) id: TaskId,
    pub(super) question: Arc<Question>,
    pub(super) shared: Arc<Shared>,
    pub(super) state: State,
}

impl SearchEnv {
    pub(super) fn new(id: TaskId, question: Arc<Question>, shared: Arc<Shared>) -> SearchEnv {
        let mut env = SearchEnv { id, question, shared, state: State::default() };
        env.restart();
        env
    }

    /// Exact match and F1 of the last answer; both 0 without one.
    #[must_use]
    pub fn scores(&self) -> AnswerScores {
        self.state
            .answer
            .as_ref()
            .map_or(AnswerScores::default(), |answer| score_answer(answer, &self.question.answers))
    }

    /// The commands that are listed: none, unless the configuration asks for candidates.
    pub(super) fn admissible(&self) -> Vec<String> {
        if !self.shared.config.candidates {
            return Vec::new();
        }
        candidates(&self.question, &self.state, self.shared.config.max_candidates)
    }

    fn restart(&mut self) {
        let text = format!("Question: {}", self.question.text);
        self.state = State { text, ..State::default() };
    }

    fn observation(&self) -> Observation {
        Observation::new(self.state.text.clone(), self.admissible())
    }

    /// Plays one action; its observation is left in the state.
    pub(super) fn play(&mut self, action: &str) -> Result<(), EnvError> {
        match SearchAction::parse(action) {
            None => self.state.text = UNREADABLE.to_owned(),
            Some(SearchAction::Search(query)) => {
                let config = &self.shared.config;
                let mut lists = self.shared.retriever.retrieve(&[&query], config.top_k)?;
                let passages = lists.pop().unwrap_or_default();
                self.state.text = information(&passages, config.information);
                self.state.queries.push(query);
                self.state.retrieved.push(passages);
            }
            Some(SearchAction::Answer(answer)) => {
                self.state.text = format!("Answered: {answer}");
                self.state.answer = Some(answer);
            }
        }
        self.state.n_steps += 1;
        Ok(())
    }
}

impl TextEnv for SearchEnv {
    fn reset(&mut self) -> Result<Observation, EnvError> {
        self.restart();
        Ok(self.observation())
    }

    /// Searches, or takes an answer, which ends the episode; another answer replaces it. The score is 1 for an exact match
    /// and 0 otherwise.
    fn step(&mut self, action: &str) -> Result<Step, EnvError> {
        self.play(action)?;
        let won = self.scores().exact_match;
        let done = self.state.answer.is_some() || self.state.n_steps >= self.shared.config.max_steps;
        let score = if won { 1.0 } else { 0.0 };
        Ok(Step { observation: self.observation(), score, done, won })
    }

    /// Searches that bring up the evidence, then a gold answer.
    fn expert(&mut self) -> Result<Vec<String>, EnvError> {
        expert::plan(self)
    }

    fn boxed_clone(&self) -> Result<Box<dyn TextEnv>, EnvError> {
        Ok(Box::new(self.clone()))
    }
}
