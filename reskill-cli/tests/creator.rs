//! `train` with a language model as author of skills: a server that works, one that fails in every way, and a replay.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../reskill-skills/tests/it/llm/brain.rs"]
mod brain;
#[path = "../../reskill-skills/tests/it/llm/server.rs"]
mod server;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use server::{Act, Seen, Server};

const KEY: &str = "sk-secret-5b2f9c1d7e";

/// A run of seconds, with a creator that is asked at every chance.
const SMALL: &[&str] = &[
    "env.household.n_train=40",
    "env.household.n_seen=8",
    "env.household.n_unseen=8",
    "policy.model.hidden_size=32",
    "policy.model.intermediate_size=48",
    "policy.model.num_hidden_layers=1",
    "policy.model.num_attention_heads=2",
    "policy.model.num_key_value_heads=1",
    "policy.model.head_dim=16",
    "sft.episodes=32",
    "sft.epochs=1",
    "rollout.tasks_per_step=4",
    "rollout.group_size=4",
    "grpo.steps=8",
    "skills.reservoir.min=4",
    "skills.reservoir.sample_groups=4",
    "skills.version_test.min_episodes=8",
    "skills.verify.min_overall=0.0",
    "skills.verify.min_rate=0.1",
    "skills.creator.model=tiny",
    "skills.creator.api_key_env=RESKILL_TEST_KEY",
    "skills.creator.retry_base_secs=0.01",
    "skills.creator.max_attempts=2",
    "skills.creator.timeout_secs=0.5",
    "skills.creator.max_response_bytes=1048576",
    "skills.creator.wait_secs=20",
    "skills.creator.price_prompt_per_mtok=1.0",
    "eval.games=8",
    "eval.every=0",
    "checkpoint.every=1",
];

/// The program with the key in its environment and every log line on.
fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.args(args).env("RESKILL_TEST_KEY", KEY).env("RESKILL_LOG", "trace");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn small(out: &Path, more: &[String]) -> Command {
    let mut command = program(&["train", "--out", out.to_str().unwrap()]);
    for assignment in SMALL.iter().map(ToString::to_string).chain(more.iter().cloned()) {
        command.args(["--set", &assignment]);
    }
    command
}

fn openai(server: &Server) -> Vec<String> {
    vec!["skills.creator.kind=openai".into(), format!("skills.creator.base_url={}", server.url)]
}

/// The run must succeed, and the key be nowhere: neither in what it printed nor in any of its files.
fn finish(mut command: Command, run: &Path) -> Output {
    let output = command.output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains(KEY), "the key is in the log");
    let n_files = no_key_below(run);
    assert!(n_files > 5, "{n_files}");
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

fn no_key_below(folder: &Path) -> usize {
    let mut n = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            n += no_key_below(&path);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes());
            assert!(!found, "the key is in {}", path.display());
            n += 1;
        }
    }
    n
}

/// `metrics.jsonl` without what depends on the clock.
fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("time")));
    lines
}

fn file(run: &Path, name: &str) -> String {
    std::fs::read_to_string(run.join(name)).unwrap()
}

fn summary(run: &Path) -> Value {
    serde_json::from_str(&file(run, "summary.json")).unwrap()
}

/// Does as it is told.
fn good(seen: &Seen) -> Act {
    let (stage, prompt) = brain::openai_stage(&seen.body);
    let text = brain::answer(&stage, &prompt).to_string();
    Act::Answer(200, Vec::new(), brain::openai_response(&text).to_string())
}

#[test]
fn a_model_writes_skills_that_are_tested_and_the_record_repeats_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let (live, replayed) = (dir.path().join("live"), dir.path().join("replayed"));
    let server = Server::start(|seen, n| match n {
        // Two mishaps that another attempt mends: they must be in the replay's ledger too.
        1 => Act::Answer(500, Vec::new(), "later".into()),
        3 => Act::Answer(429, vec![("retry-after", "0".into())], String::new()),
        _ => good(seen),
    });
    finish(small(&live, &openai(&server)), &live);
    assert!(server.seen().iter().all(|seen| {
        seen.path == "/v1/chat/completions" && seen.header("authorization") == Some(&format!("Bearer {KEY}"))
    }));
    let history = file(&live, "history.jsonl");
    assert!(history.contains("\"proposed\"") && history.contains("open-on-arrival"), "{history}");
    let summary_live = summary(&live);
    let creator = &summary_live["creator"];
    assert!(creator["calls"].as_u64().unwrap() >= 7, "{creator}");
    assert_eq!((&creator["errors"]["server"], &creator["errors"]["rate_limited"]), (&1.into(), &1.into()));
    assert!(creator["price"].as_f64().unwrap() > 0.0);
    assert!(file(&live, "report.html").contains("Calls to the language model"));
    // The candidate joins a step after the request, and is then played.
    let steps: Vec<Value> = metrics(&live).into_iter().filter(|line| line["kind"] == "step").collect();
    let first = steps.iter().position(|line| line["creator"]["requests"] == 1).unwrap();
    assert!(steps[first]["creator"]["calls"] == 0 && steps[first + 1]["creator"]["calls"].as_u64() > Some(0));
    assert!(live.join("creator/calls").is_dir());
    drop(server);

    let calls = live.join("creator/calls");
    let replay =
        ["skills.creator.kind=replay".into(), format!("skills.creator.replay_dir={}", calls.display())];
    let mut command = small(&replayed, &replay);
    command.env_remove("RESKILL_TEST_KEY");
    finish(command, &replayed);
    assert_eq!(metrics(&replayed), metrics(&live));
    assert_eq!(file(&replayed, "history.jsonl"), history);
    let weights = |run: &Path| std::fs::read(run.join("policy/model.safetensors")).unwrap();
    assert!(weights(&replayed) == weights(&live), "the weights differ");
    assert_eq!(summary(&replayed)["creator"], summary_live["creator"]);
}

