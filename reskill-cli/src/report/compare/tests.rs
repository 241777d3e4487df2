//! The comparison as a whole, from the files of made-up runs.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::report::tests::{evaluation, finished, jsonl, step};

/// A run whose last unseen success is `won` of 100, whose rollouts put `tokens` through the network.
fn run(folder: &Path, name: &str, config: &str, won: u64, tokens: u64) -> RunDir {
    let dir = folder.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    let steps = (1..=3).map(|number| {
        let mut line = step(number, Value::Null);
        line["tokens"] = json!({"run": tokens, "without_reuse": 10 * tokens, "generated": 100});
        line["time"]["creator_seconds"] = json!(2.5);
        line["creator"] = json!({"calls": 4, "prompt_tokens": 1000, "completion_tokens": 50});
        line
    });
    let mut metrics =
        vec![evaluation(0, "warm_start", "valid_unseen", 20), evaluation(0, "warm_start", "valid_seen", 20)];
    metrics.extend(steps);
    metrics.push(evaluation(3, "final", "valid_unseen", won));
    metrics.push(evaluation(3, "final", "valid_seen", won));
    for (file, content) in finished("open-it", "next open", "no") {
        std::fs::write(dir.join(file), content).unwrap();
    }
    std::fs::write(dir.join("metrics.jsonl"), jsonl(&metrics)).unwrap();
    std::fs::write(dir.join("config.toml"), config).unwrap();
    RunDir::open(&dir).unwrap()
}

fn two_arms(folder: &Path) -> Vec<RunDir> {
    let off = "[skills]\nmode = \"off\"\n";
    vec![
        run(folder, "grpo-0", &format!("seed = 0\n{off}"), 40, 2000),
        run(folder, "grpo-1", &format!("seed = 1\nthreads = 2\n{off}"), 50, 2000),
        run(folder, "reskill-0", "seed = 0\n[log]\ntensorboard = true\n", 60, 1000),
        run(folder, "reskill-1", "seed = 1\n", 62, 1000),
    ]
}

fn page_of(runs: &[RunDir]) -> String {
    render(runs, &ReportOptions::default()).unwrap()
}

#[test]
fn runs_that_differ_in_seed_threads_and_log_alone_are_one_arm() {
    let dir = tempfile::tempdir().unwrap();
    let read = two_arms(dir.path()).iter().map(|run| RunData::read(run).unwrap()).collect();
    let arms = group(read);
    let of = |index: usize| (arms[index].name.as_str(), arms[index].runs.len());
    assert_eq!(arms.len(), 2);
    assert_eq!(of(0), ("skills.mode = \"off\"", 2));
    assert_eq!(of(1), ("skills.mode = \"evolve\"", 2));
}

#[test]
fn page_holds_means_differences_and_ratios() {
    let dir = tempfile::tempdir().unwrap();
    let page = page_of(&two_arms(dir.path()));
    for expected in [
        "4 runs in 2 arms",
        "reaches <b>45.0%</b>; <b>61.0%</b> with skills.mode = &quot;evolve&quot; (<b>+16.0</b> points)",
        // Welch: variances 50 and 2 of two runs each give 1.08 degrees of freedom, so 12.706 sqrt(26) points.
        "<b>+16.0</b><small>\u{2212}48.8 to +80.8</small>",
        // Rollouts of half the tokens.
        "1.0k (\u{d7}0.5)",
        // 3 times 20,000 tokens of context over 3 times 128 episodes of 12 turns.
        "context of a turn, tokens</td><td>13<small>13 to 13</small></td><td>7 (\u{d7}0.5)",
        "creator, calls</td><td>4<small>",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    assert!(!page.contains("NaN") && !page.contains("\"inf"));
    for forbidden in ["http://", "https://", "<script", "<link", " src="] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn band_of_two_seeds_is_their_range_and_of_one_its_interval_over_games() {
    let dir = tempfile::tempdir().unwrap();
    let runs = two_arms(dir.path());
    let page = page_of(&runs);
    assert!(page.contains("skills.mode = &quot;off&quot;, step 3: 45.0% (40.0% to 50.0%)"));
    let page = page_of(&[runs[0].clone(), runs[2].clone()]);
    // Wilson's interval of 40 of 100.
    assert!(page.contains("skills.mode = &quot;off&quot;, step 3: 40.0% (30.9% to 49.8%)"));
}

#[test]
fn episodes_are_told_apart_by_run_and_runs_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let runs = vec![run(&one, "run", "seed = 0\n", 40, 10), run(&two, "run", "seed = 1\n", 40, 10)];
    for run in &runs {
        let line = json!({
            "played": "final", "seed": 0, "arm": "incumbent", "group": 0, "step": 3, "triggered": [],
            "episode": {"task": {"id": "x", "split": "train", "family": "f", "goal": "g"}, "turns": [],
                        "final_observation": "", "outcome": "failure", "return_": 0.0},
        });
        std::fs::write(run.episodes(), jsonl(&[line])).unwrap();
    }
    let page = page_of(&runs);
    for expected in ["run: final", "run (2): final", "The configurations differ in the seed alone"] {
        assert!(page.contains(expected), "{expected}");
    }
    let error = render(&runs[..1], &ReportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("two or more"), "{error}");
}
