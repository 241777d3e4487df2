//! Group-relative advantages, for other languages: one JSON object in, a list out.
//!
//! `echo '{"returns": [1, 0, 5], "groups": [0, 0, 9]}' | cargo run --release -p reskill-grpo --example advantages_json`
//!
//! Input: `returns`, `groups` (integers or strings, in any order), `config` with `std` ("group" or "none", default "group"),
//! `eps` (default 1e-6), `singleton` ("raw" or "zero", default "zero"). Unknown keys are refused. All in f64; a group of
//! equal returns gets exactly 0. Bad input: a message on stderr, exit 2.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints its result")]

use std::collections::HashMap;
use std::process::ExitCode;

use reskill_grpo::advantage::group_advantages_f64;
use reskill_grpo::{AdvantageConfig, Singleton, StdNorm};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    returns: Vec<f64>,
    groups: Vec<Group>,
    #[serde(default)]
    config: Config,
}

#[derive(Deserialize, PartialEq, Eq, Hash)]
#[serde(untagged)]
enum Group {
    Number(i64),
    Name(String),
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    std: StdNorm,
    eps: f64,
    singleton: Singleton,
}

impl Default for Config {
    fn default() -> Self {
        Config { std: StdNorm::Group, eps: 1e-6, singleton: Singleton::Zero }
    }
}

fn run(text: &str) -> Result<Vec<f64>, String> {
    let input: Input =
        serde_json::from_str(text).map_err(|error| format!("the input is no such JSON: {error}"))?;
    let Config { std: std_norm, eps, singleton } = input.config;
    let config = AdvantageConfig { std_norm, eps, singleton, ..AdvantageConfig::default() };
    config.validate().map_err(|error| error.to_string())?;
    let mut numbers: HashMap<Group, u64> = HashMap::new();
    let groups: Vec<u64> = input
        .groups
        .into_iter()
        .map(|group| {
            let next = numbers.len() as u64;
            *numbers.entry(group).or_insert(next)
        })
        .collect();
    group_advantages_f64(&input.returns, &groups, &config).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let result = std::io::read_to_string(std::io::stdin())
        .map_err(|error| format!("the input cannot be read: {error}"))
        .and_then(|text| run(&text))
        .and_then(|advantages| serde_json::to_string(&advantages).map_err(|error| error.to_string()));
    match result {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
