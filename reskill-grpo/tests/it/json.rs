//! The examples for other languages: what they print, their defaults, and what they refuse. `cargo test` builds them beside
//! the tests; `--test it` alone needs `--examples` with it.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Cargo builds the examples beside the tests.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(std::path::Path::parent).unwrap();
    profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

fn run(name: &str, input: &str) -> (Option<i32>, String, String) {
    let mut child = Command::new(example(name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; add --examples", example(name).display()));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn printed(name: &str, input: &Value) -> Value {
    let (code, out, err) = run(name, &input.to_string());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{input}");
    serde_json::from_str(&out).unwrap()
}

/// Logits 0, ln 2, ln 5: probabilities 1/8, 2/8, 5/8 for the first token and the other way round for the second.
fn tokens() -> Value {
    json!({
        "hidden": [[1.0], [-1.0]],
        "lm_head": [[0.0], [2.0_f64.ln()], [5.0_f64.ln()]],
        "targets": [1, 1],
        "old_logprobs": [(0.25_f64 / 1.5).ln(), -1.0],
        "ref_logprobs": null,
        "advantages": [2.0, 1.0],
        "loss_mask": [1, 0],
        "seq_ids": [7, -3],
        "config": {},
    })
}

fn close(got: &Value, want: f64) {
    let got = got.as_f64().unwrap();
    assert!((got - want).abs() < 1e-6, "{got} for {want}");
}

#[test]
fn loss_json_prints_hand_computed_numbers_with_its_defaults() {
    // Ratio 1.5, advantage 2: clipped at 1.2, no gradient.
    let clipped = printed("loss_json", &tokens());
    close(&clipped["loss"], -2.4);
    close(&clipped["logprobs"][0], 0.25_f64.ln());
    // The second row has probabilities 1, 1/2, 1/5 over 1.7.
    close(&clipped["logprobs"][1], (0.5_f64 / 1.7).ln());
    assert_eq!(clipped["entropy"].as_array().unwrap().len(), 2);
    close(&clipped["d_hidden"][0][0], 0.0);
    // A wider clip: -r A, and by the logits -3 ([v = 1] - p), by the hidden state those times the head.
    let mut wide = tokens();
    wide["config"] = json!({"clip_high": 1.0});
    let free = printed("loss_json", &wide);
    close(&free["loss"], -3.0);
    let want = [3.0 * 0.125, -3.0 * 0.75, 3.0 * 0.625];
    want.iter().enumerate().for_each(|(v, &want)| close(&free["d_lm_head"][v][0], want));
    close(&free["d_hidden"][0][0], want[1] * 2.0_f64.ln() + want[2] * 5.0_f64.ln());
    close(&free["d_hidden"][1][0], 0.0);
    // The penalty against a reference.
    let mut far = wide.clone();
    far["ref_logprobs"] = json!([(0.5_f64).ln(), 0.0]);
    far["config"] = json!({"clip_high": 1.0, "kl_coef": 0.5, "kl": "k1"});
    close(&printed("loss_json", &far)["loss"], -3.0 + 0.5 * (0.25_f64.ln() - 0.5_f64.ln()));
}

#[test]
fn loss_json_takes_extreme_ratios_empty_masks_and_no_tokens() {
    let mut extreme = tokens();
    extreme["old_logprobs"] = json!([-400.0, 0.0]);
    extreme["advantages"] = json!([-1.0, 0.0]);
    let out = printed("loss_json", &extreme);
    let want = (400.0 + 0.25_f64.ln()).exp();
    assert!((out["loss"].as_f64().unwrap() / want - 1.0).abs() < 1e-4);
    assert!((out["d_lm_head"][1][0].as_f64().unwrap() / (0.75 * want) - 1.0).abs() < 1e-4);
    let mut masked = tokens();
    masked["loss_mask"] = json!([false, false]);
    for aggregation in ["token_mean", "seq_mean_token_sum", "seq_mean_token_mean"] {
        masked["config"] = json!({"aggregation": aggregation, "ratio": "sequence"});
        let out = printed("loss_json", &masked);
        assert_eq!((&out["loss"], &out["d_hidden"]), (&json!(0.0), &json!([[0.0], [0.0]])));
    }
    let empty = json!({
        "hidden": [], "lm_head": [[1.0, 2.0]], "targets": [], "old_logprobs": [], "ref_logprobs": [], "advantages": [],
        "loss_mask": [], "seq_ids": [],
    });
    let out = printed("loss_json", &empty);
    assert_eq!((&out["loss"], &out["d_lm_head"]), (&json!(0.0), &json!([[0.0, 0.0]])));
}

#[test]
fn loss_json_refuses_bad_input_in_one_line_with_exit_code_2() {
    let refused = |edit: &dyn Fn(&mut Value), fragment: &str| {
        let mut input = tokens();
        edit(&mut input);
        let (code, out, err) = run("loss_json", &input.to_string());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{input}");
        assert!(err.starts_with("error: ") && err.contains(fragment) && err.lines().count() == 1, "{err}");
    };
    refused(&|it| it["hidden"][0] = json!([1.0, 2.0]), "row 0 of `hidden` has 2 numbers, expected 1");
    refused(&|it| it["hidden"][0] = json!([1e300]), "which is no f32");
    refused(&|it| it["lm_head"] = json!([]), "`lm_head` is empty");
    refused(&|it| it["targets"][0] = json!(3), "`targets` = 3");
    refused(&|it| it["targets"][0] = json!(-1), "no such JSON");
    refused(&|it| it["advantages"] = json!([1.0]), "`advantages` has 1 entries, expected 2");
    refused(&|it| it["loss_mask"][0] = json!(0.5), "`loss_mask` is 0.5, expected 0 or 1");
    refused(&|it| it["config"] = json!({"kl_coef": 0.1}), "`ref_logprobs` is missing");
    refused(&|it| it["config"] = json!({"clip": 0.1}), "unknown field `clip`");
    refused(&|it| it["config"] = json!({"temperature": 0}), "`config.temperature` = 0");
    refused(&|it| it["config"] = json!({"clip_low": -0.1}), "`config.clip_low` = -0.1");
    refused(&|it| it["config"] = json!({"aggregation": "constant"}), "`config.constant` is missing");
    refused(&|it| it["config"] = json!({"kl": "k4"}), "k4");
    refused(&|it| it["old_logprobs"][0] = json!("x"), "no such JSON");
    let (code, _, err) = run("loss_json", "{");
    assert!(code == Some(2) && err.starts_with("error: "), "{err}");
}

#[test]
fn advantages_json_prints_hand_computed_numbers_and_refuses_bad_input() {
    let out = printed("advantages_json", &json!({"returns": [1, 0, 5], "groups": [0, 0, 9]}));
    close(&out[0], std::f64::consts::FRAC_1_SQRT_2 / (1.0 + 1e-6 * std::f64::consts::SQRT_2));
    assert_eq!(out[2], 0.0);
    let raw = json!({"returns": [1, 0, 5], "groups": ["a", "a", "b"], "config": {"std": "none", "eps": 0, "singleton": "raw"}});
    assert_eq!(printed("advantages_json", &raw), json!([0.5, -0.5, 5.0]));
    assert_eq!(printed("advantages_json", &json!({"returns": [], "groups": []})), json!([]));
    for (input, fragment) in [
        (r#"{"returns": [1], "groups": [0, 1]}"#, "`returns` has 1 entries, `groups` has 2"),
        (r#"{"returns": [null], "groups": [0]}"#, "no such JSON"),
        (r#"{"returns": [1e999], "groups": [0]}"#, "no such JSON"),
        (r#"{"returns": [1], "groups": [0], "config": {"eps": -1}}"#, "eps"),
        (r#"{"returns": [1], "groups": [0], "config": {"std": "batch"}}"#, "batch"),
    ] {
        let (code, out, err) = run("advantages_json", input);
        assert_eq!((code, out.as_str()), (Some(2), ""), "{input}");
        assert!(err.starts_with("error: ") && err.contains(fragment), "{err}");
    }
}
