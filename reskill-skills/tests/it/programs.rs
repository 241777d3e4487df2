//! The example programs, run as programs.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

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
    let huge = replayed(json!({"strategy": "none", "tests": [{"steps": [{"new": [large, large], "old": [1, large]}]}]}));
    assert!(huge["tests"][0]["steps"][0]["p_new_better"].as_f64().unwrap() > 1.0 - 1e-12);
}

#[test]
fn version_test_json_refuses_bad_input_with_code_2() {
    let step = |new: &str| format!(r#"{{"strategy":"none","tests":[{{"steps":[{{"new":{new},"old":[1,2]}}]}}]}}"#);
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
    for new in ["[3,2]", "[-1,2]", "[1]", "[1,2,3]", "[0.5,2]", "[\"1\",2]", "null", "[0,9007199254740993]", "[0,1e30]"] {
        refused(&step(new), &["tests[0]", "steps[0].new", "m <= n"]);
    }
}
