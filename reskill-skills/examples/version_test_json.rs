//! Replays version tests from counts: JSON on standard input, the same object with the statistics on standard output.
//!
//! ```text
//! echo '{"strategy": "dynamic", "tests": [{"steps": [{"new": [5, 8], "old": [3, 8]}]}]}' |
//!     cargo run --release -p reskill-skills --example version_test_json
//! ```
//!
//! Input: `strategy` is `none`, `last_step` or `dynamic`; a step holds `[m, n]` for each arm, m successes in n episodes,
//! 0 <= m <= n <= 2^53. Added to every step, after its update:
//!
//! - `w_new`, `w_old`: weight of the past in this update. `none`: 1; `last_step`: 0 (only the prior is kept, also where
//!   n = 0); `dynamic`: M / (M + n), 1 while M is unknown or where n = 0. M is the `m_hat_after` of the test before.
//! - `alpha_new`, `beta_new`, `alpha_old`, `beta_old`: the posteriors.
//! - `p_new_better`: P(theta_new > theta_old), exact and not clamped.
//!
//! Added to every test: `accepted_paper`, whether the posterior mean of new exceeds that of old after the last step (no
//! minimum of steps or episodes; a tie rejects), and `m_hat_after`, the estimate of M from this test and all before it,
//! null until two tests have finished. It is estimated for every strategy; only `dynamic` uses it.
//!
//! Anything else in the input is kept as it is. Bad input: a message on standard error and exit code 2.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that answers on both")]

use std::io::Read as _;
use std::process::ExitCode;

use reskill_skills::version_test::{Beta, Counts, Discount, RetentionScores, p_greater};
use serde_json::{Map, Value, json};

/// Counts are added in floating point; up to here they are exact.
const MAX_EPISODES: u64 = 1 << 53;

fn main() -> ExitCode {
    let mut text = String::new();
    let answer = match std::io::stdin().read_to_string(&mut text) {
        Ok(_) => replay(&text),
        Err(error) => Err(format!("standard input: {error}")),
    };
    match answer {
        Ok(value) => {
            println!("{value:#}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

fn replay(text: &str) -> Result<Value, String> {
    let mut input: Value = serde_json::from_str(text).map_err(|error| format!("input: {error}"))?;
    let object = input.as_object_mut().ok_or("input: expected an object with `strategy` and `tests`")?;
    let strategy: Discount = object
        .get("strategy")
        .and_then(|strategy| serde_json::from_value(strategy.clone()).ok())
        .ok_or("`strategy`: expected `none`, `last_step` or `dynamic`")?;
    let tests =
        object.get_mut("tests").and_then(Value::as_array_mut).ok_or("`tests`: expected a list of tests")?;
    let mut scores = RetentionScores::default();
    for (index, test) in tests.iter_mut().enumerate() {
        let place = format!("`tests[{index}]`");
        let test = test.as_object_mut().ok_or_else(|| format!("{place}: expected an object with `steps`"))?;
        run_test(test, strategy, &mut scores).map_err(|message| format!("{place}: {message}"))?;
    }
    Ok(input)
}

/// One test: its steps, its verdict, and M after it.
fn run_test(
    test: &mut Map<String, Value>,
    strategy: Discount,
    scores: &mut RetentionScores,
) -> Result<(), String> {
    let retention = scores.best();
    let steps =
        test.get_mut("steps").and_then(Value::as_array_mut).ok_or("`steps`: expected a list of steps")?;
    let (mut new, mut old) = (Beta::UNIFORM, Beta::UNIFORM);
    let mut counts: [Vec<Counts>; 2] = [Vec::new(), Vec::new()];
    for (index, step) in steps.iter_mut().enumerate() {
        let step = step.as_object_mut().ok_or_else(|| format!("`steps[{index}]`: expected an object"))?;
        let read = |arm: &str| {
            counts_of(step.get(arm)).ok_or_else(|| {
                format!("`steps[{index}].{arm}`: expected [m, n], whole numbers with 0 <= m <= n <= 2^53")
            })
        };
        let (of_new, of_old) = (read("new")?, read("old")?);
        new = strategy.update(new, of_new, retention);
        old = strategy.update(old, of_old, retention);
        let added = json!({
            "w_new": strategy.weight(of_new.episodes, retention),
            "w_old": strategy.weight(of_old.episodes, retention),
            "alpha_new": new.alpha, "beta_new": new.beta,
            "alpha_old": old.alpha, "beta_old": old.beta,
            "p_new_better": p_greater(new, old),
        });
        if let Value::Object(added) = added {
            step.extend(added);
        }
        counts[0].push(of_new);
        counts[1].push(of_old);
    }
    scores.add(counts.iter().map(Vec::as_slice));
    test.insert("accepted_paper".into(), json!(new.mean() > old.mean()));
    test.insert("m_hat_after".into(), json!(scores.best()));
    Ok(())
}

/// `[m, n]`.
fn counts_of(value: Option<&Value>) -> Option<Counts> {
    let [successes, episodes] = value?.as_array()?.as_slice() else { return None };
    let (successes, episodes) = (successes.as_u64()?, episodes.as_u64()?);
    (successes <= episodes && episodes <= MAX_EPISODES).then_some(Counts { episodes, successes })
}
