//! `pddl_domain` of a game file: any text compiles or is refused.
#![no_main]

mod game;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut file = game::whole();
    file.pddl_domain = text.to_owned();
    game::play(&file);
});
