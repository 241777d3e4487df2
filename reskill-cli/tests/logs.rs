//! What a run writes for people and other programs: episodes, TensorBoard files, the Prometheus endpoint, the log, the
//! report, the export.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A run of seconds.
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
    "eval.every=4",
    "log.episodes.every=4",
    "log.episodes.groups=2",
    "log.episodes.games=5",
];

fn reskill(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn train(run: &Path, flags: &[&str], more: &[&str]) -> Command {
    let mut command = reskill(&["train", "--out", run.to_str().unwrap()]);
    command.args(flags);
    for one in SMALL.iter().chain(more) {
        command.args(["--set", one]);
    }
    command
}

fn done(mut command: Command) -> (String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{stderr}");
    (stdout, stderr)
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the endpoint at `address` answers.
fn numbers(address: &str) -> Option<String> {
    let mut client = TcpStream::connect(address).ok()?;
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
    let mut response = String::new();
    client.read_to_string(&mut response).ok()?;
    Some(response.split_once("\r\n\r\n")?.1.to_string())
}

#[test]
fn the_numbers_of_a_run_are_served_while_it_lasts_and_lie_in_tensorboard_files() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let more = ["log.tensorboard=true", "log.prometheus=127.0.0.1:0"];
    let mut child = train(&run, &[], &more).spawn().unwrap();
    let mut served = String::new();
    let mut address = None;
    // Every line of the run is an occasion to ask.
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(url) = line.strip_prefix("numbers for Prometheus: http://") {
            address = url.strip_suffix("/metrics").map(ToOwned::to_owned);
        }
        if let Some(body) = address.as_deref().and_then(numbers).filter(|body| body.contains("reskill_step "))
        {
            served = body;
        }
    }
    assert!(child.wait().unwrap().success());
    for gauge in ["reskill_train_success ", "reskill_update_loss ", "reskill_eval_unseen_success "] {
        assert!(served.contains(&format!("\n{gauge}")), "{gauge} is not in:\n{served}");
    }
    assert!(numbers(&address.unwrap()).is_none(), "the endpoint outlives the run");
    let files: Vec<Vec<u8>> = std::fs::read_dir(run.join("tensorboard"))
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert_eq!(files.len(), 1);
    for tag in ["train/success", "eval/seen/success", "eval_bank_off/unseen/success", "skills/history"] {
        let holds = files[0].windows(tag.len()).any(|window| window == tag.as_bytes());
        assert!(holds, "{tag}");
    }
}

#[test]
fn kept_episodes_are_exported_and_shown_in_reports_of_one_run_and_of_several() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    done(train(&one, &[], &[]));
    done(train(&two, &["--seed", "1"], &["skills.mode=off"]));
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());

    let episodes = json_lines(&std::fs::read_to_string(format!("{one}/episodes.jsonl")).unwrap());
    let of = |player: &str| episodes.iter().filter(|line| line["played"] == player).count();
    // Steps 1 and 5, two groups of four each; five games of two splits.
    assert_eq!((of("training"), of("warm_start"), of("final"), of("final_bank_off")), (16, 10, 10, 10));
    let steps: Vec<u64> = episodes
        .iter()
        .filter(|line| line["played"] == "training")
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert!(
        steps[..8].iter().all(|step| *step == 1) && steps[8..].iter().all(|step| *step == 5),
        "{steps:?}"
    );

    let n_won = episodes.iter().filter(|line| line["episode"]["outcome"] == "success").count();
    let won = reskill(&["export", one, "--won"]).output().unwrap();
    // Of a policy this small and this young, perhaps none.
    assert_eq!(won.status.success(), n_won > 0);
    let won = json_lines(&String::from_utf8(won.stdout).unwrap());
    assert_eq!(won.iter().filter(|turn| turn["won"] == true && turn["last"] == true).count(), n_won);
    let (turns, _) = done(reskill(&["export", one, "--played", "final"]));
    let turns = json_lines(&turns);
    assert!(turns.iter().all(|turn| turn["played"] == "final"));
    assert_eq!(turns.iter().filter(|turn| turn["last"] == true).count(), 10);
    let (_, said) = done(reskill(&["export", one, "--format", "parquet"]));
    let n_turns: usize = episodes.iter().map(|line| line["episode"]["turns"].as_array().unwrap().len()).sum();
    assert!(said.contains(&format!("episodes.parquet: {n_turns} turns")), "{said}");
    let parquet = std::fs::read(format!("{one}/episodes.parquet")).unwrap();
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));

    let out = dir.path().join("page.html");
    let out = out.to_str().unwrap();
    let (said, _) = done(reskill(&["report", one, "--out", out, "--max-episodes", "0"]));
    assert_eq!(said, format!("{out}\n"));
    let page = std::fs::read_to_string(out).unwrap();
    assert_eq!(page.matches("<details class=\"episode ").count(), episodes.len());
    done(reskill(&["report", "--compare", one, two, "--out", out]));
    let page = std::fs::read_to_string(out).unwrap();
    assert!(page.contains("2 runs in 2 arms") && page.contains("skills.mode = &quot;off&quot;"));
    for (args, fragment) in [
        (["report", one, two], "--compare"),
        (["report", "/nowhere", "--compare"], "not a run directory"),
        (["export", "/nowhere", "--won"], "not a run directory"),
        (["export", one, "--played=nobody"], "no episode is left"),
    ] {
        let output = reskill(&args).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && message.contains(fragment), "{args:?}: {message}");
    }
}

#[test]
fn quiet_prints_nothing_and_verbose_tells_how_long_each_stage_took() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["grpo.steps=1", "eval.every=0"];
    let (stdout, stderr) = done(train(&dir.path().join("quiet"), &["--quiet"], &more));
    assert_eq!((stdout.as_str(), stderr.as_str()), ("", ""));
    let (_, stderr) = done(train(&dir.path().join("verbose"), &["-v"], &more));
    for fragment in ["step done", "rollout{step=1}", "update{step=1}", "time.busy="] {
        assert!(stderr.contains(fragment), "{fragment} is not in:\n{stderr}");
    }
    let output = reskill(&["--quiet", "train", "--resume", "/nowhere"]).output().unwrap();
    assert!(
        String::from_utf8(output.stderr).unwrap().starts_with("error: "),
        "errors are printed all the same"
    );
}

#[test]
fn the_live_view_falls_back_to_lines_where_there_is_no_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let (stdout, stderr) =
        done(train(&dir.path().join("run"), &["--tui"], &["grpo.steps=1", "eval.every=0"]));
    assert_eq!(stdout, "", "nothing is drawn on what is no terminal");
    assert!(stderr.contains("standard output is no terminal") && stderr.contains("step   1/1"), "{stderr}");
}
