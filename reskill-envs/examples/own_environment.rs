//! A new environment: guess a number from 0 to 99. `cargo run --release -p reskill-envs --example own_environment`
#![expect(clippy::print_stdout, reason = "an example that shows a game")]

use std::sync::Arc;

use reskill_envs::{
    ActionTemplate, ActionVocabulary, EnvError, Observation, Split, Step, Suite, Task, TaskId, TextEnv,
};

struct Guessing(Vec<Arc<Task>>, ActionVocabulary);

impl Suite for Guessing {
    fn name(&self) -> &str {
        "guessing"
    }
    fn tasks(&self, split: Split) -> &[Arc<Task>] {
        if split == Split::Train { &self.0 } else { &[] }
    }
    fn open(&self, id: &TaskId) -> Result<Box<dyn TextEnv>, EnvError> {
        let secret = id.0.parse().map_err(|_| EnvError::UnknownTask { id: id.to_string() })?;
        Ok(Box::new(Episode { secret, possible: (0..100).collect() }))
    }
    fn vocabulary(&self) -> &ActionVocabulary {
        &self.1
    }
}

struct Episode {
    secret: usize,
    possible: Vec<usize>,
}

impl TextEnv for Episode {
    fn reset(&mut self) -> Result<Observation, EnvError> {
        self.possible = (0..100).collect();
        Ok(Observation::new("a number from 0 to 99", Vec::new()))
    }
    fn step(&mut self, action: &str) -> Result<Step, EnvError> {
        let guess = action.strip_prefix("guess ").and_then(|number| number.parse().ok());
        let (order, secret) = (guess.map(|guess: usize| guess.cmp(&self.secret)), self.secret);
        self.possible.retain(|n| guess.is_none_or(|guess| n.cmp(&guess) == secret.cmp(&guess)));
        let won = order.is_some_and(std::cmp::Ordering::is_eq);
        let observation = Observation::new(format!("your guess is {order:?}"), Vec::new());
        Ok(Step { observation, score: if won { 1.0 } else { 0.0 }, done: won, won })
    }
    fn expert(&mut self) -> Result<Vec<String>, EnvError> {
        Ok(vec![format!("guess {}", self.possible[self.possible.len() / 2])])
    }
}

fn main() -> Result<(), EnvError> {
    let goal = || "find the number".to_owned();
    let task = |n| Task { id: TaskId(n), split: Split::Train, family: "guess".into(), goal: goal() };
    let tasks = (0..100).map(|n| Arc::new(task(n.to_string()))).collect();
    let template = ActionTemplate { name: "guess".into(), template: "guess {n}".into() };
    let suite = Guessing(tasks, ActionVocabulary { templates: vec![template] });
    let turns = reskill_envs::check::solve_all(&suite, 7)?;
    println!("the expert needs {turns} turns for all {} tasks", suite.tasks(Split::Train).len());
    Ok(())
}
