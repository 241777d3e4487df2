//! Checkpoints as a person meets them: runs killed at random moments, damaged files, a disk that is full, a folder that cannot
//! be written.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

mod common;

use common::{LIVELY, finished, reskill, said};

/// Twelve steps with checkpoints and evaluations in between.
const STEPS: &[&str] = &["grpo.steps=12", "eval.games_during=12", "eval.every=3", "checkpoint.every=2"];

fn small(out: &Path, more: &[&str]) -> Command {
    reskill(&["train", "--out", out.to_str().unwrap()], &[LIVELY, STEPS, more].concat())
}

fn resume(run: &Path, more: &[&str]) -> Command {
    let mut command = reskill(&["train", "--resume", run.to_str().unwrap()], &[]);
    command.args(more);
    command
}

/// The command must fail with exit code 2 and one line that holds all `fragments`.
fn check_refused(mut command: Command, fragments: &[&str]) {
    let output = command.output().unwrap();
    let message = said(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    let lines: Vec<&str> = message.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{message}");
    for fragment in fragments {
        assert!(lines[0].contains(fragment), "`{fragment}` is not in: {message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

/// What `file` holds, line by line, without what depends on the clock.
fn without_time(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let record = |line| {
        let mut record: Value = serde_json::from_str(line).unwrap();
        record.as_object_mut().unwrap().remove("time");
        record
    };
    text.lines().map(record).collect()
}

/// The state in the last checkpoint, without what depends on the clock: banks, running test, posteriors, reservoir, history.
fn state(run: &Path) -> Value {
    let path = run.join("checkpoints/2-done-000012/state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let inner = state["state"].as_object_mut().unwrap();
    for key in ["costs", "metrics_len", "episodes_len"] {
        inner.remove(key);
    }
    state
}

/// Weights, moments, bank, posteriors, history and metrics must be those of the run in one piece.
fn check_same(whole: &Path, parts: &Path) {
    assert_eq!(without_time(&whole.join("metrics.jsonl")), without_time(&parts.join("metrics.jsonl")));
    assert_eq!(without_time(&whole.join("history.jsonl")), without_time(&parts.join("history.jsonl")));
    assert_eq!(state(whole), state(parts));
    for file in ["policy.safetensors", "moment1.safetensors", "moment2.safetensors", "reference.safetensors"]
    {
        let bytes = |run: &Path| std::fs::read(run.join("checkpoints/2-done-000012").join(file)).unwrap();
        assert!(bytes(whole) == bytes(parts), "{file} differs");
    }
    let weights = |run: &Path| std::fs::read(run.join("policy/model.safetensors")).unwrap();
    assert!(weights(whole) == weights(parts), "the weights differ");
}

fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = entries
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(['0', '1', '2']))
        .collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A run that stopped at a checkpoint in the middle, by taking the end off a whole one.
fn stopped(whole: &Path, to: &Path) {
    copy(whole, to);
    std::fs::remove_dir_all(to.join("checkpoints/2-done-000012")).unwrap();
    std::fs::remove_dir_all(to.join("policy")).unwrap();
}

/// A seed that is different every time, and said if a test fails.
#[expect(clippy::print_stderr, reason = "a failure must be repeatable")]
fn random_seed() -> u64 {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    eprintln!("seed of the random moments and places: {seed}");
    seed
}

/// Kills a child after `delay`; whether it was still running.
fn kill_after(child: &mut Child, delay: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < delay {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let is_running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    is_running
}

#[test]
fn a_run_killed_three_times_at_random_moments_equals_the_run_in_one_piece() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let start = Instant::now();
    finished(small(&whole, &[]));
    let mut longest = start.elapsed();
    let mut rng = ChaCha8Rng::seed_from_u64(random_seed());
    let mut kills = 0;
    while kills < 3 {
        // A run that was killed before its configuration was there begins again.
        let is_begun = parts.join("config.toml").is_file();
        let mut child = if is_begun { resume(&parts, &[]) } else { small(&parts, &[]) }.spawn().unwrap();
        if kill_after(&mut child, longest.mul_f64(rng.random_range(0.0..1.0))) {
            kills += 1;
        } else {
            // It was faster than the first time: once more from the beginning, with earlier kills.
            std::fs::remove_dir_all(&parts).unwrap();
            (kills, longest) = (0, longest / 2);
        }
    }
    let is_begun = parts.join("config.toml").is_file();
    finished(if is_begun { resume(&parts, &[]) } else { small(&parts, &[]) });
    check_same(&whole, &parts);
    // The comparison compares something.
    assert!(without_time(&whole.join("history.jsonl")).len() > 3);
}

#[test]
fn flipped_bits_and_cut_files_are_named_and_the_checkpoint_before_goes_on_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    // All checkpoints are kept, so that there is one before.
    finished(small(&whole, &["checkpoint.keep=100"]));
    let mut rng = ChaCha8Rng::seed_from_u64(random_seed());
    let damaged = dir.path().join("damaged");
    stopped(&whole, &damaged);
    let latest = checkpoints(&damaged).pop().unwrap();
    let files: Vec<PathBuf> =
        std::fs::read_dir(&latest).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 6, "four files of tensors, the state, the manifest");
    for file in &files {
        let good = std::fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap().to_string();
        let places: Vec<usize> = (0..3).map(|_| rng.random_range(0..good.len())).collect();
        for place in places {
            let mut bytes = good.clone();
            bytes[place] ^= 1 << rng.random_range(0..8);
            std::fs::write(file, &bytes).unwrap();
            if name == "manifest.json"
                && bytes[place].is_ascii_whitespace()
                && good[place].is_ascii_whitespace()
            {
                continue;
            }
            check_refused(resume(&damaged, &[]), &[&name, "--from last-good"]);
        }
        let cut = rng.random_range(0..good.len());
        std::fs::write(file, &good[..cut]).unwrap();
        check_refused(resume(&damaged, &[]), &[&name, "--from last-good"]);
        std::fs::remove_file(file).unwrap();
        check_refused(resume(&damaged, &[]), &[&name, "--from last-good"]);
        check_refused(reskill(&["eval", damaged.to_str().unwrap()], &[]), &[&name, "--from last-good"]);
        std::fs::write(file, &good).unwrap();
    }
    let weights = latest.join("policy.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    let message = said(&finished(resume(&damaged, &["--from", "last-good"])));
    assert!(message.contains("passed over") && message.contains("policy.safetensors"), "{message}");
    check_same(&whole, &damaged);
    // What was passed over is still there.
    let aside = damaged.join("checkpoints/set-aside").join(latest.file_name().unwrap());
    assert_eq!(std::fs::read(aside.join("policy.safetensors")).unwrap(), bytes);
    // With nothing whole, that is said.
    for checkpoint in checkpoints(&damaged) {
        std::fs::remove_file(checkpoint.join("state.json")).unwrap();
    }
    check_refused(resume(&damaged, &["--from", "last-good"]), &["no whole checkpoint"]);
}

#[test]
fn a_run_goes_on_from_any_step_to_the_same_end_and_keeps_what_it_went_back_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, again) = (dir.path().join("whole"), dir.path().join("again"));
    finished(small(&whole, &["checkpoint.keep=100"]));
    copy(&whole, &again);
    let later = checkpoints(&again).len();
    let message = said(&finished(resume(&again, &["--from", "6"])));
    assert!(message.contains("steps aside"), "{message}");
    check_same(&whole, &again);
    assert_eq!(checkpoints(&again).len(), later);
    assert!(again.join("checkpoints/set-aside/2-done-000012/manifest.json").is_file());
    check_refused(resume(&again, &["--from", "7"]), &["--from 7", "there is no checkpoint of that step"]);
    check_refused(resume(&again, &["--from", "newest"]), &["--from", "last-good"]);
}

#[test]
fn the_best_checkpoint_is_kept_and_can_be_played() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    finished(small(&run, &["checkpoint.keep=1"]));
    // Success on the seen games after each evaluated step, with the bank.
    let metrics = without_time(&run.join("metrics.jsonl"));
    let evaluations = metrics.iter().filter(|record| {
        let is_live =
            record["phase"] == "during" || record["phase"] == "warm_start" || record["phase"] == "final";
        record["kind"] == "evaluation" && is_live && record["evaluation"]["split"] == "valid_seen"
    });
    let scores: Vec<(u64, f64)> = evaluations
        .map(|record| {
            let rate = record["evaluation"]["overall"]["rate"].as_f64().unwrap();
            (record["step"].as_u64().unwrap(), rate)
        })
        .collect();
    let best = scores.iter().fold(0.0_f64, |best, (_, rate)| best.max(*rate));
    // Of equals a checkpoint is made for the first alone, unless one was due anyway.
    let kept: Vec<String> = checkpoints(&run)
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let holds = |step: u64| {
        kept.iter().any(|name| [format!("1-step-{step:06}"), format!("2-done-{step:06}")].contains(name))
    };
    let held: Vec<f64> = scores.iter().filter(|(step, _)| holds(*step)).map(|(_, rate)| *rate).collect();
    assert!(held.contains(&best), "kept {kept:?} of {scores:?}");
    assert!(kept.len() <= 2, "one of the latest and one of the best: {kept:?}");
    let args =
        ["eval", run.to_str().unwrap(), "--from", "best", "--split", "seen", "--games", "12", "--json"];
    let output = finished(reskill(&args, &[]));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let played = &report["splits"][0]["played"][0]["success"]["mean"];
    assert!((played.as_f64().unwrap() - best).abs() < 1e-12, "{played} for {best}");
}

