//! `adapt` as a person runs it: frozen weights, a bank that evolves, success beside that without adaptation.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use reskill_model::Pretrained;
use serde_json::Value;

mod common;

use common::{LIVELY, finished, reskill, said};

/// Before the household changes, few things are closed or idle.
const TRAINED: &[&str] =
    &["env.household.closed_fraction=0.2", "env.household.idle_fraction=0.2", "grpo.steps=2"];

/// A changed household: everything closed.
const CHANGED: &[&str] =
    &["env.household.closed_fraction=1.0", "eval.every=2", "checkpoint.every=1", "checkpoint.keep=100"];

fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    let message = said(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(!message.contains("panicked"), "{message}");
    message
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
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

/// A trained run in `dir`.
fn trained(dir: &Path) -> PathBuf {
    let run = dir.join("trained");
    finished(reskill(&["train", "--out", run.to_str().unwrap()], &[LIVELY, TRAINED].concat()));
    run
}

#[test]
fn adaptation_changes_the_bank_and_no_weight_and_is_measured_against_the_bank_it_came_with() {
    let dir = tempfile::tempdir().unwrap();
    let (run, out) = (trained(dir.path()), dir.path().join("adapted"));
    let (run_path, out_path) = (run.to_str().unwrap(), out.to_str().unwrap());
    let weights = std::fs::read(run.join("policy/model.safetensors")).unwrap();
    let args = ["adapt", run_path, "--steps", "9", "--out", out_path, "--json"];
    let printed: Value = serde_json::from_slice(&finished(reskill(&args, CHANGED)).stdout).unwrap();
    assert!(
        weights == std::fs::read(run.join("policy/model.safetensors")).unwrap(),
        "the policy was changed"
    );
    let summary = json(&out.join("summary.json"));
    assert_eq!(printed, summary["adaptation"]);
    // Steps without updates, versions under test, a bank that is another in the end.
    let steps: Vec<Value> = records(&out).into_iter().filter(|record| record["kind"] == "step").collect();
    assert_eq!(steps.len(), 9);
    assert!(steps.iter().all(|record| record["update"].get("loss").is_none()));
    assert!(summary["versions"].as_array().unwrap().iter().any(|version| version["verdict"] == "accept"));
    let course = printed["course"].as_array().unwrap();
    let at: Vec<u64> = course.iter().map(|point| point["step"].as_u64().unwrap()).collect();
    assert_eq!(at, [0, 2, 4, 6, 8, 9]);
    assert_ne!(course[0]["skills"], course[5]["skills"]);
    // The first point is what `eval` says of the run in the changed household; the last is what it says of the adaptation.
    let eval = |path: &str, more: &[&str]| -> Value {
        let args = ["eval", path, "--games", "12", "--json"];
        serde_json::from_slice(&finished(reskill(&[&args[..], more].concat(), &CHANGED[..1])).stdout).unwrap()
    };
    let (before, after) = (eval(run_path, &["--seeds", "1"]), eval(out_path, &[]));
    for (index, split) in ["seen", "unseen"].into_iter().enumerate() {
        for (report, point) in [(&before, &course[0]), (&after, &course[5])] {
            let mean = report["splits"][index]["played"][0]["success"]["mean"].as_f64().unwrap();
            let rate = point["success"][split]["rate"].as_f64().unwrap();
            assert!((mean - rate).abs() < 1e-12, "{split}: {mean} and {rate}");
        }
        let rate = |point: &Value| point["success"][split]["rate"].as_f64().unwrap();
        let gain = printed["gain"][split]["mean"].as_f64().unwrap();
        assert!((gain - (rate(&course[5]) - rate(&course[0]))).abs() < 1e-12);
    }
    // A checkpoint of frozen weights holds none.
    let files = std::fs::read_dir(out.join("checkpoints/2-done-000009")).unwrap();
    let mut names: Vec<String> =
        files.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    assert_eq!(names, ["manifest.json", "state.json"]);
    // An adaptation can be adapted further.
    let further = dir.path().join("further");
    let args = ["adapt", out_path, "--steps", "1", "--out", further.to_str().unwrap()];
    finished(reskill(&args, &["eval.games=2"]));
    assert_eq!(json(&further.join("summary.json"))["adaptation"]["course"][0]["skills"], course[5]["skills"]);
}

#[test]
fn an_adaptation_that_was_killed_goes_on_to_the_same_end_and_with_no_other_policy() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path());
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let begin = |out: &Path| {
        let args = ["adapt", run.to_str().unwrap(), "--steps", "8", "--out", out.to_str().unwrap()];
        reskill(&args, CHANGED)
    };
    finished(begin(&whole));
    let mut child = begin(&parts).spawn().unwrap();
    let start = Instant::now();
    while records_so_far(&parts) < 4 {
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
        assert!(start.elapsed() < Duration::from_secs(120), "no fourth record after two minutes");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // Another policy in its place is refused.
    let weights = run.join("policy/model.safetensors");
    let good = std::fs::read(&weights).unwrap();
    let mut other = good.clone();
    *other.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, other).unwrap();
    let message = refused(reskill(&["adapt", "--resume", parts.to_str().unwrap()], &[]));
    assert!(message.contains("model.safetensors is not the file it was"), "{message}");
    std::fs::write(&weights, good).unwrap();
    finished(reskill(&["adapt", "--resume", parts.to_str().unwrap()], &[]));
    assert_eq!(records(&whole), records(&parts));
    let result = |run: &Path| json(&run.join("summary.json"))["adaptation"].clone();
    assert_eq!(result(&whole), result(&parts));
}

