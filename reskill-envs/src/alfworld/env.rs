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
    admissible: Vec<(u32, u32)>,
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
    pub fn admissible(&self) -> impl Iterator<Item = &str> {
        self.admissible.iter().map(|(rank, _)| self.game.commands()[*rank as usize].as_str())
    }

    /// Plays a command and returns what the player reads; `None` if the command is not admissible.
    pub fn play(&mut self, command: &str) -> Option<String> {
        let rank = self.game.commands().binary_search_by(|known| known.as_str().cmp(command)).ok()?;
        let found = self.admissible.binary_search_by_key(&(rank as u32), |(rank, _)| *rank).ok()?;
        let (_, operator) = self.admissible[found];
        let game = Arc::clone(&self.game);
        game.operators.apply(operator, &mut self.state);
        self.refresh();
        let action = game.operators.get(operator).action;
        Some(game.renderer(&self.state).feedback(action, game.operators.binding(operator)))
    }

    fn refresh(&mut self) {
        self.admissible.clear();
        let operators = &self.game.operators;
        operators.for_each_applicable(&self.state, |operator| {
            self.admissible.push((operators.get(operator).command, operator));
        });
        self.admissible.sort_unstable();
        self.admissible.dedup_by_key(|(rank, _)| *rank);
    }

    fn observation(&self, text: String) -> Observation {
        Observation { text, admissible: self.admissible().map(str::to_owned).collect() }
    }
}

impl TextEnv for GameEnv {
    fn reset(&mut self) -> Observation {
        self.state = self.game.initial().clone();
        self.refresh();
        self.observation(self.game.renderer(&self.state).intro())
    }

    fn step(&mut self, action: &str) -> Step {
        // A listed command may end with a blank, as the names of ids without a number do: then it counts as it is.
        let text = self.play(action.trim()).or_else(|| self.play(action));
        let text = text.unwrap_or_else(|| NOTHING_HAPPENS.to_owned());
        let won = self.won();
        let score = if won { 1.0 } else { 0.0 };
        Step { observation: self.observation(text), score, done: won, won }
    }

    fn expert(&self) -> Result<Vec<String>, EnvError> {
        self.game.plan_from(&self.state.holds, &self.id)
    }

    fn boxed_clone(&self) -> Box<dyn TextEnv> {
        Box::new(self.clone())
    }
}
