//! The page as a whole, from the files of made-up runs.

use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::evaluate::Success;

/// A run directory with these files; the page that comes out.
fn report_of(files: &[(&str, String)]) -> Result<String> {
    let dir = tempfile::tempdir()?;
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content)?;
    }
    if !dir.path().join("config.toml").exists() {
        std::fs::write(dir.path().join("config.toml"), "seed = 3\n")?;
    }
    let run = RunDir::open(dir.path())?;
    write(&run)?;
    Ok(std::fs::read_to_string(run.report())?)
}

pub(super) fn jsonl(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

pub(super) fn evaluation(step: u64, phase: &str, split: &str, won: u64) -> Value {
    json!({
        "kind": "evaluation", "step": step, "phase": phase, "time": {"seconds": 0.5},
        "evaluation": {
            "split": split, "overall": Success::new(won, 100),
            "families": {"pick_two": Success::new(won / 2, 50)},
            "mean_turns": 11.5, "heeded": {"hits": 81, "total": 90}, "unprompted": {"hits": 7, "total": 70},
        },
    })
}

pub(super) fn step(step: u64, posterior: Value) -> Value {
    json!({
        "kind": "step", "step": step, "success": 0.5, "episodes": 128, "mean_turns": 12.0, "invalid_fraction": 0.0,
        "update": {"loss": 0.1, "ref_kl": null, "entropy": 0.6, "packed_tokens": 25_000}, "posterior": posterior,
        "bank": [], "shown": {"s0000": {"episodes": 32, "turns": 40}},
        "failures": {"invalid": 0, "loop": 16, "ended_early": 0, "out_of_turns": 48},
        "assertions": {"opens_it": {"success": {"hits": 60, "total": 64}, "failure": {"hits": 16, "total": 64}}}, "tokens": {"run": 20_000, "without_reuse": 60_000, "generated": 3_000},
        "time": {"rollout_seconds": 0.7, "update_seconds": 2.0, "rollout_tokens_per_second": 28_571.0},
    })
}

fn add(name: &str, action: &str) -> Value {
    json!({"add": {"name": name, "when_to_use": "After a move.", "action": action,
                   "trigger": {"after_action": "^go to (a|b)"}}})
}

fn arm(arm: Value, episodes: u64, successes: u64) -> Value {
    let (alpha, beta) = (successes + 1, episodes - successes + 1);
    json!({"arm": arm, "episodes": episodes, "successes": successes, "alpha": alpha, "beta": beta,
           "mean": alpha as f64 / (alpha + beta) as f64})
}

fn arms() -> Value {
    json!([arm(json!("incumbent"), 64, 25), arm(json!({"candidate": 0}), 64, 40)])
}

fn ended(step: u64, kind: &str, operation: &Value, claim: &str) -> Value {
    json!({
        "step": step, "kind": kind, "operations": [operation], "reason": "EarlyBound", "artefacts": null,
        "decision": {
            "step": step, "verdict": if kind == "rejected" { "reject" } else { "accept" },
            "candidate": {"candidate": 0}, "rule": "stratified", "claim": claim, "reason": "early_bound",
            "n_steps": 2, "n_episodes": 128, "arms": arms(), "p_new_better": 0.987, "z": 2.5, "level": 0.1,
            "bound": 2.25, "counts": [],
        },
    })
}

fn proposed(step: u64, operation: &Value) -> Value {
    json!({"step": step, "kind": "proposed", "operations": [operation], "reason": "it helps", "decision": null,
           "artefacts": null})
}

/// A finished run whose texts are those given.
pub(super) fn finished(name: &str, action: &str, reason: &str) -> Vec<(&'static str, String)> {
    let posterior = json!({"started_step": 1, "n_steps": 1, "n_episodes": 64, "arms": arms(),
                           "p_new_better": 0.9, "retention": null});
    let metrics = [
        json!({"kind": "warm_start", "batch": 1, "update": {"loss": 1.6, "packed_tokens": 2_576},
               "time": {"seconds": 0.3}}),
        evaluation(0, "warm_start", "valid_seen", 43),
        evaluation(0, "warm_start", "valid_unseen", 29),
        step(1, Value::Null),
        step(2, posterior),
        step(3, Value::Null),
        evaluation(3, "final", "valid_seen", 71),
        evaluation(3, "final", "valid_unseen", 61),
        evaluation(3, "final_bank_off", "valid_unseen", 40),
        json!({"kind": "something_newer"}),
    ];
    let added = add(name, action);
    let deleted = json!({"delete": {"id": "s0000"}});
    let mut refused = proposed(3, &added);
    refused["kind"] = json!("refused");
    refused["reason"] = json!(reason);
    let mut failed = refused.clone();
    failed["kind"] = json!("creator_failed");
    failed["operations"] = json!([]);
    let history = [
        proposed(1, &added),
        ended(2, "accepted", &added, "better"),
        proposed(2, &deleted),
        ended(3, "pruned", &deleted, "not_worse"),
        refused,
        failed,
    ];
    vec![("metrics.jsonl", jsonl(&metrics)), ("history.jsonl", jsonl(&history))]
}

#[test]
fn page_holds_the_numbers_of_the_run() {
    let page = report_of(&finished("open-after-go-to", "next open", "too long")).unwrap();
    for expected in [
        "<b>61.0%</b> <small>(51.2\u{2013}70.0)</small>",
        "<b>29.0%</b>",
        "<b>40.0%</b>",
        "<b>+32.0</b> points",
        "<b>90.0%</b> <small>(81 of 90)</small>",
        "39.1% / 62.5%",
        "64 / 64",
        "0.987",
        "+2.50",
        "2.25",
        "open-after-go-to",
        "deleted at 3",
        "The creator failed: 1",
        "did not pass the gate: 1",
        "<b>60,000</b> tokens through the network instead of 180,000",
        "pick_<wbr>two",
        "shown in 25.0% of the episodes of 3 steps",
        "step 2: P(new better) 0.987, 50.0% played the new version",
        "step 1: same action, same observation, three times 12.5%; out of turns 37.5%",
        "<code>opens_<wbr>it</code><span class=\"last\">93.8% / 25.0%</span>",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
}

/// An episode of two turns, the second with a skill, as a line of `episodes.jsonl`.
fn episode(played: &str, name: &str, won: bool) -> Value {
    let turn = |observation: &str, action: &str| {
        json!({"observation": observation, "admissible": ["go to desk", "open drawer"], "reply": action,
               "action": action, "valid": true})
    };
    json!({
        "played": played, "seed": 3,
        "shown": {"s0000": {"name": name, "action": "next open", "trigger": "after go"}},
        "episode": {
            "task": {"id": "game 1", "split": "train", "family": "pick", "goal": "put the pen on the desk"},
            "turns": [turn("You are in a room.", "go to desk"), turn("A closed drawer.", "open drawer")],
            "final_observation": "The drawer is open.", "outcome": if won { "success" } else { "failure" },
            "return_": 1.0, "score": 1.0,
        },
        "arm": "incumbent", "group": 7, "step": 5, "triggered": [[], ["s0000"]],
    })
}

#[test]
fn episodes_can_be_read_turn_by_turn_and_chosen_by_outcome_player_and_skill() {
    let mut files = finished("a", "next open", "no");
    let lines = [episode("training", "open-it", true), episode("final", "open-it", false)];
    files.push(("episodes.jsonl", jsonl(&lines)));
    let page = report_of(&files).unwrap();
    let order = [
        "<details class=\"episode c0-1 c1-1 c2-1\">",
        "put the pen on the desk",
        "training \u{b7} train \u{b7} step 5 \u{b7} group 7 \u{b7} 2 turns",
        "You are in a room.",
        "&gt; go to desk",
        "A closed drawer.",
        "<b>open-it</b> \u{201c}next open\u{201d}",
        "&gt; open drawer",
        "The drawer is open.",
        "<details class=\"episode c0-2 c1-2 c2-1\">",
    ];
    let mut rest = page.as_str();
    for expected in order {
        let at =
            rest.find(expected).unwrap_or_else(|| panic!("{expected} is not there, or not in its place"));
        rest = &rest[at + expected.len()..];
    }
    // Whoever chooses the second player sees none of the first.
    assert!(page.contains(".browser:has(#c1-2:checked) .episode:not(.c1-2) { display: none; }"));
    assert!(page.contains("id=\"c1-2\"><label for=\"c1-2\">final</label>"));
}

#[test]
fn a_page_holds_no_more_episodes_than_asked_for_of_every_player() {
    let lines: Vec<Value> = (0..40)
        .map(|index| episode(if index < 30 { "training" } else { "final" }, "x", index % 2 == 0))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), "seed = 3\n").unwrap();
    std::fs::write(dir.path().join("episodes.jsonl"), jsonl(&lines)).unwrap();
    let run = RunDir::open(dir.path()).unwrap();
    let shown = |max_episodes: usize| {
        let options = ReportOptions { max_episodes, ..ReportOptions::default() };
        let page = render(&run, &options).unwrap();
        let of = |player: &str| page.matches(&format!("<small>{player} ")).count();
        (of("training"), of("final"))
    };
    assert_eq!((shown(8), shown(0), shown(1000)), ((4, 4), (30, 10), (30, 10)));
}

