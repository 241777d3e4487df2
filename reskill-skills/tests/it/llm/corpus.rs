//! The fuzz corpus of creator replies, replayed: whatever a model writes, reading it ends and does not panic.

use std::path::Path;

use reskill_skills::creator::llm::reply::extract_json;
use reskill_skills::creator::llm::stages::examine_reply;

#[test]
fn replies_of_the_corpus_are_read_without_a_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/creator_reply");
    let (mut n, mut n_json, mut n_skills) = (0, 0, 0);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        n_json += usize::from(extract_json(&text).is_some());
        n_skills += examine_reply(&text);
        n += 1;
    }
    assert!(n >= 12 && n_json >= 6 && n_skills >= 3, "{n} files, {n_json} with JSON, {n_skills} accepted");
}