#[test]
fn a_full_disk_is_an_error_with_its_remedy_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    // Kept episodes would be the largest file.
    finished(small(&whole, &["log.episodes.every=0", "log.episodes.games=0"]));
    copy(&whole, &parts);
    std::fs::remove_dir_all(parts.join("checkpoints/2-done-000012")).unwrap();
    let before: Vec<(PathBuf, Vec<u8>)> = checkpoints(&parts)
        .into_iter()
        .map(|path| (path.join("state.json"), std::fs::read(path.join("state.json")).unwrap()))
        .collect();
    // A limit under which everything fits but the state of the run. The signal that comes with it is ignored, so that writing
    // fails as it does where the disk is full.
    let size = |path: PathBuf| std::fs::metadata(path).unwrap().len() >> 10;
    let latest = checkpoints(&parts).pop().unwrap();
    let kib = 16 + size(parts.join("metrics.jsonl")).max(size(latest.join("policy.safetensors")));
    assert!(size(latest.join("state.json")) > kib, "the state would fit into {kib} KiB");
    let limited = format!(
        "trap '' XFSZ; ulimit -f {kib}; exec '{}' train --resume '{}'",
        env!("CARGO_BIN_EXE_reskill-cli"),
        parts.display()
    );
    let mut command = Command::new("bash");
    command.args(["-c", &limited]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    check_refused(command, &["checkpoints/2-done-000012", "those before it stay", "ulimit -f"]);
    for (path, bytes) in &before {
        assert_eq!(&std::fs::read(path).unwrap(), bytes, "{} changed", path.display());
    }
    let left = std::fs::read_dir(parts.join("checkpoints")).unwrap();
    let left: Vec<String> =
        left.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
    finished(resume(&parts, &[]));
    check_same(&whole, &parts);
}