#[test]
fn a_run_killed_between_request_and_answer_goes_on_to_the_same_end() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let server = Server::start(|seen, _| good(seen));
    let mut more = openai(&server);
    more.push("skills.creator.join_after_steps=2".into());
    finish(small(&whole, &more), &whole);
    let mut child = small(&parts, &more).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(parts.join("metrics.jsonl")).unwrap_or_default();
        if text.contains("\"requests\":1") {
            break;
        }
        assert!(child.try_wait().unwrap().is_none(), "the run ended before a request was made");
        assert!(start.elapsed() < Duration::from_secs(120), "no request after two minutes");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    finish(program(&["train", "--resume", parts.to_str().unwrap()]), &parts);
    assert_eq!(metrics(&parts), metrics(&whole));
    assert_eq!(file(&parts, "history.jsonl"), file(&whole, "history.jsonl"));
}

#[test]
fn training_survives_a_server_that_fails_in_every_way_and_the_report_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let echo = format!("{{\"error\": {{\"message\": \"you sent {KEY}\"}}}}");
    let server = Server::start(move |seen, n| match n % 11 {
        0 => Act::Answer(429, vec![("retry-after", "0".into())], String::new()),
        1 => Act::Answer(500, vec![], echo.clone()),
        2 => Act::Hang(Duration::from_secs(2)),
        3 => Act::Answer(200, vec![], "{\"choices\": [{\"message\": {\"cont".into()),
        4 => Act::Answer(200, vec![], brain::openai_response("I would rather talk.").to_string()),
        5 => Act::Answer(200, vec![], brain::openai_response("{\"finding\": 3}").to_string()),
        6 => Act::Answer(200, vec![], brain::openai_response("").to_string()),
        7 => Act::Answer(200, vec![], "x".repeat(10 << 20)),
        8 => Act::BreakOff("{".into()),
        9 => Act::Close,
        // The one good answer in eleven: some stages get past it.
        _ => good(seen),
    });
    finish(small(&run, &openai(&server)), &run);
    let steps = metrics(&run).into_iter().filter(|line| line["kind"] == "step").count();
    assert_eq!(steps, 8, "every step was trained");
    let creator = &summary(&run)["creator"];
    assert!(creator["failures"].as_u64().unwrap() >= 1, "{creator}");
    let errors = creator["errors"].as_object().unwrap();
    assert!(errors.len() >= 4, "{creator}");
    assert!(file(&run, "history.jsonl").contains("creator_failed"));
    let report = file(&run, "report.html");
    assert!(report.contains("The creator failed") && report.contains("Mishaps in calls"));
}

#[test]
fn an_answer_that_is_late_is_a_miss_and_training_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let server = Server::start(|_, _| Act::Hang(Duration::from_secs(3)));
    let mut more = openai(&server);
    // The other API sends its key in another header.
    more[0] = "skills.creator.kind=anthropic".into();
    more.extend(["skills.creator.wait_secs=0.3".into(), "skills.creator.timeout_secs=30".into()]);
    finish(small(&run, &more), &run);
    let creator = &summary(&run)["creator"];
    assert!(creator["misses"].as_u64().unwrap() >= 1 && creator["failures"] == 0, "{creator}");
    assert!(file(&run, "history.jsonl").contains("creator_missed"));
    assert!(file(&run, "report.html").contains("answer was late"));
    assert!(run.join("creator/calls").is_dir(), "the miss is recorded, so that a replay repeats it");
}

#[test]
fn what_cannot_work_is_refused_before_a_run_begins() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let refused = |more: &[&str], fragments: &[&str]| {
        let more: Vec<String> = more.iter().map(ToString::to_string).collect();
        let output = small(&out, &more).env_remove("RESKILL_TEST_KEY").output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        let line = said.lines().find(|line| line.starts_with("error: ")).unwrap();
        fragments
            .iter()
            .for_each(|fragment| assert!(line.contains(fragment), "`{fragment}` is not in: {line}"));
        assert!(
            !out.exists() || std::fs::read_dir(&out).unwrap().next().is_none(),
            "a refused run left files"
        );
    };
    refused(&["skills.creator.kind=openai"], &["RESKILL_TEST_KEY is not set", "api_key_env"]);
    refused(&["skills.creator.kind=openai", "skills.creator.model=''"], &["creator.model"]);
    refused(&["skills.creator.kind=replay"], &["creator.replay_dir"]);
    refused(&["skills.creator.kind=replay", "skills.creator.replay_dir=/nowhere"], &["/nowhere"]);
    refused(&["skills.creator.kind=vllm"], &["skills.creator.kind", "openai"]);
    refused(&["skills.creator.max_atempts=3"], &["max_atempts", "did you mean `max_attempts`"]);
    refused(&["skills.creator.min_z=1.0"], &["skills.creator", "min_z"]);
    let prompts = dir.path().join("prompts");
    std::fs::create_dir(&prompts).unwrap();
    std::fs::write(prompts.join("author.md"), "Write {{skil}}").unwrap();
    let prompts = format!("skills.creator.prompts_dir={}", prompts.display());
    let local = ["skills.creator.kind=openai", "skills.creator.api_key_env=''", &prompts];
    refused(&local, &["author.md", "{{skil}}"]);
}
