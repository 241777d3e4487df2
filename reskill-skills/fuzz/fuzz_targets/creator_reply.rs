//! Whatever a model writes, reading it as the reply of any stage ends and does not panic:
//! `cargo +nightly fuzz run creator_reply`, in the folder of the crate.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reskill_skills::creator::llm::stages::examine_reply;

fuzz_target!(|data: &[u8]| {
    let _ = examine_reply(&String::from_utf8_lossy(data));
});
