//! An index finds what it should, belongs to one corpus, and is refused when it is not whole.

use std::path::Path;

use super::{data, word_index};
use reskill_envs::EnvError;
use reskill_envs::search::{BuildOptions, SearchIndex, build_index};

fn titles(index: &SearchIndex, query: &str, top_k: usize) -> Vec<String> {
    let ranked = index.rank_by_words(query, top_k).unwrap();
    ranked.into_iter().map(|(row, score)| index.passage(row, score).unwrap().title).collect()
}

fn message<T: std::fmt::Debug>(result: Result<T, EnvError>) -> String {
    let error = result.unwrap_err();
    assert!(matches!(error, EnvError::Index { .. }), "{error}");
    error.to_string()
}

/// Passages of some `length` words drawn from a few, so that many share some; row by row.
fn many(path: &Path, n: usize, length: u64) {
    let mut state = 1_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut text = String::new();
    for row in 0..n {
        // The lower the commoner.
        let words: Vec<String> = (0..length / 2 + draw(length))
            .map(|_| {
                let below = draw(2000) + 1;
                format!("w{}", draw(below))
            })
            .collect();
        text.push_str(&format!("{{\"title\":\"t{row}\",\"text\":\"{}\"}}\n", words.join(" ")));
    }
    std::fs::write(path, text).unwrap();
}

#[test]
fn words_are_found_in_titles_and_texts_in_any_form() {
    let dir = tempfile::tempdir().unwrap();
    let index = word_index(dir.path());
    assert_eq!(titles(&index, "marlow bridge", 1), ["Marlow Bridge"]);
    assert_eq!(titles(&index, "Who was AWARDED the Rowan medals?", 2), ["Edith Carrow", "Rowan Medal"]);
    assert_eq!(titles(&index, "zoe brandt", 1), ["Zoë Brandt"]);
    assert_eq!(titles(&index, "xyzzy", 3), [""; 0]);
    assert_eq!(titles(&index, "", 3), [""; 0]);
    assert_eq!(titles(&index, "bridge", 0), [""; 0]);
    // Nothing but words that else do not count.
    assert_eq!(titles(&index, "the who", 1), ["The Who"]);
}

#[test]
fn scores_are_those_of_bm25() {
    let dir = tempfile::tempdir().unwrap();
    let index = word_index(dir.path());
    // "medal" is in 2 of 12 passages, twice in "Rowan Medal" and once in "Edith Carrow". Lengths up to 40 are kept exactly.
    let lengths: Vec<usize> = std::fs::read_to_string(data().join("corpus.jsonl"))
        .unwrap()
        .lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = format!("{} {}", value["title"].as_str().unwrap(), value["text"].as_str().unwrap());
            text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).count()
        })
        .collect();
    let mean = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
    let idf = (1.0 + (12.0 - 2.0 + 0.5) / (2.0 + 0.5_f64)).ln();
    let expected = |row: usize, tf: f64| {
        let norm = 1.2 * (1.0 - 0.75 + 0.75 * lengths[row] as f64 / mean);
        idf * tf * 2.2 / (tf + norm)
    };
    let ranked = index.rank_by_words("medal", 5).unwrap();
    assert_eq!(ranked.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [3, 1]);
    for ((row, score), tf) in ranked.iter().zip([2.0, 1.0]) {
        // f32 arithmetic.
        let expected = expected(*row as usize, tf);
        assert!((f64::from(*score) - expected).abs() < 1e-5, "{row}: {score} instead of {expected}");
    }
}

#[test]
fn pruned_search_finds_what_a_full_search_finds() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus.jsonl");
    many(&corpus, 6000, 30);
    let build = |name: &str, memory_bytes: usize| {
        let options = BuildOptions { memory_bytes, ..BuildOptions::default() };
        build_index(&corpus, &dir.path().join(name), &options, &mut |_, _, _| {}).unwrap()
    };
    let index = build("index", 15 << 20);
    for query in ["w0 w1 w2", "w3 w50 w700", "w1999", "w10 w11 w12 w13 w14 w15 w16 w17", "w0"] {
        // Asking for every passage leaves nothing to prune.
        let mut all = index.rank_by_words(query, 6000).unwrap();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        for top_k in [1, 3, 20] {
            let best = index.rank_by_words(query, top_k).unwrap();
            assert_eq!(best, all[..top_k.min(all.len())], "{query}");
        }
    }
}

#[test]
fn a_row_is_the_place_in_the_corpus_however_the_index_was_built() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus.jsonl");
    many(&corpus, 30_000, 200);
    // Some 6 million words: 15 MB hold a part of them, so that several segments are merged.
    let ranked = |name: &str, memory_bytes: usize| {
        let options = BuildOptions { memory_bytes, ..BuildOptions::default() };
        let index = build_index(&corpus, &dir.path().join(name), &options, &mut |_, _, _| {}).unwrap();
        for row in [0, 1, 12_345, 29_999] {
            assert_eq!(index.passage(row, 0.0).unwrap().title, format!("t{row}"));
        }
        ["w5 w6", "w1000", "w0 w1 w2 w3"].map(|query| index.rank_by_words(query, 10).unwrap())
    };
    assert_eq!(ranked("small", 15_000_000), ranked("large", 500_000_000));
}

