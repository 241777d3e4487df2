//! `bench kernels`, `ceilings`, `prefill`, `decode` and `train` as people and programs run them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reskill-cli")).arg("bench").args(args).output().unwrap()
}

/// The JSON lines of a command that succeeds.
fn lines(args: &[&str]) -> Vec<Value> {
    let output = bench(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const SMALL: [&str; 6] = ["--sizes", "tiny", "--quick", "--rounds", "2", "--json"];

#[test]
fn every_operation_is_right_and_beside_its_floor() {
    let lines = lines(&[&["kernels", "--rows", "9"][..], &SMALL].concat());
    assert_eq!(lines[0]["bench"], "ceilings");
    let mut ops: Vec<&str> = Vec::new();
    for line in &lines[1..] {
        assert_eq!(line["right"], true, "{line}");
        assert!(
            line["floor_seconds"].as_f64().unwrap() > 0.0
                && line["seconds"]["median"].as_f64().unwrap() > 0.0
        );
        assert!(line["machine"]["seed"].is_u64() && line["machine"]["device"] == "cpu");
        ops.push(line["op"].as_str().unwrap());
    }
    // Each one hot and cold.
    ops.dedup();
    assert_eq!((ops.len(), lines.len() - 1), (34, 68));
    assert!(ops.contains(&"linear_logprob_backward") && ops.contains(&"attention_backward"));
}

#[test]
fn a_filter_chooses_and_a_seed_repeats() {
    let run = || lines(&[&["kernels", "--filter", "^adamw", "--seed", "7"][..], &SMALL].concat());
    let (first, second) = (run(), run());
    assert_eq!(first.len(), 5);
    for (first, second) in first[1..].iter().zip(&second[1..]) {
        assert_eq!((&first["op"], &first["error"]), (&second["op"], &second["error"]));
    }
}

#[test]
fn the_roofline_names_what_it_draws() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("roofline.svg");
    lines(
        &[&["kernels", "--filter", "rms_norm|matmul_out", "--plot", file.to_str().unwrap()][..], &SMALL]
            .concat(),
    );
    let svg = std::fs::read_to_string(file).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"));
    for name in ["rms_norm_forward: ", "rms_norm_backward: ", "matmul_out: ", "operations per byte"] {
        assert!(svg.contains(name), "{name}");
    }
}

#[test]
fn whole_models_are_measured_in_tokens_a_second() {
    for command in [&["prefill"][..], &["decode", "--steps", "2", "--batch", "2"], &["train"]] {
        let lines = lines(&[command, &["--tokens", "12"], &SMALL].concat());
        assert_eq!((lines.len(), &lines[0]["bench"]), (1, &Value::from(command[0])));
        assert!(lines[0]["tokens_per_second"].as_f64().unwrap() > 0.0);
        assert!(lines[0]["fraction_of_floor"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn what_cannot_be_measured_is_refused_in_one_line() {
    let refused = |args: &[&str], words: &str| {
        let output = bench(args);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && text.trim_end().lines().count() == 1 && text.contains(words),
            "{text}"
        );
    };
    refused(&["kernels", "--dtype", "bf16"], "the CPU computes in f32");
    refused(&["kernels", "--filter", "("], "is no regular expression");
    refused(&["kernels", "--rows", "0"], "expected 1 or more");
    refused(&["ceilings", "--rounds", "1"], "expected 2 or more");
    refused(&["kernels", "--device", "gpu"], "`gpu` is not known");
    refused(&["decode", "--batch", "0"], "at least 1");
}
