//! Training of pretrained language models: a tiny checkpoint on household games, as a person runs it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use reskill_model::{Lora, Pretrained, Workspace};
use serde_json::Value;

const SMALL: &[&str] = &[
    "env.household.n_train=12",
    "env.household.n_seen=2",
    "env.household.n_unseen=2",
    "model.context=4000",
    "policy.prompt.list_admissible=true",
    "sft.episodes=4",
    "sft.epochs=1",
    "sft.batch_episodes=2",
    "sft.steps=2",
    "rollout.tasks_per_step=2",
    "rollout.group_size=2",
    "rollout.max_turns=3",
    "rollout.max_new_tokens=64",
    "grpo.steps=2",
    "eval.games=1",
    "eval.every=0",
    "checkpoint.every=1",
    "checkpoint.keep=9",
];

const LORA: &[&str] =
    &["model.lora.r=2", "sft.optimizer.learning_rate=0.01", "grpo.optimizer.learning_rate=0.01"];

/// A folder with a chat template, made of a checkpoint that has none.
fn base(dir: &Path) -> PathBuf {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../reskill-model/tests/fixtures/tiny-qwen3.gguf");
    let base = dir.join("base");
    let pretrained = Pretrained::open(&file).unwrap();
    pretrained.save(&pretrained.model().unwrap(), &base, &Default::default()).unwrap();
    let template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}\
                    {% if add_generation_prompt %}<assistant>{% endif %}";
    std::fs::write(base.join("chat_template.jinja"), template).unwrap();
    let config = base.join("config.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    json["max_position_embeddings"] = 4096.into();
    std::fs::write(&config, json.to_string()).unwrap();
    base
}

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.output().unwrap()
}

fn start(command: &str, base: &Path, out: &Path, more: &[&str], flags: &[&str]) -> Output {
    let path = format!("model.path={}", base.display());
    let mut args = vec![command, "--out", out.to_str().unwrap(), "--set", &path];
    args.extend(SMALL.iter().chain(more).flat_map(|assignment| ["--set", assignment]));
    args.extend(flags);
    run(&args)
}

fn check(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!message.contains("panicked"), "{message}");
    message
}

/// The records of `metrics.jsonl` without what depends on the clock.
fn records(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let record = |line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record.as_object_mut().unwrap().remove("time");
        record
    };
    text.lines().map(record).collect()
}

fn steps(run: &Path) -> Vec<Value> {
    records(run).into_iter().filter(|record| record["kind"] == "step").collect()
}

#[test]
fn an_adapter_trains_goes_on_after_a_stop_and_leaves_the_base_alone() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let before = std::fs::read(base.join("model.safetensors")).unwrap();
    let whole = dir.path().join("whole");
    check(&start("train", &base, &whole, LORA, &[]));
    for step in steps(&whole) {
        assert_eq!(step["update"]["optimizer_steps"], 1, "{step}");
        assert_eq!(step["invalid_fraction"], 0.0, "masked replies are always admissible");
        // Panels add in another order.
        assert!(step["update"]["sampler_mismatch"].as_f64().unwrap() < 1e-3, "{step}");
    }
    assert_eq!(before, std::fs::read(base.join("model.safetensors")).unwrap());
    let pretrained = Pretrained::open(&base).unwrap();
    let adapter = Lora::load(pretrained.config(), &whole.join("policy")).unwrap();
    assert!(adapter.tensors().iter().any(|tensor| tensor.as_slice().iter().any(|&x| x != 0.0)));
    // A checkpoint holds adapter and moments, not the weights beside them.
    let checkpoint = whole.join("checkpoints/1-step-000001");
    let names = std::fs::read_dir(&checkpoint).unwrap().map(|entry| entry.unwrap());
    let largest = names.filter(|entry| entry.path().extension().is_some_and(|it| it == "safetensors"));
    let largest = largest.map(|entry| entry.metadata().unwrap().len()).max().unwrap();
    assert!(largest < before.len() as u64 / 2, "{largest} of {}", before.len());
    // The same run, cut after its first step.
    let parts = dir.path().join("parts");
    copy(&whole, &parts);
    for name in ["1-step-000002", "2-done-000002"] {
        std::fs::remove_dir_all(parts.join("checkpoints").join(name)).unwrap();
    }
    std::fs::remove_dir_all(parts.join("policy")).unwrap();
    check(&run(&["train", "--resume", parts.to_str().unwrap()]));
    assert_eq!(records(&whole), records(&parts));
    let weights = |run: &Path| std::fs::read(run.join("policy/adapter_model.safetensors")).unwrap();
    assert_eq!(weights(&whole), weights(&parts));
    // With another base it does not go on.
    std::fs::write(base.join("generation_config.json"), "{}").unwrap();
    let message = refused(&run(&["train", "--resume", parts.to_str().unwrap()]));
    assert!(message.contains("generation_config.json is not the file it was"), "{message}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            drop(std::fs::copy(entry.path(), target))
        }
    }
}

