//! The command `train` as a person runs it: files, errors, interruption.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A run of seconds: few games, few steps, a small network.
const SMALL: &[&str] = &[
    "env.household.n_train=40",
    "env.household.n_seen=12",
    "env.household.n_unseen=12",
    "policy.model.hidden_size=32",
    "policy.model.intermediate_size=48",
    "policy.model.num_hidden_layers=1",
    "policy.model.num_attention_heads=2",
    "policy.model.num_key_value_heads=1",
    "policy.model.head_dim=16",
    "sft.episodes=48",
    "sft.epochs=2",
    "rollout.tasks_per_step=4",
    "rollout.group_size=4",
    "grpo.steps=8",
    "skills.reservoir.min=4",
    "skills.version_test.min_episodes=8",
    "skills.creator.offline.min_z=0.1",
    "eval.games=12",
    "eval.games_during=6",
    "eval.every=3",
    "checkpoint.every=2",
];

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn small(out: &Path, more: &[&str]) -> Command {
    let mut command = command(&["train", "--out", out.to_str().unwrap()]);
    for assignment in SMALL.iter().chain(more) {
        command.args(["--set", assignment]);
    }
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The records of `metrics.jsonl` without what depends on the clock.
fn records(run: &Path) -> Vec<Value> {
    let file = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    file.lines()
        .map(|line| {
            let mut record: Value = serde_json::from_str(line).unwrap();
            record.as_object_mut().unwrap().remove("time");
            record
        })
        .collect()
}

/// The command must fail with exit code 2 and one line that holds all `fragments`.
fn check_refused(mut command: Command, fragments: &[&str]) {
    let output = command.output().unwrap();
    let message = text(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    let lines: Vec<&str> = message.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{message}");
    for fragment in fragments {
        assert!(lines[0].contains(fragment), "`{fragment}` is not in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn a_run_leaves_all_its_files_and_a_summary_in_the_agreed_shape() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let output = small(&run, &[]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for file in
        ["config.toml", "metrics.jsonl", "history.jsonl", "report.html", "policy/tokenizer.json", "skills"]
    {
        assert!(run.join(file).exists(), "{file} is missing");
    }
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).unwrap()).unwrap();
    for split in ["seen", "unseen"] {
        for key in ["warm_start", "final", "final_bank_off"] {
            let rate = summary[split][key].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&rate), "{split}.{key} = {rate}");
        }
        assert_eq!(summary[split]["n_games"], 12);
    }
    assert_eq!(summary["seed"], 0);
    assert!(summary["seconds"].as_f64().unwrap() > 0.0);
    assert!(summary["peak_rss_bytes"].as_u64().unwrap() > 1 << 20);
    for version in summary["versions"].as_array().unwrap() {
        assert!(["accept", "reject"].contains(&version["verdict"].as_str().unwrap()), "{version}");
        assert!(version["step"].as_u64().unwrap() >= 1);
    }
    let mismatches = records(&run).into_iter().filter(|record| record["kind"] == "step");
    for record in mismatches {
        assert_eq!(record["update"]["sampler_mismatch"], 0.0, "sampler and trainer must agree to the bit");
        assert_eq!(record["invalid_fraction"], 0.0, "masked replies are always admissible");
    }
}

#[test]
fn two_runs_with_one_seed_differ_only_in_time_whatever_the_thread_count() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    assert!(small(&one, &["threads=1"]).output().unwrap().status.success());
    assert!(small(&two, &["threads=3"]).output().unwrap().status.success());
    assert_eq!(records(&one), records(&two));
    let weights = |run: &Path| std::fs::read(run.join("policy/model.safetensors")).unwrap();
    assert!(weights(&one) == weights(&two), "the weights differ");
}

