//! What the targets share: a small whole game, and playing one that compiles.

use std::sync::Arc;

use reskill_envs::alfworld::{Game, GameEnv, GameFile, RulesCache};
use reskill_envs::{TaskId, TextEnv};

/// A game whose parts are replaced by what the fuzzer makes up.
#[allow(dead_code, reason = "one target replaces all of it")]
pub fn whole() -> GameFile {
    GameFile {
        pddl_domain: include_str!("../../tests/it/fixture/domain.pddl").into(),
        grammar: include_str!("../../tests/it/fixture/grammar.twl2").into(),
        pddl_problem: include_str!("../../tests/it/fixture/problem.pddl").into(),
        solvable: true,
        walkthrough: Vec::new(),
    }
}

/// Compiles and plays a little; the first commands, then a reset.
pub fn play(file: &GameFile) {
    let Ok(game) = Game::compile(file, &RulesCache::default()) else { return };
    let mut env = GameEnv::new(Arc::new(game), TaskId("fuzz/0/0".into()));
    env.reset();
    for turn in 0..6 {
        let commands: Vec<String> = env.admissible().collect();
        let Some(command) = commands.get(turn * 7 % commands.len().max(1)) else { break };
        env.step(command);
    }
    env.reset();
}
