//! The inputs that fuzzing collected, replayed: whatever a file holds, it is compiled or refused, never a panic.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reskill_envs::TaskId;
use reskill_envs::alfworld::{Game, GameEnv, GameFile, RulesCache};

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 10, "{target}: {} inputs", files.len());
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

fn play(file: &GameFile) -> bool {
    let Ok(game) = Game::compile(file, &RulesCache::default()) else { return false };
    let mut env = GameEnv::new(Arc::new(game), TaskId("fuzz/0/0".into()));
    env.reset();
    let commands: Vec<String> = env.admissible().take(8).collect();
    commands.iter().for_each(|command| drop(env.step(command)));
    true
}

/// Puts an input in the place of a part of the test game.
fn check_part(target: &str, part: fn(&mut GameFile) -> &mut String) {
    let mut n_played = 0;
    for (_, input) in inputs(target) {
        let mut file = GameFile {
            pddl_domain: include_str!("fixture/domain.pddl").into(),
            grammar: include_str!("fixture/grammar.twl2").into(),
            pddl_problem: include_str!("fixture/problem.pddl").into(),
            solvable: true,
            walkthrough: Vec::new(),
        };
        *part(&mut file) = String::from_utf8_lossy(&input).into_owned();
        n_played += usize::from(play(&file));
    }
    // The seeds are whole: a corpus that is refused altogether tests little.
    assert!(n_played > 0, "{target}: no input can be played");
}

#[test]
fn collected_domains_are_compiled_or_refused() {
    check_part("domain", |file| &mut file.pddl_domain);
}

#[test]
fn collected_problems_are_compiled_or_refused() {
    check_part("problem", |file| &mut file.pddl_problem);
}

#[test]
fn collected_grammars_are_compiled_or_refused() {
    check_part("grammar", |file| &mut file.grammar);
}

#[test]
fn collected_game_files_are_read_or_refused() {
    let mut n_played = 0;
    for (path, input) in inputs("game_file") {
        if let Ok(file) = GameFile::from_json(&input, &path) {
            n_played += usize::from(play(&file));
        }
    }
    assert!(n_played > 0);
}