#[test]
fn an_interrupted_run_goes_on_as_if_it_had_not_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    assert!(small(&whole, &[]).output().unwrap().status.success());
    // Once while it imitates, once while it trains.
    let mut child = small(&parts, &[]).spawn().unwrap();
    interrupt_when(&mut child, &parts, "\"kind\":\"warm_start\"", 1);
    let mut child = command(&["train", "--resume", parts.to_str().unwrap()]).spawn().unwrap();
    interrupt_when(&mut child, &parts, "\"kind\":\"step\"", 2);
    let output = command(&["train", "--resume", parts.to_str().unwrap()]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(records(&whole), records(&parts));
    for file in ["history.jsonl", "episodes.jsonl"] {
        let content = |run: &Path| std::fs::read_to_string(run.join(file)).unwrap();
        assert!(content(&whole) == content(&parts) && !content(&whole).is_empty(), "{file} differs");
    }
    let weights = |run: &Path| std::fs::read(run.join("policy/model.safetensors")).unwrap();
    assert!(weights(&whole) == weights(&parts), "the weights differ");
}

#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    assert!(small(&whole, &[]).output().unwrap().status.success());
    let mut command_line = small(&parts, &[]);
    for (fragment, count) in [("\"kind\":\"warm_start\"", 2), ("\"kind\":\"step\"", 5)] {
        let mut child = command_line.spawn().unwrap();
        wait_for(&mut child, &parts, fragment, count);
        child.kill().unwrap();
        child.wait().unwrap();
        command_line = command(&["train", "--resume", parts.to_str().unwrap()]);
    }
    let output = command_line.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(records(&whole), records(&parts));
    for file in ["policy/model.safetensors", "episodes.jsonl"] {
        let content = |run: &Path| std::fs::read(run.join(file)).unwrap();
        assert!(content(&whole) == content(&parts), "{file} differs");
    }
}

#[test]
fn a_run_can_begin_with_a_bank_of_skills() {
    let dir = tempfile::tempdir().unwrap();
    let skill = dir.path().join("bank/open-it");
    std::fs::create_dir_all(&skill).unwrap();
    let text_of_skill = "---\nname: open-it\ndescription: After a visit.\nmetadata:\n  reskill-trigger: action_pattern\n  \
                         reskill-pattern: ^go to\n---\nnext open\n";
    std::fs::write(skill.join("SKILL.md"), text_of_skill).unwrap();
    let run = dir.path().join("run");
    let bank = format!("bank={}", dir.path().join("bank").display());
    let output = small(&run, &["skills.mode=static", &bank]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["skills"][0], "open-it");
    assert_eq!(summary["versions"].as_array().unwrap().len(), 0);
}

/// Waits until `metrics.jsonl` holds `count` lines with `fragment`.
fn wait_for(child: &mut Child, run: &Path, fragment: &str, count: usize) {
    let start = Instant::now();
    loop {
        let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
        if metrics.lines().filter(|line| line.contains(fragment)).count() >= count {
            return;
        }
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
        assert!(start.elapsed() < Duration::from_secs(120), "no {fragment} after two minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends SIGINT once `metrics.jsonl` holds `count` lines with `fragment`; the run must stop with code 130.
fn interrupt_when(child: &mut Child, run: &Path, fragment: &str, count: usize) {
    wait_for(child, run, fragment, count);
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn without_skills_the_run_is_plain_grpo() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    assert!(small(&run, &["skills.mode=off"]).output().unwrap().status.success());
    let summary: Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["unseen"]["final_bank_off"], Value::Null);
    assert_eq!(summary["versions"].as_array().unwrap().len(), 0);
}

#[test]
fn tagged_free_text_replies_train_too() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let more = [
        "policy.prompt.action_format=tagged",
        "policy.prompt.list_admissible=true",
        "policy.model.max_position_embeddings=1024",
        "rollout.max_new_tokens=20",
        "grpo.steps=2",
    ];
    let output = small(&run, &more).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    for record in records(&run).into_iter().filter(|record| record["kind"] == "step") {
        assert_eq!(record["update"]["sampler_mismatch"], 0.0);
    }
}

#[test]
fn the_paper_layout_trains_too() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let more = [
        "policy.prompt.prompt_layout=paper",
        "policy.prompt.history_turns=4",
        "policy.prompt.action_format=tagged",
        "policy.model.max_position_embeddings=1024",
        "rollout.max_new_tokens=20",
        "rollout.max_turns=6",
        "grpo.steps=2",
    ];
    let output = small(&run, &more).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let steps: Vec<Value> = records(&run).into_iter().filter(|record| record["kind"] == "step").collect();
    assert_eq!(steps.len(), 2);
    for record in steps {
        assert_eq!(record["update"]["sampler_mismatch"], 0.0);
        // Nothing is reused: every turn runs its whole prompt.
        let tokens = &record["tokens"];
        assert!(
            tokens["run"].as_u64().unwrap() + 2_000 >= tokens["without_reuse"].as_u64().unwrap(),
            "{tokens}"
        );
        assert_eq!(record["overflowed"], 0);
    }
}