#[test]
fn a_folder_that_cannot_be_written_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    finished(small(&run, &["grpo.steps=2"]));
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    let mode = |path: &Path, mode: &str| {
        assert!(Command::new("chmod").args(["-R", mode]).arg(path).status().unwrap().success());
    };
    // A file that the person may read and not change.
    mode(dir.path(), "a+rX,a-w");
    // Permissions do not bind the administrator, so the command runs as nobody where the tests run as root.
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout.starts_with(b"0\n");
    let program = dir.path().join("program");
    mode(dir.path(), "u+w");
    std::fs::copy(env!("CARGO_BIN_EXE_reskill-cli"), &program).unwrap();
    mode(dir.path(), "a+rX,a-w");
    let as_nobody = |args: &[&str]| {
        let mut command = match is_root {
            true => Command::new("setpriv"),
            false => Command::new(&program),
        };
        if is_root {
            command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&program);
        }
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let remedy = "check the permissions";
    check_refused(as_nobody(&["train", "--resume", run.to_str().unwrap()]), &["metrics.jsonl", remedy]);
    let out = closed.join("run");
    let mut command = as_nobody(&["train", "--out", out.to_str().unwrap()]);
    for assignment in LIVELY {
        command.args(["--set", assignment]);
    }
    check_refused(command, &["closed/run", remedy]);
    mode(dir.path(), "u+w");
    finished(resume(&run, &[]));
}

#[test]
fn a_run_that_was_killed_before_its_first_checkpoint_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, early) = (dir.path().join("whole"), dir.path().join("early"));
    finished(small(&whole, &[]));
    std::fs::create_dir(&early).unwrap();
    std::fs::copy(whole.join("config.toml"), early.join("config.toml")).unwrap();
    let message = said(&finished(resume(&early, &[])));
    assert!(message.contains("the run begins anew"), "{message}");
    check_same(&whole, &early);
    // Killed while the configuration was written: the folder counts as empty.
    let first = dir.path().join("first");
    std::fs::create_dir(&first).unwrap();
    std::fs::write(first.join("config.tmp"), "seed = 0\n[gr").unwrap();
    finished(small(&first, &["grpo.steps=1"]));
}
