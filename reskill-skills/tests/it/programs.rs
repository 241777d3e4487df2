//! The example programs, run as programs.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use crate::reference::reference;

/// An example's executable. `cargo test` has built it beside the tests; with `--test it` alone it is built here.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let path = profile.join("examples").join(name);
    if !path.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "-p", "reskill-skills", "--example", name]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success());
    }
    path
}

fn run(name: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(example(name))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Exit code 2, a message with all `fragments`, nothing on standard output.
fn check_refused(name: &str, arguments: &[&str], input: &str, fragments: &[&str]) {
    let output = run(name, arguments, input);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(output.stdout.is_empty() && message.starts_with("error: ") && !message.contains("panicked"));
    for fragment in fragments {
        assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
    }
}

/// Equal but for rounding of numbers.
fn check_equal(got: &Value, expected: &Value, path: &str) {
    match (got, expected) {
        (Value::Object(got), Value::Object(expected)) => {
            let keys = |object: &serde_json::Map<String, Value>| object.keys().cloned().collect::<Vec<_>>();
            assert_eq!(keys(got), keys(expected), "{path}");
            for (key, value) in expected {
                check_equal(&got[key], value, &format!("{path}.{key}"));
            }
        }
        (Value::Array(got), Value::Array(expected)) => {
            assert_eq!(got.len(), expected.len(), "{path}");
            for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
                check_equal(got, expected, &format!("{path}[{index}]"));
            }
        }
        (Value::Number(got), Value::Number(expected)) => {
            let (got, expected) = (got.as_f64().unwrap(), expected.as_f64().unwrap());
            // Counts are exact; probabilities have an absolute error below 1e-9.
            assert!((got - expected).abs() <= 1e-10 * expected.abs().max(1.0), "{path}: {got} {expected}");
        }
        _ => assert_eq!(got, expected, "{path}"),
    }
}

#[test]
fn version_test_json_prints_what_the_reference_computes() {
    for (index, case) in reference()["replay"].as_array().unwrap().iter().enumerate() {
        let output = run("version_test_json", &[], &case["input"].to_string());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let got: Value = serde_json::from_slice(&output.stdout).unwrap();
        check_equal(&got, &case["expected"], &format!("case {index}"));
    }
}