#[test]
fn wrong_keys_values_and_paths_are_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    check_refused(
        small(&out, &["rollout.group_sise=4"]),
        &["rollout", "group_sise", "did you mean `group_size`"],
    );
    check_refused(small(&out, &["grpo.loss.clip_low=1.5"]), &["--set", "loss.clip_low", "1.5", "(0, 1)"]);
    check_refused(small(&out, &["rollout.group_size=many"]), &["rollout.group_size", "many"]);
    check_refused(small(&out, &["rollout.max_turns=0"]), &["rollout.max_turns", "at least 1"]);
    check_refused(small(&out, &["policy.model.num_key_value_heads=3"]), &["num_attention_heads"]);
    check_refused(small(&out, &["env.name=alfworld"]), &["env.data"]);
    check_refused(small(&out, &["env.name=alfworld", "env.data=/nowhere"]), &["/nowhere"]);
    check_refused(small(&out, &["env.household.n_train=0"]), &["training games", "env"]);
    check_refused(small(&out, &["nonsense"]), &["key=value"]);
    check_refused(small(&out, &["log.episodes.groups=0"]), &["log", "episodes.groups", "at least 1"]);
    check_refused(small(&out, &["log.prometheus=here"]), &["log.prometheus"]);
    check_refused(small(&out, &["log.prometheus=192.0.2.1:1"]), &["log.prometheus", "another port"]);
    check_refused(small(&out, &["env.household.n_unseen=0"]), &["unseen games", "n_unseen"]);
    check_refused(small(&out, &["rollout.group_size=1"]), &["rollout.group_size", "both versions"]);
    check_refused(small(&out, &["skills.mode=static"]), &["`bank` is missing"]);
    check_refused(small(&out, &["rollout.temperature=1e-30"]), &["rollout.temperature"]);
    check_refused(small(&out, &["sft.avoid=['opem']"]), &["sft.avoid", "opem", "open"]);
    let guided = "sft.guided=[{closed_fraction=1.0, idle_fraction=0.0, tips=[{after='(', next='open'}]}]";
    check_refused(small(&out, &[guided]), &["sft.guided", "entry 1", "tips.after"]);
    check_refused(command(&["train", "--config", "/nowhere.toml"]), &["/nowhere.toml"]);
    check_refused(command(&["train", "--resume", dir.path().to_str().unwrap()]), &["not a run directory"]);
    let broken = dir.path().join("broken.toml");
    std::fs::write(&broken, "seed = 0\n[grpo\n").unwrap();
    check_refused(command(&["train", "--config", broken.to_str().unwrap()]), &["broken.toml", "line 2"]);
    assert!(!out.exists() || std::fs::read_dir(&out).unwrap().next().is_none(), "a refused run left files");
}

#[test]
fn a_directory_that_is_not_empty_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("thesis.tex"), "ten years").unwrap();
    check_refused(small(dir.path(), &[]), &["not empty", "--resume"]);
    assert_eq!(std::fs::read_to_string(dir.path().join("thesis.tex")).unwrap(), "ten years");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn damaged_game_files_and_checkpoints_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let games = dir.path().join("json_2.1.1/train/pick_and_place_simple-x/trial_1");
    std::fs::create_dir_all(&games).unwrap();
    std::fs::write(games.join("game.tw-pddl"), "{\"pddl_domain\": 3}").unwrap();
    let data = format!("env.data={}", dir.path().display());
    check_refused(small(&dir.path().join("out"), &["env.name=alfworld", &data]), &["game.tw-pddl"]);

    let run = dir.path().join("run");
    assert!(small(&run, &["grpo.steps=2"]).output().unwrap().status.success());
    let weights = run.join("checkpoints/2-done-000002").join("policy.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    check_refused(
        command(&["train", "--resume", run.to_str().unwrap()]),
        &["policy.safetensors", "checksum", "--from last-good"],
    );
}
