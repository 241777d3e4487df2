//! `grammar` of a game file: any text compiles or is refused.
#![no_main]

mod game;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut file = game::whole();
    file.grammar = text.to_owned();
    game::play(&file);
});
