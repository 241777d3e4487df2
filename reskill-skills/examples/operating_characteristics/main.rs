//! How the decision rules behave: false accepts, power, episodes, regret.
//!
//! ```text
//! cargo run --release -p reskill-skills --example operating_characteristics -- [--replications N] [--seed S] [--json]
//! ```
//!
//! Simulated tests of five steps, 16 tasks x 8 rollouts each, all rules on the same rollouts. The incumbent succeeds with
//! probability 0.9 q on a task of difficulty q, the candidate with 0.9 q + delta, within 0..1. With drift d the policy gets
//! better while the test runs: 0.9 becomes 0.9 - d x (steps left). Rules:
//!
//! - `paper`: posterior means after five steps; `pooled`: two proportions at level 0.10, groups ignored;
//!   `stratified`: Cochran-Mantel-Haenszel at level 0.10 after five steps; `stratified_early`: the same with early stops,
//!   the default of the crate; `auto_accept`: no test.
//! - `_uniform` behind a name: both arms get the same share of every group instead of Thompson's.
//!
//! `--json` prints one JSON object a line, for every rule and scenario:
//!
//! - `rule`, `difficulty` (`equal`: q = 0.5; `mixed`: q ~ Beta(0.3, 0.2)), `drift` (0 or 0.02 a step), `delta`;
//! - `accept_rate`: share of tests that accept: false accepts where delta <= 0, power where delta > 0;
//! - `episodes`: mean episodes until the decision;
//! - `regret`: mean successes lost against playing the better arm in all 640 rollouts, those after an early decision
//!   played by the bank that it left (delta a rollout, before the limits of 0 and 1);
//! - `replications`: tests behind the row.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints its result")]
#![expect(clippy::cast_precision_loss, reason = "counts of replications and episodes are small")]

mod simulate;

use std::process::ExitCode;

use reskill_skills::version_test::Assignment;
use serde_json::json;

use simulate::{Difficulty, RULES, Scenario, Tally, simulate};

const DELTAS: [f64; 4] = [-0.05, 0.0, 0.05, 0.10];
const DRIFTS: [f64; 2] = [0.0, 0.02];

struct Arguments {
    replications: u64,
    seed: u64,
    json: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::from(2);
        }
    };
    let mut stream = 0;
    for difficulty in [Difficulty::Equal, Difficulty::Mixed] {
        for drift in DRIFTS {
            for assignment in [Assignment::Thompson, Assignment::Uniform] {
                let tallies = DELTAS.map(|delta| {
                    stream += 1;
                    let scenario = Scenario { difficulty, drift, delta, assignment };
                    simulate(&scenario, stream, arguments.seed, arguments.replications)
                });
                if arguments.json {
                    print_json(&arguments, difficulty, drift, assignment, &tallies);
                } else {
                    print_table(&arguments, difficulty, drift, assignment, &tallies);
                }
            }
        }
    }
    ExitCode::SUCCESS
}

fn parse(mut given: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments { replications: 4000, seed: 0, json: false };
    while let Some(name) = given.next() {
        let mut number = |least: u64| {
            given
                .next()
                .and_then(|text| text.parse::<u64>().ok())
                .filter(|value| (least..=u64::from(u32::MAX)).contains(value))
                .ok_or_else(|| format!("{name}: expected a whole number from {least} to {}", u32::MAX))
        };
        match name.as_str() {
            "--replications" => arguments.replications = number(1)?,
            "--seed" => arguments.seed = number(0)?,
            "--json" => arguments.json = true,
            _ => return Err(format!("{name}: expected --replications N, --seed S or --json")),
        }
    }
    Ok(arguments)
}

/// The rules that this assignment can be seen in, with their names.
fn names(assignment: Assignment) -> Vec<(usize, String)> {
    let named = RULES.iter().enumerate();
    match assignment {
        Assignment::Thompson => named.map(|(index, name)| (index, (*name).to_string())).collect(),
        // Without a test there are no shares.
        Assignment::Uniform => named
            .filter(|(_, name)| **name != "auto_accept")
            .map(|(index, name)| (index, format!("{name}_uniform")))
            .collect(),
    }
}

fn print_json(
    arguments: &Arguments,
    difficulty: Difficulty,
    drift: f64,
    assignment: Assignment,
    tallies: &[[Tally; 5]; 4],
) {
    let n = arguments.replications as f64;
    for (rule, name) in names(assignment) {
        for (delta, by_rule) in DELTAS.iter().zip(tallies) {
            let tally = by_rule[rule];
            let row = json!({
                "rule": name, "difficulty": difficulty.name(), "drift": drift, "delta": delta,
                "accept_rate": tally.accepted / n, "episodes": tally.episodes / n, "regret": tally.regret / n,
                "replications": arguments.replications,
            });
            println!("{row}");
        }
    }
}

fn print_table(
    arguments: &Arguments,
    difficulty: Difficulty,
    drift: f64,
    assignment: Assignment,
    tallies: &[[Tally; 5]; 4],
) {
    let n = arguments.replications as f64;
    if assignment == Assignment::Thompson {
        println!(
            "\n{} difficulty, drift {drift} a step; delta {}\n{:<26} {:^25} {:^23} {:^23}",
            difficulty.name(),
            DELTAS.map(|delta| format!("{delta:+.2}")).join(" / "),
            "rule",
            "accepted",
            "episodes",
            "regret"
        );
    }
    for (rule, name) in names(assignment) {
        let of = |value: fn(&Tally) -> f64, digits: usize, width: usize| -> String {
            tallies.iter().map(|tally| format!("{:>width$.digits$}", value(&tally[rule]) / n)).collect()
        };
        println!(
            "{name:<26}{} {} {}",
            of(|tally| tally.accepted, 3, 6),
            of(|tally| tally.episodes, 0, 6),
            of(|tally| tally.regret, 1, 6)
        );
    }
}
