//! Recorded episodes of the original engine, and how they are compared with ours.

use std::io::{BufRead, BufReader, Read};

use reskill_envs::{Observation, Step, TextEnv};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// One episode, as `golden/make_transcripts.py` writes it.
#[derive(Debug, Deserialize)]
pub(crate) struct Transcript {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) reset: Reset,
    pub(crate) steps: Vec<Recorded>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Reset {
    pub(crate) obs: String,
    pub(crate) admissible: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) action: String,
    pub(crate) obs: String,
    pub(crate) admissible: Vec<String>,
    pub(crate) score: f32,
    pub(crate) done: bool,
    pub(crate) won: bool,
}

/// One episode of which only the digest is kept.
#[derive(Debug, Deserialize)]
pub(crate) struct Digested {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) actions: Vec<String>,
    pub(crate) sha256: String,
}

/// The lines of a compressed file.
pub(crate) fn read_lines<T: for<'de> Deserialize<'de>>(gzip: impl Read) -> Vec<T> {
    let lines = BufReader::new(flate2::read::GzDecoder::new(gzip)).lines();
    lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// Plays the actions of a transcript; everything must be as recorded, to the byte.
pub(crate) fn check(env: &mut dyn TextEnv, transcript: &Transcript) {
    let Transcript { id, kind, reset, steps } = transcript;
    let first = env.reset().unwrap();
    assert_eq!(first.text, reset.obs, "{id} {kind}");
    assert_eq!(first.admissible, reset.admissible, "{id} {kind}");
    for (index, recorded) in steps.iter().enumerate() {
        let place = format!("{id} {kind} turn {index}: {:?}", recorded.action);
        let step = env.step(&recorded.action).unwrap();
        assert_eq!(step.observation.text, recorded.obs, "{place}");
        assert_eq!(step.observation.admissible, recorded.admissible, "{place}");
        assert_eq!(
            (step.score, step.done, step.won),
            (recorded.score, recorded.done, recorded.won),
            "{place}"
        );
    }
}

/// Plays actions and digests what the player sees, as the script does.
pub(crate) fn digest(env: &mut dyn TextEnv, actions: &[String]) -> String {
    let mut sha = Sha256::new();
    let Observation { text, admissible, .. } = env.reset().unwrap();
    feed(&mut sha, &text, &admissible, ["0", "False", "False"]);
    for action in actions {
        let Step { observation, score, done, won } = env.step(action).unwrap();
        let flag = |flag: bool| if flag { "True" } else { "False" };
        let score = if score == 1.0 { "1" } else { "0" };
        feed(&mut sha, &observation.text, &observation.admissible, [score, flag(done), flag(won)]);
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn feed(sha: &mut Sha256, text: &str, admissible: &[String], rest: [&str; 3]) {
    let parts = std::iter::once(text).chain(admissible.iter().map(String::as_str)).chain(rest);
    for part in parts {
        sha.update(format!("{}:", part.len()));
        sha.update(part);
    }
}
