//! `skills audit` as a person runs it: the same numbers as `eval`, relations that must hold, versions of a history.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use serde_json::Value;

mod common;

use common::{LIVELY, finished, reskill, said};

fn json(args: &[&str]) -> Value {
    serde_json::from_slice(&finished(reskill(args, &[])).stdout).unwrap()
}

/// A bank of skills that say which verb comes next after a `go to`.
fn write_bank(folder: &Path, skills: &[(&str, &str)]) {
    for (name, verb) in skills {
        let text = format!(
            "---\nname: {name}\ndescription: After going somewhere.\nmetadata:\n  reskill-guidance: next {verb}\n  \
             reskill-pattern: \"^go to\"\n  reskill-trigger: action_pattern\n---\n\nnext {verb}\n"
        );
        std::fs::create_dir_all(folder.join(name)).unwrap();
        std::fs::write(folder.join(name).join("SKILL.md"), text).unwrap();
    }
}

/// A run with a bank that stays as it is.
fn static_run(dir: &Path, skills: &[(&str, &str)]) -> String {
    let bank = dir.join("bank");
    write_bank(&bank, skills);
    let run = dir.join("run").to_str().unwrap().to_string();
    let more =
        [format!("bank={:?}", bank.to_str().unwrap()), "skills.mode=static".into(), "grpo.steps=1".into()];
    let more: Vec<&str> = more.iter().map(String::as_str).collect();
    finished(reskill(&["train", "--out", &run], &[LIVELY, &more].concat()));
    run
}

fn mean(value: &Value) -> f64 {
    value["mean"].as_f64().unwrap()
}

#[test]
fn an_audit_counts_as_eval_does_and_differences_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let run = static_run(dir.path(), &[("open-it", "open"), ("start-it", "start")]);
    let other = dir.path().join("other");
    write_bank(&other, &[("start-it", "start")]);
    let args = ["skills", "audit", &run, "--seeds", "2", "--json", "--reference", other.to_str().unwrap()];
    let audit = &json(&args)["splits"][0];
    let played = &json(&["eval", &run, "--split", "unseen", "--seeds", "2", "--json"])["splits"][0]["played"];
    // The same draws, so the same success, to the last digit.
    assert_eq!(audit["all"]["success"], played[0]["success"]);
    assert_eq!(audit["none"]["success"], played[1]["success"]);
    assert_eq!(audit["all"]["mean_turns"], played[0]["mean_turns"]);
    assert_eq!((&audit["split"], &audit["n_games"]), (&Value::from("valid_unseen"), &Value::from(12)));

    let (all, none) = (mean(&audit["all"]["success"]), mean(&audit["none"]["success"]));
    assert!((mean(&audit["worth"]) - (all - none)).abs() < 1e-12);
    let skills = audit["skills"].as_array().unwrap();
    let names: Vec<&str> = skills.iter().map(|skill| skill["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["open-it", "start-it"]);
    for skill in skills {
        assert!((mean(&skill["adds"]) - (all - mean(&skill["without"]))).abs() < 1e-12);
        assert!((mean(&skill["adds_alone"]) - (mean(&skill["alone"]) - none)).abs() < 1e-12);
        // Every episode begins with going somewhere, and the guidance can be followed now and then.
        assert!(skill["shown_in"]["hits"].as_u64().unwrap() > 0 && skill["shown_in"]["total"] == 24);
        for rate in ["heeded", "unprompted"] {
            assert!(skill[rate]["hits"].as_u64().unwrap() <= skill[rate]["total"].as_u64().unwrap());
        }
    }
    // Of two skills, the bank without one is the other one alone, and that is the reference as well.
    assert_eq!(skills[0]["without"], skills[1]["alone"]);
    assert_eq!(skills[1]["without"], skills[0]["alone"]);
    assert_eq!(audit["reference"]["bank"]["success"], skills[1]["alone"]);
    assert!((mean(&audit["reference"]["room"]) - (mean(&skills[1]["alone"]) - all)).abs() < 1e-12);
    // All, none, and each alone.
    assert_eq!(audit["n_banks"], 4);
    assert!(audit["within_reach"].as_f64().unwrap() >= all.max(none) - 1e-12);
    let failed = |side: &str| {
        audit[side]["failures"]
            .as_object()
            .unwrap()
            .values()
            .map(|count| count.as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!(failed("all"), 24 - (all * 24.0).round() as u64);

    let table = String::from_utf8(finished(reskill(&["skills", "audit", &run], &[])).stdout).unwrap();
    assert!(
        table.contains("all minus none") && table.contains("open-it") && table.contains("heeded"),
        "{table}"
    );
}

#[test]
fn tested_versions_are_played_between_their_banks_and_lead_to_the_live_one() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run").to_str().unwrap().to_string();
    let more =
        ["grpo.steps=10", "skills.creator.offline.level=1.0", "skills.creator.offline.episode_causes=false"];
    finished(reskill(&["train", "--out", &run], &[LIVELY, &more].concat()));
    let audit = &json(&["skills", "audit", &run, "--versions", "--json"])["splits"][0];
    let versions = audit["versions"].as_array().unwrap();
    let summary: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("run/summary.json")).unwrap()).unwrap();
    let told = |value: &Value| {
        let of = |one: &Value| (one["step"].clone(), one["verdict"].clone(), one["change"].clone());
        value.as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert!(!versions.is_empty());
    assert_eq!(told(&audit["versions"]), told(&summary["versions"]));
    let mut live = audit["none"]["success"].clone();
    for version in versions {
        assert_eq!(version["before"], live, "{version}");
        let gain = mean(&version["after"]) - mean(&version["before"]);
        assert!((mean(&version["gain"]) - gain).abs() < 1e-12);
        if version["verdict"] == "accept" {
            live = version["after"].clone();
        }
    }
    assert_eq!(audit["all"]["success"], live);
}

#[test]
fn what_cannot_be_audited_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run").to_str().unwrap().to_string();
    finished(reskill(
        &["train", "--out", &run],
        &[LIVELY, &["skills.mode=off", "grpo.steps=1", "sft.episodes=8"]].concat(),
    ));
    let refused = |args: &[&str], fragment: &str| {
        let output = reskill(&[&["skills", "audit"], args].concat(), &[]).output().unwrap();
        let message = said(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(
            message.contains(fragment) && !message.contains("panicked"),
            "`{fragment}` is not in: {message}"
        );
    };
    refused(&[&run], "its bank holds no skill");
    refused(&[&run, "--games", "0"], "--games 0");
    refused(&[&run, "--reference", "nowhere"], "--reference");
    refused(&[&run, "--temperature=-1"], "--temperature -1");
    refused(&["nowhere"], "nowhere");
}