#[test]
fn page_stands_alone() {
    let page = report_of(&finished("a", "next open", "no")).unwrap();
    for forbidden in ["http://", "https://", "<script", "<link", "@import", "url(//", " src="] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn texts_of_files_cannot_become_markup() {
    let evil = "\"'><script>alert(1)</script><img src=x>&";
    let mut files = finished(evil, evil, evil);
    files.push((
        "config.toml",
        format!("seed = 1\n# {evil}\n[env]\nname = '''{}'''\n", evil.replace('\'', "")),
    ));
    files.push(("episodes.jsonl", jsonl(&[episode(evil, evil, false)])));
    let page = report_of(&files).unwrap();
    assert!(!page.contains("<script") && !page.contains("<img"), "markup of a file was let through");
    assert!(page.contains("&quot;&#39;&gt;&lt;script&gt;alert(1)"), "the text itself is shown");
}

#[test]
fn numbers_in_drawings_are_finite_and_bands_inside_the_plot() {
    let page = report_of(&finished("a", "next open", "no")).unwrap();
    assert!(!page.contains("NaN") && !page.contains("\"inf"));
    let mut n_corners = 0;
    for band in page.split("<polygon class=\"band ").skip(1) {
        let points = band.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        for corner in points.split(' ') {
            let y: f64 = corner.split(',').nth(1).unwrap().parse().unwrap();
            assert!((8.0..=270.0).contains(&y), "{corner}");
            n_corners += 1;
        }
    }
    assert!(n_corners >= 8, "{n_corners}");
}

#[test]
fn runs_with_less_give_a_shorter_page() {
    let metrics = jsonl(&[evaluation(0, "warm_start", "valid_unseen", 29), step(1, Value::Null)]);
    let runs: [&[(&str, String)]; 4] = [
        &[],
        &[("metrics.jsonl", String::new()), ("history.jsonl", String::new())],
        &[("metrics.jsonl", metrics.clone())],
        &[
            ("metrics.jsonl", metrics),
            ("config.toml", "[skills]\nmode = \"off\"\n[grpo]\nsteps = 40\n".into()),
        ],
    ];
    for files in runs {
        let page = report_of(files).unwrap();
        assert!(page.contains("has not reached its final evaluation") && page.ends_with("</html>\n"));
    }
    let off = report_of(runs[3]).unwrap();
    assert!(off.contains("The run has no skills.") && off.contains("1 of 40"));
}

#[test]
fn test_that_never_ended_is_shown_as_running() {
    let history = jsonl(&[proposed(1, &add("open-after-go-to", "next open"))]);
    let page = report_of(&[("history.jsonl", history)]).unwrap();
    assert!(page.contains("still running when the records end") && page.contains("under test"));
}

#[test]
fn broken_line_is_an_error_with_file_and_line_but_a_cut_last_line_is_not() {
    let metrics = format!("{}\n{{\"kind\": \"step\", \"step\": \"two\"}}\n", step(1, Value::Null));
    let error = format!("{:#}", report_of(&[("metrics.jsonl", metrics)]).unwrap_err());
    assert!(error.contains("metrics.jsonl, line 2"), "{error}");

    let metrics = format!("{}\n{{\"kind\": \"st", step(1, Value::Null));
    let page = report_of(&[("metrics.jsonl", metrics)]).unwrap();
    assert!(page.contains("The last line of metrics.jsonl was cut off"));
}

#[test]
fn ids_are_counted_as_the_bank_counts_them() {
    let first = add("a", "next open");
    let second = add("b", "next take");
    let change = json!({"modify": {"id": "s0001", "content": add("c", "next put")["add"]}});
    let lines = jsonl(&[
        proposed(1, &first),
        ended(2, "rejected", &first, "better"),
        proposed(2, &second),
        ended(4, "accepted", &second, "better"),
        proposed(5, &change),
        ended(7, "accepted", &change, "better"),
    ]);
    let history: Vec<reskill_skills::HistoryRecord> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let trials = trials::trials(&history, 0);
    let lives = lives::lives(&trials);
    let ids: Vec<&str> = lives.iter().map(|life| life.id.as_str()).collect();
    assert_eq!(ids, ["s0000", "s0001"]);
    assert_eq!((lives[0].status, lives[0].rejected), (lives::Status::Rejected, Some(2)));
    assert_eq!((lives[1].live, lives[1].modified.as_slice()), (Some((4, None)), [7].as_slice()));
    assert_eq!(lives[1].content.unwrap().name, "c");
}

#[test]
fn report_of_a_run_is_named_after_its_folder() {
    let data = data::RunData { name: "my <run>".into(), ..data::RunData::default() };
    assert!(page(&data, 60).contains("<h1>my &lt;run&gt;</h1>"));
    assert!(RunDir::open(Path::new("/nonexistent")).is_err());
}
