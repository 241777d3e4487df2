//! The fuzz corpus of creator replies, replayed: whatever a model writes, reading it ends and does not panic.

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
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

#[test]
fn mutations_of_the_corpus_are_read_without_a_panic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/creator_reply");
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let texts: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    for _ in 0..2000 {
        let mut bytes = texts[rng.random_range(0..texts.len())].clone();
        for _ in 0..rng.random_range(1..6) {
            let at = rng.random_range(0..=bytes.len());
            match rng.random_range(0..4) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, b"{}[]\",:\\0e-"[rng.random_range(0..11)]),
                2 if at < bytes.len() => bytes[at] = rng.random(),
                _ => {
                    let other = &texts[rng.random_range(0..texts.len())];
                    bytes.extend_from_slice(&other[..rng.random_range(0..=other.len())]);
                }
            }
        }
        let _ = examine_reply(&String::from_utf8_lossy(&bytes));
    }
}