#[test]
fn the_reference_of_an_adapter_is_the_model_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    // A fresh adapter computes what the model computes: no divergence before the first optimizer step.
    let fresh = dir.path().join("fresh");
    let one_step = ["sft.steps=1", "grpo.steps=1", "model.storage=none", "sft.optimizer.warmup_steps=0"];
    let still = [&one_step[..], &["sft.optimizer.learning_rate=1e-30", "model.lora.r=2"]].concat();
    check(&start("train", &base, &fresh, &still, &[]));
    assert_eq!(steps(&fresh)[0]["update"]["ref_kl"], 0.0);
    assert_eq!(steps(&fresh)[0]["update"]["sampler_mismatch"], 0.0);
    // One that was trained before differs from it; a copy made after the warm start would not.
    let trained = dir.path().join("trained");
    let moved = [&one_step[..], &["sft.optimizer.learning_rate=0.05", "model.lora.r=2"]].concat();
    check(&start("train", &base, &trained, &moved, &[]));
    assert!(steps(&trained)[0]["update"]["ref_kl"].as_f64().unwrap() > 1e-6);
}

#[test]
fn all_weights_train_with_free_text_and_recomputing_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let settings = ["policy.prompt.action_format=tagged", "rollout.max_turns=2", "model.storage=bf16"];
    let (kept, again) = (dir.path().join("kept"), dir.path().join("again"));
    check(&start("train", &base, &kept, &settings, &[]));
    check(&start("train", &base, &again, &[&settings[..], &["model.recompute=true"]].concat(), &[]));
    assert_eq!(records(&kept), records(&again));
    let weights = |run: &Path| std::fs::read(run.join("policy/model.safetensors")).unwrap();
    assert!(weights(&kept) == weights(&again), "the weights differ");
    assert!(weights(&kept) != std::fs::read(base.join("model.safetensors")).unwrap(), "nothing was learned");
    assert!(kept.join("policy/tokenizer.json").is_file() && kept.join("policy/config.json").is_file());
}

#[test]
fn sft_writes_an_adapter_or_weights_with_it_that_compute_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let (apart, merged) = (dir.path().join("apart"), dir.path().join("merged"));
    check(&start("sft", &base, &apart, LORA, &["--steps", "2"]));
    check(&start("sft", &base, &merged, LORA, &["--steps", "2", "--merge"]));
    let kinds = |run: &Path, kind: &str| records(run).iter().filter(|record| record["kind"] == kind).count();
    assert_eq!((kinds(&apart, "warm_start"), kinds(&apart, "step")), (2, 0));
    assert!(apart.join("summary.json").is_file() && apart.join("report.html").is_file());
    let pretrained = Pretrained::open(&base).unwrap();
    let mut beside = pretrained.model().unwrap();
    let plain = hidden(&beside);
    beside.attach(Lora::load(pretrained.config(), &apart.join("policy")).unwrap()).unwrap();
    let added = Pretrained::open(&merged.join("policy")).unwrap().model().unwrap();
    let (beside, added) = (hidden(&beside), hidden(&added));
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(distance(&beside, &added) < 1e-4, "{}", distance(&beside, &added));
    assert!(distance(&beside, &plain) > 1e-3, "nothing was learned");
}

fn hidden(model: &reskill_model::Transformer) -> Vec<f32> {
    let batch = reskill_model::PackedBatch::causal(&[1, 2, 3, 4]).unwrap();
    let mut workspace = Workspace::new(model.config()).unwrap();
    model.forward(&mut workspace, &batch).unwrap().as_slice().to_vec()
}

#[test]
fn wrong_models_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    let out = dir.path().join("out");
    let message = refused(&start("train", &base, &out, &["model.lora.rank=2"], &[]));
    assert!(message.contains("model.lora.rank") || message.contains("unknown field `rank`"), "{message}");
    let message = refused(&start("train", &base, &out, &["model.lora.r=0"], &[]));
    assert!(message.contains("lora.r"), "{message}");
    let message = refused(&start("train", &dir.path().join("none"), &out, &[], &[]));
    assert!(message.contains("model.path"), "{message}");
    let message = refused(&start("sft", Path::new(""), &out, &["model.lora=true"], &[]));
    assert!(message.contains("`model.lora` is set"), "{message}");
    let message = refused(&start("train", &base, &out, &["model.context=40"], &[]));
    assert!(message.contains("model.context"), "{message}");
    std::fs::remove_file(base.join("tokenizer.json")).unwrap();
    let message = refused(&start("train", &base, &dir.path().join("out2"), &[], &[]));
    assert!(message.contains("tokenizer"), "{message}");
}