fn records_so_far(run: &Path) -> usize {
    std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().lines().count()
}

#[test]
fn words_that_a_small_policy_does_not_know_are_counted_named_and_refused_beyond_a_share() {
    let dir = tempfile::tempdir().unwrap();
    let (run, out) = (trained(dir.path()), dir.path().join("shop"));
    let args =
        ["adapt", run.to_str().unwrap(), "--config", "wands", "--steps", "1", "--out", out.to_str().unwrap()];
    let few = ["eval.games=2", "policy.vocabulary_games=10"];
    let message = refused(reskill(&args, &few));
    for fragment in ["the policy does not know", "option", "policy.max_unknown", "pretrained language model"]
    {
        assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
    }
    assert!(!out.exists(), "a refused adaptation left files");
    finished(reskill(&args, &[&few[..], &["policy.max_unknown=1.0"]].concat()));
    let unknown = &json(&out.join("summary.json"))["adaptation"]["unknown_words"];
    let share = unknown["unknown"].as_f64().unwrap() / unknown["words"].as_f64().unwrap();
    assert!(share > 0.2 && share < 1.0, "{unknown}");
    assert!(unknown["examples"].as_array().unwrap().len() > 3, "{unknown}");
}

#[test]
fn wrong_sources_and_settings_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let run = trained(dir.path());
    let path = run.to_str().unwrap();
    let message = refused(reskill(&["adapt", path], &["schedule=joint"]));
    assert!(message.contains("keeps the weights as they are"), "{message}");
    let message = refused(reskill(&["adapt", dir.path().to_str().unwrap()], &[]));
    assert!(message.contains("is not a run") && message.contains("--config"), "{message}");
    std::fs::rename(run.join("policy"), run.join("gone")).unwrap();
    let message = refused(reskill(&["adapt", path], &[]));
    assert!(message.contains("has no policy yet") && message.contains("--resume"), "{message}");
}

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

/// A household of few games with a few short turns.
const SHORT: &[&str] = &[
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
    "grpo.steps=1",
    "eval.games=2",
    "eval.every=0",
];

#[test]
fn a_pretrained_model_is_adapted_as_it_is_and_as_a_run_left_it_with_its_adapter_or_whole() {
    let dir = tempfile::tempdir().unwrap();
    let base = base(dir.path());
    // The model by itself, under a configuration.
    let config = dir.path().join("short.toml");
    let shown = finished(reskill(&["config", "show", "default"], &[SHORT, &["sft.steps=0"]].concat()));
    std::fs::write(&config, shown.stdout).unwrap();
    let (config, out) = (config.to_str().unwrap(), dir.path().join("plain"));
    let args = ["adapt", base.to_str().unwrap(), "--config", config, "--out", out.to_str().unwrap()];
    finished(reskill(&args, &[]));
    assert_eq!(json(&out.join("summary.json"))["adaptation"]["course"].as_array().unwrap().len(), 2);
    // What runs left of it: the replies of the adapted policy are those of the trained one.
    let path = format!("model.path={}", base.display());
    let (lora, merged) =
        (["model.lora.r=2", "sft.optimizer.learning_rate=0.05"], ["sft.optimizer.learning_rate=0.01"]);
    for (name, more) in [("lora", &lora[..]), ("whole", &merged[..])] {
        let (run, out) = (dir.path().join(name), dir.path().join(format!("{name}-adapted")));
        let settings = [SHORT, more, &[path.as_str()]].concat();
        finished(reskill(&["train", "--out", run.to_str().unwrap()], &settings));
        let args = ["adapt", run.to_str().unwrap(), "--steps", "1", "--out", out.to_str().unwrap()];
        finished(reskill(&args, &[]));
        let played = |run: &Path, phase: &str| {
            let of_phase = |record: &Value| record["kind"] == "evaluation" && record["phase"] == phase;
            let found: Vec<Value> = records(run).into_iter().filter(of_phase).collect();
            found.iter().map(|record| record["evaluation"]["mean_turns"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(played(&run, "final").len(), 2);
        assert_eq!(played(&run, "final"), played(&out, "warm_start"), "{name}");
        let config = std::fs::read_to_string(out.join("config.toml")).unwrap();
        let key = if name == "lora" { "adapter = " } else { "path = " };
        let holds = |line: &str| line.starts_with(key) && line.contains(&format!("{name}/policy"));
        assert!(config.lines().any(holds), "{config}");
    }
}
