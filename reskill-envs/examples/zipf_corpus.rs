//! Writes a corpus of passages with words drawn by Zipf's law, to see how an index behaves at a size that no test data has.
//!
//! `cargo run --release -p reskill-envs --example zipf_corpus -- OUT.jsonl [PASSAGES] [SEED]`
//!
//! A passage has a title of 1 to 4 words and a text of 60 to 140. The word of rank r is drawn with probability proportional
//! to 1 / (r + 2.7); the first ranks are English function words, as they are in English, the others are made of syllables.

use std::fs::File;
use std::io::{BufWriter, Error, ErrorKind, Write};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Distinct words.
const WORDS: usize = 300_000;
/// Mandelbrot's shift of the ranks.
const SHIFT: f64 = 2.7;
/// English's first words, roughly by frequency.
const FIRST: &str = "the of and in to a was is for as on with by he at from that his it an were are which this also be had has \
    its or who not their have but her she they one after first been two new other when during there more all into most some \
    between than can only about would over where these such through no";
const SYLLABLES: [&str; 24] = [
    "ba", "ce", "do", "fi", "gu", "ha", "je", "ko", "li", "mu", "na", "pe", "ro", "si", "tu", "va", "we",
    "xo", "yi", "zu", "bran", "stel", "mor", "qui",
];

fn main() -> std::io::Result<()> {
    let mut args = std::env::args().skip(1);
    let wrong = |what: &str| {
        Error::new(ErrorKind::InvalidInput, format!("usage: OUT.jsonl [PASSAGES] [SEED]: {what}"))
    };
    let out = args.next().ok_or_else(|| wrong("no file is given"))?;
    let mut number = |default: u64| match args.next() {
        Some(text) => text.parse::<u64>().map_err(|_| wrong(&text)),
        None => Ok(default),
    };
    let (passages, seed) = (number(1_000_000)?, number(0)?);
    let words: Vec<String> =
        FIRST.split_whitespace().map(str::to_owned).chain((0..WORDS).map(word)).collect();
    // (0, 1] -> rank, by the cumulated probabilities.
    let mut cumulated: Vec<f64> = Vec::with_capacity(words.len());
    for rank in 1..=words.len() {
        cumulated.push(cumulated.last().copied().unwrap_or(0.0) + 1.0 / (rank as f64 + SHIFT));
    }
    let all = cumulated.last().copied().unwrap_or(1.0);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = |count: usize| -> String {
        let one = |_| {
            let at = rng.random_range(0.0..all);
            words[cumulated.partition_point(|&sum| sum < at).min(words.len() - 1)].as_str()
        };
        (0..count).map(one).collect::<Vec<_>>().join(" ")
    };
    let mut sizes = ChaCha8Rng::seed_from_u64(seed ^ 1);
    let mut file = BufWriter::new(File::create(out)?);
    for id in 0..passages {
        let (title, text) = (draw(sizes.random_range(1..=4)), draw(sizes.random_range(60..=140)));
        writeln!(file, "{{\"id\":{id},\"title\":\"{title}\",\"text\":\"{text}.\"}}")?;
    }
    file.flush()
}

/// The `index`-th made word: its number in syllables, so that all differ.
fn word(index: usize) -> String {
    let mut rest = index + SYLLABLES.len();
    let mut word = String::new();
    while rest > 0 {
        word.push_str(SYLLABLES[rest % SYLLABLES.len()]);
        rest /= SYLLABLES.len();
    }
    word
}
