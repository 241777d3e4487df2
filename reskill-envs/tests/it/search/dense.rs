//! Vectors: what is near is found, by the model that made them alone.

use std::path::Path;
use std::sync::Arc;

use super::{data, word_index};
use reskill_envs::EnvError;
use reskill_envs::search::{
    BuildOptions, EmbeddedRetriever, Embedder, Ranking, Retriever, SearchIndex, build_index,
};

/// A bag of letter triples, hashed into 64 numbers: alike texts get alike vectors.
#[derive(Debug)]
struct Triples(&'static str);

impl Embedder for Triples {
    fn dimensions(&self) -> usize {
        64
    }

    fn identity(&self) -> &str {
        self.0
    }

    fn embed(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EnvError> {
        Ok(texts.iter().map(|text| vector(text)).collect())
    }
}

fn vector(text: &str) -> Vec<f32> {
    let mut sums = vec![0.0_f32; 64];
    let bytes = text.to_lowercase().into_bytes();
    for triple in bytes.windows(3) {
        let hash = triple.iter().fold(7_u32, |hash, &byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        sums[(hash.wrapping_mul(2_654_435_761) >> 26) as usize] += 1.0;
    }
    let norm = sums.iter().map(|x| x * x).sum::<f32>().sqrt().max(1e-9);
    sums.into_iter().map(|x| x / norm).collect()
}

fn build(dir: &Path, name: &str, corpus: &Path) -> SearchIndex {
    let options =
        BuildOptions { embedder: Some(&Triples("triples")), batch_size: 5, ..BuildOptions::default() };
    build_index(corpus, &dir.join(name), &options, &mut |_, _, _| {}).unwrap()
}

fn many(path: &Path) {
    let lines: Vec<String> = (0..3000_u64)
        .map(|row| {
            let word = |n: u64| format!("{:x}", (row * 7 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40);
            let text: Vec<String> = (0..12).map(word).collect();
            format!("{{\"title\":\"t{row}\",\"text\":\"{}\"}}", text.join(" "))
        })
        .collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}

#[test]
fn near_neighbours_are_nearly_those_of_a_full_search() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus.jsonl");
    many(&corpus);
    let index = build(dir.path(), "index", &corpus);
    let passages: Vec<Vec<f32>> = (0..3000)
        .map(|row| index.passage(row, 0.0).map(|p| vector(&format!("{}\n{}", p.title, p.text))).unwrap())
        .collect();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let (mut found, mut all) = (0, 0);
    for query in passages.iter().step_by(50) {
        let mut exact: Vec<(usize, f32)> =
            passages.iter().map(|passage| dot(query, passage)).enumerate().collect();
        exact.sort_by(|a, b| b.1.total_cmp(&a.1));
        let ranked = index.rank_by_vector(query, 3).unwrap();
        for (row, score) in &ranked {
            // f32 sums in another order.
            assert!((score - dot(query, &passages[*row as usize])).abs() < 1e-5);
        }
        assert!(ranked.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        all += 3;
        found += exact[..3]
            .iter()
            .filter(|(row, _)| ranked.iter().any(|(other, _)| *other == *row as u64))
            .count();
    }
    // The graph is searched 128 deep among 3,000.
    assert!(found * 100 >= all * 97, "{found} of {all}");
}

#[test]
fn equal_corpora_give_equal_vector_files() {
    let dir = tempfile::tempdir().unwrap();
    let corpus = dir.path().join("corpus.jsonl");
    many(&corpus);
    let digest = |name| {
        let files = build(dir.path(), name, &corpus).manifest().files.clone();
        files.into_iter().find(|file| file.name == "vectors.usearch").unwrap().sha256
    };
    assert_eq!(digest("one"), digest("two"));
}

#[test]
fn dense_and_hybrid_retrievers_rank_by_what_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let index = Arc::new(build(dir.path(), "index", &data().join("corpus.jsonl")));
    let titles = |ranking, query: &str| -> Vec<String> {
        let retriever =
            EmbeddedRetriever::new(Arc::clone(&index), ranking, Some(Arc::new(Triples("triples")))).unwrap();
        let lists = retriever.retrieve(&["harbour", query], 3).unwrap();
        lists[1].iter().map(|passage| passage.title.clone()).collect()
    };
    // No whole word of the query is in the passage, but its letters are.
    assert_eq!(titles(Ranking::Bm25, "lighthousekeepers"), [""; 0]);
    assert_eq!(
        titles(Ranking::Dense, "a film about a lighthousekeeper, directed by Venn")[0],
        "Blue Lantern (film)"
    );
    assert_eq!(titles(Ranking::Hybrid, "Rowan Medal")[0], "Rowan Medal");
    assert_eq!(titles(Ranking::Hybrid, "Rowan Medal").len(), 3);
}

#[test]
fn vectors_of_another_model_or_none_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let index = Arc::new(build(dir.path(), "with", &data().join("corpus.jsonl")));
    let retriever = |index: &Arc<SearchIndex>, model: Option<&'static str>| {
        let model = model.map(|name| Arc::new(Triples(name)) as Arc<dyn Embedder>);
        EmbeddedRetriever::new(Arc::clone(index), Ranking::Dense, model).map(|_| ()).unwrap_err().to_string()
    };
    assert!(retriever(&index, Some("another")).contains("of the model triples, not of another"));
    assert!(retriever(&index, None).contains("none is given"));
    let words = Arc::new(word_index(dir.path()));
    assert!(retriever(&words, Some("triples")).contains("has no vectors"));
    assert!(words.rank_by_vector(&[0.0; 64], 1).unwrap_err().to_string().contains("--dense"));
    assert!(
        index.rank_by_vector(&[0.0; 3], 1).unwrap_err().to_string().contains("3 numbers for an index of 64")
    );
}

#[test]
fn a_damaged_vector_file_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    drop(build(dir.path(), "index", &data().join("corpus.jsonl")));
    let path = dir.path().join("index/vectors.usearch");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let message = SearchIndex::open(&dir.path().join("index"), None).unwrap_err().to_string();
    assert!(message.contains("vectors.usearch") && message.contains("checksum"), "{message}");
}
