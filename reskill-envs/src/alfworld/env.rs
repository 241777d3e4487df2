//! One running episode of a game.

use std::sync::Arc;

use super::facts::State;
use super::game::Game;
use crate::error::EnvError;
use crate::suite::{Observation, Step, TaskId, TextEnv};

/// What a command that is not admissible is answered with.
pub const NOTHING_HAPPENS: &str = "Nothing happens.";

/// A running episode. Cheap to clone: the game is shared.
#[derive(Debug, Clone)]
pub struct GameEnv {
    game: Arc<Game>,
    /// Named in errors.
    id: TaskId,
    state: State,
    /// Ranks of the admissible commands, sorted and distinct, each with an operator that does it.
    admissible: Vec<(u16, u16)>,
}

impl GameEnv {
    /// An episode at its start.
    #[must_use]
    pub fn new(game: Arc<Game>, id: TaskId) -> GameEnv {
        let state = game.initial().clone();
        let mut env = GameEnv { game, id, state, admissible: Vec::new() };
        env.refresh();
        env
    }

    /// The game that is played.
    #[must_use]
    pub fn game(&self) -> &Game {
        &self.game
    }

    /// Whether the goal holds now.
    #[must_use]
    pub fn won(&self) -> bool {
        self.game.is_goal(&self.state.holds)
    }

    /// The admissible commands now, in code-point order.
    pub fn admissible(&self) -> impl Iterator<Item = String> {
        self.admissible.iter().map(|&(rank, _)| self.game.commands.text(rank))
    }

    /// Plays a command and returns what the player reads; `None` if the command is not admissible.
    pub fn play(&mut self, command: &str) -> Option<String> {
        let found = self.admissible.binary_search_by(|&(rank, _)| self.game.commands.compare(rank, command));
        let (_, operator) = self.admissible[found.ok()?];
        let game = Arc::clone(&self.game);
        game.operators.apply(operator.into(), &mut self.state);
        self.refresh();
        let operator = game.operators.get(operator.into());
        Some(game.renderer(&self.state).feedback(operator.action(), operator.binding()))
    }

    fn refresh(&mut self) {
        self.admissible.clear();
        // Operators are numbered in 16 bits.
        self.game.operators.for_each_applicable(&self.state, |index, operator| {
            self.admissible.push((operator.command(), index as u16));
        });
        self.admissible.sort_unstable();
        self.admissible.dedup_by_key(|(rank, _)| *rank);
    }

    fn observation(&self, text: String) -> Observation {
        Observation::new(text, self.admissible().collect())
    }

    /// [`TextEnv::reset`], which cannot fail here.
    pub fn reset(&mut self) -> Observation {
        self.state.copy_from(self.game.initial());
        self.refresh();
        self.observation(self.game.renderer(&self.state).intro())
    }

    /// [`TextEnv::step`], which cannot fail here.
    pub fn step(&mut self, action: &str) -> Step {
        // A listed command may end with a blank, as the names of ids without a number do: then it counts as it is.
        let text = self.play(action.trim()).or_else(|| self.play(action));
        let text = text.unwrap_or_else(|| NOTHING_HAPPENS.to_owned());
        let won = self.won();
        let score = if won { 1.0 } else { 0.0 };
        Step { observation: self.observation(text), score, done: won, won }
    }

    /// [`TextEnv::expert`].
    ///
    /// # Errors
    /// [`EnvError::NoPlan`] if the search finds none.
    pub fn expert(&self) -> Result<Vec<String>, EnvError> {
        self.game.plan_from(&self.state.holds, &self.id)
    }
}

impl TextEnv for GameEnv {
    fn reset(&mut self) -> Result<Observation, EnvError> {
        Ok(GameEnv::reset(self))
    }

    fn step(&mut self, action: &str) -> Result<Step, EnvError> {
        Ok(GameEnv::step(self, action))
    }

    fn expert(&mut self) -> Result<Vec<String>, EnvError> {
        GameEnv::expert(self)
    }

    fn boxed_clone(&self) -> Result<Box<dyn TextEnv>, EnvError> {
        Ok(Box::new(self.clone()))
    }
}