#[test]
fn progress_counts_passages_and_ends_with_the_check() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus.jsonl");
    many(&corpus, 3000, 30);
    let mut seen = Vec::new();
    let mut watch = |stage, done, total| seen.push((format!("{stage:?}"), done, total));
    build_index(&corpus, &dir.path().join("index"), &BuildOptions::default(), &mut watch).unwrap();
    let expected =
        [("Words", 1000, 0), ("Words", 2000, 0), ("Words", 3000, 0), ("Merge", 0, 3000), ("Check", 0, 3000)];
    assert_eq!(seen, expected.map(|(stage, done, total)| (stage.to_string(), done, total)));
}

#[test]
fn an_index_belongs_to_its_corpus_and_to_no_other() {
    let dir = tempfile::tempdir().unwrap();
    drop(word_index(dir.path()));
    let index = dir.path().join("index");
    let renamed = dir.path().join("passages.jsonl");
    let text = std::fs::read_to_string(data().join("corpus.jsonl")).unwrap();
    std::fs::write(&renamed, &text).unwrap();
    SearchIndex::open(&index, Some(&renamed)).unwrap();
    // As long as it was, but one letter differs.
    std::fs::write(&renamed, text.replacen("Marlow", "Narlow", 1)).unwrap();
    let same_length = message(SearchIndex::open(&index, Some(&renamed)));
    std::fs::write(&renamed, format!("{text}{{\"text\":\"more\"}}\n")).unwrap();
    for refused in [same_length, message(SearchIndex::open(&index, Some(&renamed)))] {
        for fragment in ["another corpus", "12 passages", "passages.jsonl", "index build"] {
            assert!(refused.contains(fragment), "`{fragment}` is not in: {refused}");
        }
    }
}

#[test]
fn any_damage_to_a_file_of_an_index_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let files = word_index(dir.path()).manifest().files.clone();
    let index = dir.path().join("index");
    assert!(files.len() >= 5, "{files:?}");
    for file in &files {
        let path = index.join(&file.name);
        let whole = std::fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        let damages = [(flipped, "checksum"), (whole[..whole.len() - 1].to_vec(), "bytes instead of")];
        for (damage, fragment) in damages {
            std::fs::write(&path, damage).unwrap();
            let refused = message(SearchIndex::open(&index, None));
            assert!(refused.contains(fragment) && refused.contains(&file.name), "{refused}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(message(SearchIndex::open(&index, None)).contains("is missing"));
        std::fs::write(&path, whole).unwrap();
    }
    SearchIndex::open(&index, None).unwrap();
}

#[test]
fn opening_and_searching_leave_the_folder_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let index = word_index(dir.path());
    assert_eq!(titles(&index, "bridge", 1), ["Marlow Bridge"]);
    let mut known: Vec<String> = index.manifest().files.iter().map(|file| file.name.clone()).collect();
    known.push("manifest.json".into());
    known.sort();
    let mut found = Vec::new();
    for folder in ["", "bm25/"] {
        for entry in std::fs::read_dir(dir.path().join("index").join(folder)).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                found.push(format!("{folder}{}", entry.file_name().to_string_lossy()));
            }
        }
    }
    found.sort();
    assert_eq!(found, known);
}

#[test]
fn an_index_of_another_version_or_without_manifest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(word_index(dir.path()));
    let index = dir.path().join("index");
    let manifest = index.join("manifest.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(&manifest, text.replacen("\"format\": 1", "\"format\": 2, \"novelty\": []", 1)).unwrap();
    assert!(message(SearchIndex::open(&index, None)).contains("version 2, this program reads version 1"));
    std::fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    assert!(message(SearchIndex::open(&index, None)).contains("damaged"));
    std::fs::remove_file(&manifest).unwrap();
    assert!(message(SearchIndex::open(&index, None)).contains("no complete search index"));
    assert!(message(SearchIndex::open(&dir.path().join("nowhere"), None)).contains("index build"));
}

#[test]
fn a_build_that_fails_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus.jsonl");
    std::fs::write(&corpus, "{\"text\":\"fine\"}\n{\"text\":7}\n").unwrap();
    let out = dir.path().join("index");
    let build = || build_index(&corpus, &out, &BuildOptions::default(), &mut |_, _, _| {});
    assert!(matches!(build().unwrap_err(), EnvError::Record { number: 2, .. }));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    std::fs::create_dir(&out).unwrap();
    assert!(message(build()).contains("exists already"));
}
