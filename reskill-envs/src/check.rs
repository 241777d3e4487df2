//! Checks of a suite, for those who write one.

use crate::error::EnvError;
use crate::suite::{Split, Suite};

/// Lets the expert of every task play it to its end, asking it anew each turn, twice from the start. The turns that all
/// tasks took together, once each.
///
/// # Errors
/// [`EnvError::NoPlan`] for the first task that is not won within `max_turns`; [`EnvError::NotReproducible`] for the first
/// that plays differently the second time; whatever the environment returns.
pub fn solve_all(suite: &dyn Suite, max_turns: usize) -> Result<usize, EnvError> {
    let mut turns = 0;
    for task in Split::ALL.into_iter().flat_map(|split| suite.tasks(split)) {
        let mut env = suite.open(&task.id)?;
        let mut texts: [Vec<String>; 2] = Default::default();
        for texts in &mut texts {
            texts.push(env.reset()?.text);
            let mut won = false;
            while !won && texts.len() <= max_turns {
                let plan = env.expert()?;
                let Some(command) = plan.first() else { break };
                let step = env.step(command)?;
                texts.push(format!("> {command}\n{}", step.observation.text));
                won = step.won;
            }
            if !won {
                return Err(EnvError::NoPlan { id: task.id.to_string(), states: texts.len() });
            }
        }
        let [first, second] = &texts;
        if first != second {
            let turn = first.iter().zip(second).position(|(first, second)| first != second);
            return Err(EnvError::NotReproducible {
                id: task.id.to_string(),
                turn: turn.unwrap_or(first.len()),
            });
        }
        turns += first.len() - 1;
    }
    Ok(turns)
}
