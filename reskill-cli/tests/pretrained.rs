//! The commands `score` and `generate` as a person runs them, on tiny checkpoints.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../reskill-model/tests/fixtures").join(name)
}

fn run(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_reskill-cli"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn score_prints_a_line_for_each_text_and_list_of_ids() {
    let dir = tempfile::tempdir().unwrap();
    let (texts, ids) = (dir.path().join("texts"), dir.path().join("ids.json"));
    std::fs::write(&texts, "the Moon\n\n12345\n").unwrap();
    let model = fixture("tiny-llama.gguf");
    let model = model.to_str().unwrap();
    let scored = lines(&run(&["score", "--model", model, "--text-file", texts.to_str().unwrap()], ""));
    assert_eq!(scored.len(), 3);
    // This tokenizer puts one token before each text, so an empty line is one token.
    assert_eq!(scored[1]["ids"].as_array().unwrap().len(), 1);
    assert_eq!(scored[1]["logprobs"], serde_json::json!([null]));
    for line in &scored {
        let (ids, logprobs) = (line["ids"].as_array().unwrap(), line["logprobs"].as_array().unwrap());
        assert_eq!(ids.len(), logprobs.len());
        assert!(logprobs[0].is_null() && logprobs[1..].iter().all(|x| x.as_f64().unwrap() < 0.0));
    }
    let lists: Vec<&Value> = scored.iter().map(|line| &line["ids"]).collect();
    std::fs::write(&ids, serde_json::to_string(&lists).unwrap()).unwrap();
    assert_eq!(lines(&run(&["score", "--model", model, "--ids-file", ids.to_str().unwrap()], "")), scored);
    // A folder without a tokenizer scores ids.
    std::fs::write(&ids, "[[1,2,3],[]]").unwrap();
    let folder = fixture("parity/qwen2-sharded");
    let args = ["score", "--model", folder.to_str().unwrap(), "--ids-file", ids.to_str().unwrap()];
    let scored = lines(&run(&args, ""));
    assert_eq!(scored[1], serde_json::json!({ "ids": [], "logprobs": [] }));
    assert_eq!(scored[0]["logprobs"].as_array().unwrap().len(), 3);
}

#[test]
fn score_names_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids.json");
    std::fs::write(&ids, "[[1,61]]").unwrap();
    let folder = fixture("parity/llama");
    let output =
        run(&["score", "--model", folder.to_str().unwrap(), "--ids-file", ids.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("text 1 cannot be scored: embedding_forward: `tokens` = 61, expected < 61"),
        "{message}"
    );
    let output = run(&["score", "--model", "./no/such", "--ids-file", ids.to_str().unwrap()], "");
    assert!(String::from_utf8(output.stderr).unwrap().contains("no/such: cannot be read"));
}

#[test]
fn generate_repeats_itself_at_a_seed_and_talks_until_an_empty_line() {
    let model = fixture("tiny-qwen3.gguf");
    let model = model.to_str().unwrap();
    let say = |more: &[&str]| {
        let args = ["generate", "--model", model, "--prompt", "the", "--max-new-tokens", "12"];
        let output = run(&[&args[..], more].concat(), "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert_eq!(say(&["--seed", "5"]), say(&["--seed", "5"]));
    assert_ne!(say(&["--seed", "5", "--temperature", "1"]), say(&["--seed", "6", "--temperature", "1"]));
    assert_eq!(say(&["--temperature", "0", "--seed", "1"]), say(&["--top-k", "1", "--seed", "2"]));
    let plain = String::from_utf8(say(&["--seed", "5"])).unwrap();
    let line: Value = serde_json::from_slice(&say(&["--seed", "5", "--json"])).unwrap();
    assert_eq!(line["text"].as_str().unwrap(), plain.trim_end_matches('\n'));
    let (ids, logprobs) = (line["ids"].as_array().unwrap(), line["logprobs"].as_array().unwrap());
    assert!(ids.len() == logprobs.len() && logprobs.iter().all(|x| x.as_f64().unwrap() <= 0.0), "{line}");
    let refused = run(&["generate", "--model", model, "--chat"], "hello\n\n");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("has no chat template"));
    let refused = run(&["generate", "--model", model, "--prompt", "the", "--top-p", "2"], "");
    assert!(String::from_utf8(refused.stderr).unwrap().contains("`top_p` = 2, expected a number in (0, 1]"));
    // The same checkpoint as a folder, with a template.
    let dir = tempfile::tempdir().unwrap();
    let pretrained = reskill_model::Pretrained::open(Path::new(model)).unwrap();
    pretrained.save(&pretrained.model().unwrap(), dir.path(), &Default::default()).unwrap();
    let template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    std::fs::write(dir.path().join("chat_template.jinja"), template).unwrap();
    let folder = dir.path().to_str().unwrap();
    let args = ["generate", "--model", folder, "--chat", "--max-new-tokens", "4", "--stop", "\n"];
    let talk = run(&args, "one\ntwo\n\nthree\n");
    assert!(talk.status.success(), "{}", String::from_utf8_lossy(&talk.stderr));
    assert_eq!(talk.stdout.iter().filter(|&&byte| byte == b'\n').count(), 2);
}
