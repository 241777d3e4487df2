//! A whole game file: any bytes are read or refused.
#![no_main]

mod game;

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use reskill_envs::alfworld::GameFile;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(file) = GameFile::from_json(bytes, Path::new("game.tw-pddl")) {
        game::play(&file);
    }
});
