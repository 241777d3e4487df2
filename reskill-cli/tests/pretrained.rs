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
fn generate_repeats_itself_at_a_seed_and_talks_until_it_is_told_to_quit() {
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
    let talk = |args: &[&str], messages: &str| {
        let output = run(args, messages);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let count = |said: &[u8]| said.iter().filter(|&&byte| byte == b'\n').count();
    // Empty lines are no messages, and nothing is read after the end.
    assert_eq!(count(&talk(&args, "one\n\ntwo\n/quit\nthree\n")), 2);
    assert_eq!(count(&talk(&args, "")), 0);
    // A conversation that begins again knows nothing of the one before.
    let greedy = [&args[..], &["--temperature", "0"]].concat();
    let one = talk(&greedy, "one\n");
    assert_eq!(talk(&greedy, "one\n/new\none\n"), [one.as_slice(), &one].concat());
    // A message that does not fit ends a conversation that nobody sits at.
    let full = run(&[&args[..], &["--context", "6"]].concat(), "the Moon the Moon the Moon\n");
    assert_eq!(full.status.code(), Some(2));
    let message = String::from_utf8(full.stderr).unwrap();
    assert!(message.contains("does not fit the context of 6"), "{message}");
}

/// Log-probabilities of `ids` after the first, from logits.
fn logprobs(logits: &Value, ids: &Value) -> Vec<f64> {
    let rows: Vec<Vec<f64>> = serde_json::from_value(logits.clone()).unwrap();
    let ids: Vec<usize> = serde_json::from_value(ids.clone()).unwrap();
    let log_sum = |row: &[f64]| row.iter().map(|x| x.exp()).sum::<f64>().ln();
    rows.iter().zip(&ids[1..]).map(|(row, &id)| row[id] - log_sum(row)).collect()
}

#[test]
fn score_with_an_adapter_of_peft_prints_what_peft_computes() {
    let expected: Value =
        serde_json::from_str(&std::fs::read_to_string(fixture("adapter/expected.json")).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ids.json");
    std::fs::write(&file, serde_json::json!([expected["tokens"]]).to_string()).unwrap();
    let (model, adapter) = (fixture("parity/llama"), fixture("adapter"));
    let args = ["score", "--model", model.to_str().unwrap(), "--ids-file", file.to_str().unwrap()];
    let scored = |more: &[&str]| {
        let line = lines(&run(&[&args[..], more].concat(), "")).remove(0);
        let all: Vec<Option<f64>> = serde_json::from_value(line["logprobs"].clone()).unwrap();
        all.into_iter().flatten().collect::<Vec<f64>>()
    };
    let want = logprobs(&expected["logits"], &expected["tokens"]);
    let got = scored(&["--adapter", adapter.to_str().unwrap()]);
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(&want) {
        // Logits of size 4 in f32 on both sides, as in the parity of the model.
        assert!((got - want).abs() <= 4e-5, "{got} for {want}");
    }
    let plain = scored(&[]);
    let moved = plain.iter().zip(&want).map(|(plain, want)| (plain - want).abs()).fold(0.0, f64::max);
    assert!(moved > 0.01, "the adapter changes next to nothing: {moved}");
}

#[test]
fn generate_with_an_adapter_writes_what_the_merged_model_writes() {
    use rand::{RngExt, SeedableRng};
    use reskill_model::{Lora, LoraConfig, Pretrained};

    let dir = tempfile::tempdir().unwrap();
    let (adapter, merged) = (dir.path().join("adapter"), dir.path().join("merged"));
    let gguf = fixture("tiny-qwen3.gguf");
    let pretrained = Pretrained::open(&gguf).unwrap();
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let mut lora = Lora::init(pretrained.config(), &LoraConfig::default(), &mut rng).unwrap();
    for factor in lora.tensors_mut() {
        factor.as_mut_slice().iter_mut().for_each(|x| *x = 0.2 * (rng.random::<f32>() - 0.5));
    }
    lora.save(&adapter, "tiny-qwen3.gguf").unwrap();
    let mut model = pretrained.model().unwrap();
    model.attach(lora).unwrap();
    model.merge_adapter().unwrap();
    pretrained.save(&model, &merged, &Default::default()).unwrap();
    let say = |model: &Path, more: &[&str]| {
        let model = model.to_str().unwrap();
        let args =
            ["generate", "--model", model, "--prompt", "the", "--max-new-tokens", "12", "--temperature", "0"];
        let output = run(&[&args[..], more].concat(), "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let with_adapter = say(&gguf, &["--adapter", adapter.to_str().unwrap()]);
    assert_eq!(with_adapter, say(&merged, &[]));
    assert_ne!(with_adapter, say(&gguf, &[]));
}

#[test]
fn an_adapter_that_is_not_for_the_model_is_refused_by_file_and_field() {
    let dir = tempfile::tempdir().unwrap();
    let ids = dir.path().join("ids.json");
    std::fs::write(&ids, "[[1,2]]").unwrap();
    let refused = |model: &str, adapter: &Path| {
        let model = fixture(model);
        let args =
            ["score", "--model", model.to_str().unwrap(), "--ids-file", ids.to_str().unwrap(), "--adapter"];
        let output = run(&[&args[..], &[adapter.to_str().unwrap()]].concat(), "");
        assert_eq!(output.status.code(), Some(2));
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(message.trim_end().lines().count(), 1, "{message}");
        message
    };
    let message = refused("parity/llama", dir.path());
    assert!(message.contains("no adapter_config.json is there; of a run"), "{message}");
    let message = refused("parity/qwen3", &fixture("adapter"));
    assert!(message.contains("adapter_model.safetensors: it was made for a model whose "), "{message}");
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(fixture("adapter/adapter_model.safetensors"), copy.join("adapter_model.safetensors"))
        .unwrap();
    let config = std::fs::read_to_string(fixture("adapter/adapter_config.json")).unwrap();
    std::fs::write(copy.join("adapter_config.json"), config.replace("\"r\": 3", "\"r\": 4")).unwrap();
    let message = refused("parity/llama", &copy);
    assert!(message.contains("`r` = 4 in adapter_config.json, but the factors have rank 3"), "{message}");
}
