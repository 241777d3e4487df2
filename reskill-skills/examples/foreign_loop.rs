//! A version test for a training loop in another language: JSON lines in, JSON lines out.
//!
//! ```text
//! cargo run --release -p reskill-skills --example foreign_loop -- [--candidates K] [--seed S]
//! ```
//!
//! The loop asks which prompt each rollout plays, and tells how the rollouts ended; one answer for each line. With one
//! candidate the arms are `old` and `new`; with more `old`, `new0`, `new1`, ...
//!
//! ```text
//! -> {"assign": {"groups": [17, 18], "size": 4}}
//! <- {"arms": {"17": ["new", "old", "old", "new"], "18": ["old", "new", "new", "old"]}, "shares": {"new": 0.5, "old": 0.5}}
//! -> {"record": [{"group": 17, "arm": "new", "success": true}, {"group": 17, "arm": "old", "success": false}]}
//! <- {"decision": null, "p_best": {"new": 0.67, "old": 0.33}}
//! ```
//!
//! A group is a task that several rollouts play, with an id of its own in every step; each `record` ends a step. When the
//! test is decided, `decision` holds the verdict and everything it rests on, and the program ends. Bad input: a message
//! on standard error and exit code 2.
#![expect(clippy::print_stderr, reason = "a program that says what is wrong with its input")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reskill_skills::version_test::{Claim, assign, shares};
use reskill_skills::{Arm, Decision, VersionTest, VersionTestConfig};
use serde::Deserialize;
use serde_json::{Value, json};

/// Largest group that is assigned at once.
const MAX_SIZE: usize = 100_000;

/// A line of input.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    Assign { groups: Vec<u64>, size: usize },
    Record(Vec<Outcome>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    group: u64,
    arm: String,
    success: bool,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let (candidates, seed) = arguments(std::env::args().skip(1))?;
    let config = VersionTestConfig::default();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut test = VersionTest::new(candidates);
    let mut step = 0;
    for (index, line) in std::io::stdin().lock().lines().enumerate() {
        let place = |error: String| format!("line {}: {error}", index + 1);
        let line = line.map_err(|error| place(error.to_string()))?;
        if line.trim().is_empty() {
            continue;
        }
        let request: Request = serde_json::from_str(&line).map_err(|error| place(error.to_string()))?;
        let (answer, decided) = match request {
            Request::Assign { groups, size } => {
                (assigned(&test, &config, &groups, size, &mut rng).map_err(place)?, false)
            }
            Request::Record(outcomes) => {
                let outcomes = outcomes
                    .into_iter()
                    .map(|outcome| {
                        let arm = arm_of(&test, &outcome.arm).ok_or_else(|| {
                            format!("no arm `{}`: expected {}", outcome.arm, names(&test).join(", "))
                        })?;
                        Ok((outcome.group, arm, outcome.success))
                    })
                    .collect::<Result<Vec<_>, String>>()
                    .map_err(place)?;
                test.record(step, outcomes, config.discount, None);
                step += 1;
                let decision: Option<Decision> = test.decide(&config, Claim::Better);
                let decided = decision.is_some();
                (json!({"p_best": named(&test, test.p_best()), "decision": decision}), decided)
            }
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")
            .and_then(|()| out.flush())
            .map_err(|error| format!("standard output: {error}"))?;
        if decided {
            break;
        }
    }
    Ok(())
}

fn arguments(mut given: impl Iterator<Item = String>) -> Result<(u8, u64), String> {
    let (mut candidates, mut seed) = (1, 0);
    while let Some(name) = given.next() {
        let value = given.next().ok_or_else(|| format!("{name}: a value is missing"))?;
        match name.as_str() {
            "--candidates" => {
                candidates =
                    value.parse().ok().filter(|n| *n >= 1).ok_or("--candidates: expected 1 to 255")?;
            }
            "--seed" => seed = value.parse().map_err(|_| "--seed: expected a whole number from 0")?,
            _ => return Err(format!("{name}: expected --candidates K or --seed S")),
        }
    }
    Ok((candidates, seed))
}

fn assigned(
    test: &VersionTest,
    config: &VersionTestConfig,
    groups: &[u64],
    size: usize,
    rng: &mut ChaCha8Rng,
) -> Result<Value, String> {
    if size > MAX_SIZE {
        return Err(format!("`size` = {size}, expected at most {MAX_SIZE}"));
    }
    let shares = shares(config, test.p_best());
    let arms: BTreeMap<String, Vec<String>> = groups
        .iter()
        .map(|group| {
            let arms = assign(&shares, size, config.sampling, rng);
            (group.to_string(), arms.into_iter().map(|arm| name_of(test, arm)).collect())
        })
        .collect();
    Ok(json!({"arms": arms, "shares": named(test, &shares)}))
}

fn name_of(test: &VersionTest, arm: Arm) -> String {
    match arm {
        Arm::Incumbent => "old".into(),
        Arm::Candidate(_) if test.n_arms() == 2 => "new".into(),
        Arm::Candidate(n) => format!("new{n}"),
    }
}

fn names(test: &VersionTest) -> Vec<String> {
    (0..test.n_arms()).map(|index| name_of(test, Arm::from_index(index))).collect()
}

fn arm_of(test: &VersionTest, name: &str) -> Option<Arm> {
    names(test).iter().position(|known| known == name).map(Arm::from_index)
}

fn named(test: &VersionTest, values: &[f64]) -> BTreeMap<String, f64> {
    names(test).into_iter().zip(values.iter().copied()).collect()
}