#[test]
fn version_test_json_handles_the_edges_of_its_input() {
    let replayed = |input: Value| -> Value {
        let output = run("version_test_json", &[], &input.to_string());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(replayed(json!({"strategy": "none", "tests": []})), json!({"strategy": "none", "tests": []}));
    let empty = replayed(json!({"strategy": "dynamic", "note": "kept", "tests": [{"steps": []}]}));
    assert_eq!(empty["note"], "kept");
    assert_eq!(empty["tests"][0], json!({"steps": [], "accepted_paper": false, "m_hat_after": null}));
    // Evidence faded to nothing: alpha of new falls below the smallest number, and nothing breaks.
    let lost = json!({"new": [0, 1_000_000], "old": [1_000_000, 1_000_000]});
    let first = json!({"steps": [{"new": [0, 64], "old": [64, 64]}, {"new": [64, 64], "old": [0, 64]}]});
    let faded = replayed(json!({
        "strategy": "dynamic", "tests": [first, first, {"steps": vec![lost; 200]}],
    }));
    let last = &faded["tests"][2]["steps"][199];
    assert_eq!(last["alpha_new"], 0.0);
    assert!(last["p_new_better"].as_f64().unwrap() < 1e-12);
    let large = 1u64 << 53;
    let huge = replayed(
        json!({"strategy": "none", "tests": [{"steps": [{"new": [large, large], "old": [1, large]}]}]}),
    );
    assert!(huge["tests"][0]["steps"][0]["p_new_better"].as_f64().unwrap() > 1.0 - 1e-12);
}

#[test]
fn version_test_json_refuses_bad_input_with_code_2() {
    let step =
        |new: &str| format!(r#"{{"strategy":"none","tests":[{{"steps":[{{"new":{new},"old":[1,2]}}]}}]}}"#);
    let refused = |input: &str, fragments: &[&str]| check_refused("version_test_json", &[], input, fragments);
    refused("", &["input"]);
    refused("{", &["line 1"]);
    refused("[]", &["`strategy`"]);
    refused(r#"{"tests":[]}"#, &["`strategy`", "last_step"]);
    refused(r#"{"strategy":"sometimes","tests":[]}"#, &["`strategy`"]);
    refused(r#"{"strategy":"none"}"#, &["`tests`"]);
    refused(r#"{"strategy":"none","tests":[3]}"#, &["tests[0]"]);
    refused(r#"{"strategy":"none","tests":[{}]}"#, &["tests[0]", "`steps`"]);
    refused(r#"{"strategy":"none","tests":[{"steps":[{"new":[1,2]}]}]}"#, &["tests[0]", "steps[0].old"]);
    for new in [
        "[3,2]",
        "[-1,2]",
        "[1]",
        "[1,2,3]",
        "[0.5,2]",
        "[\"1\",2]",
        "null",
        "[0,9007199254740993]",
        "[0,1e30]",
    ] {
        refused(&step(new), &["tests[0]", "steps[0].new", "m <= n"]);
    }
}

/// A training loop in another process: asks for arms, plays, reports, until the test is decided.
fn converse(arguments: &[&str], rate: impl Fn(&str) -> f64) -> Value {
    use std::io::{BufRead as _, BufReader};
    let mut child = Command::new(example("foreign_loop"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut to = child.stdin.take().unwrap();
    let mut from = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut decision = Value::Null;
    for step in 0..20u64 {
        let groups: Vec<u64> = (step * 16..(step + 1) * 16).collect();
        writeln!(to, "{}", json!({"assign": {"groups": groups, "size": 8}})).unwrap();
        let answer: Value = serde_json::from_str(&from.next().unwrap().unwrap()).unwrap();
        let mut outcomes = Vec::new();
        for group in groups {
            for arm in answer["arms"][group.to_string()].as_array().unwrap() {
                let success = rng.random_bool(rate(arm.as_str().unwrap()));
                outcomes.push(json!({"group": group, "arm": arm, "success": success}));
            }
        }
        assert_eq!(outcomes.len(), 128);
        writeln!(to, "{}", json!({"record": outcomes})).unwrap();
        let answer: Value = serde_json::from_str(&from.next().unwrap().unwrap()).unwrap();
        decision = answer["decision"].clone();
        if !decision.is_null() {
            break;
        }
    }
    assert!(child.wait().unwrap().success() && !decision.is_null(), "the program ends with its test");
    decision
}

#[test]
fn foreign_loop_tests_two_prompts_for_a_loop_in_another_process() {
    let decision = converse(&[], |arm| if arm == "new" { 0.7 } else { 0.4 });
    assert_eq!(decision["verdict"], "accept");
    assert!(decision["evidence"][0]["p_value"].as_f64().unwrap() < 0.05);
    assert_eq!(converse(&[], |arm| if arm == "new" { 0.3 } else { 0.5 })["verdict"], "reject");
    let decision =
        converse(&["--candidates", "3", "--seed", "4"], |arm| if arm == "new1" { 0.8 } else { 0.4 });
    assert_eq!((&decision["verdict"], &decision["candidate"]), (&json!("accept"), &json!({"candidate": 1})));
    assert_eq!(decision["evidence"].as_array().unwrap().len(), 3);
}

#[test]
fn foreign_loop_refuses_bad_lines_and_arguments_with_code_2() {
    let refused = |arguments: &[&str], input: &str, fragments: &[&str]| {
        check_refused("foreign_loop", arguments, input, fragments);
    };
    refused(&[], "nonsense\n", &["line 1"]);
    refused(&[], "\n{\"asign\": {}}\n", &["line 2", "asign"]);
    refused(
        &[],
        "{\"record\": [{\"group\": 1, \"arm\": \"newer\", \"success\": true}]}\n",
        &["`newer`", "old, new"],
    );
    refused(&["--candidates", "0"], "", &["1 to 255"]);
    refused(&["--sed", "0"], "", &["--seed"]);
}

/// The rows of `operating_characteristics --json`.
fn characteristics(arguments: &[&str]) -> Vec<Value> {
    let output = run("operating_characteristics", arguments, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn operating_characteristics_print_the_published_table_again() {
    let rows = characteristics(&["--replications", "400", "--seed", "1", "--json"]);
    let row = |rule: &str, difficulty: &str, drift: bool, delta: f64| {
        let mut found = rows.iter().filter(|row| {
            row["rule"] == rule
                && row["difficulty"] == difficulty
                && (row["drift"].as_f64().unwrap() > 0.0) == drift
                && row["delta"] == delta
        });
        let row = found.next().unwrap();
        assert!(found.next().is_none(), "{rule} {difficulty} {drift} {delta} is there twice");
        (row["accept_rate"].as_f64().unwrap(), row["episodes"].as_f64().unwrap())
    };
    // Simulated elsewhere with 1,500 replications; 4 standard deviations of a share of 400, and 0.03.
    let table = [
        ("paper", "equal", [0.49, 0.89, 0.99]),
        ("pooled", "equal", [0.13, 0.47, 0.86]),
        ("stratified", "equal", [0.13, 0.46, 0.82]),
        ("paper", "mixed", [0.51, 0.92, 1.00]),
        ("pooled", "mixed", [0.10, 0.45, 0.86]),
        ("stratified", "mixed", [0.11, 0.65, 0.98]),
    ];
    for (rule, difficulty, cells) in table {
        for (delta, expected) in [0.0, 0.05, 0.10].into_iter().zip(cells) {
            let (got, episodes) = row(rule, difficulty, false, delta);
            let tolerance = 0.03 + 4.0 * (expected * (1.0 - expected) / 400.0_f64).sqrt();
            assert!((got - expected).abs() < tolerance, "{rule} {difficulty} {delta}: {got} {expected}");
            assert_eq!(episodes, 640.0);
        }
    }
    for difficulty in ["equal", "mixed"] {
        let (false_accepts, spent) = row("stratified_early", difficulty, false, 0.0);
        assert!(false_accepts < 0.12 + 4.0 * (0.12 * 0.88 / 400.0_f64).sqrt() && spent < 0.8 * 640.0);
        // The groups also keep the level where the policy gets better meanwhile.
        let (false_accepts, _) = row("stratified_early", difficulty, true, 0.0);
        assert!(false_accepts < 0.12 + 4.0 * (0.12 * 0.88 / 400.0_f64).sqrt());
        assert_eq!(row("auto_accept", difficulty, true, -0.05), (1.0, 0.0));
    }
    let (power, spent) = row("stratified_early", "mixed", false, 0.10);
    assert!(power > 0.93 && spent < 0.8 * 640.0, "{power} {spent}");
}

#[test]
fn operating_characteristics_depend_on_the_seed_alone() {
    let rows = |seed: &str| characteristics(&["--json", "--replications", "3", "--seed", seed]);
    assert_eq!(rows("9"), rows("9"));
    assert_ne!(rows("9"), rows("10"));
    check_refused("operating_characteristics", &["--replications", "0"], "", &["--replications"]);
    check_refused("operating_characteristics", &["--verbose"], "", &["--verbose", "--json"]);
}
