//! The command `skills` as a person runs it: tables, JSON, exit codes, errors with remedies.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use reskill_skills::store::{save_bank, save_history};
use reskill_skills::{HistoryKind, HistoryRecord, Operation, SkillBank, SkillContent, SkillLimits, Trigger};
use serde_json::Value;

fn skills(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reskill-cli")).arg("skills").args(args).output().unwrap()
}

/// Exit code, standard output, standard error.
fn outcome(args: &[&str]) -> (Option<i32>, String, String) {
    let output = skills(args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The command must end with 0; its output.
fn done(args: &[&str]) -> String {
    let (code, out, err) = outcome(args);
    assert_eq!(code, Some(0), "{args:?}: {err}");
    out
}

/// The command must end with 2 and say all of this in one line.
fn refused(args: &[&str], fragments: &[&str]) {
    let (code, out, err) = outcome(args);
    assert_eq!(code, Some(2), "{args:?}: {out}{err}");
    let line = err.lines().find(|line| line.starts_with("error: ")).unwrap();
    for fragment in fragments {
        assert!(line.contains(fragment), "`{fragment}` is not in: {line}");
    }
}

fn add(name: &str, trigger: Trigger) -> Operation {
    Operation::Add(SkillContent {
        name: name.into(),
        when_to_use: "Right after: a `go to` command.".into(),
        action: "next open".into(),
        example: None,
        trigger,
        guidance: None,
    })
}

/// A run directory with two skills and two events.
fn run_dir(root: &Path) -> SkillBank {
    let operations = vec![
        add("open-first", Trigger::after_action("^go to").unwrap()),
        add("look-around", Trigger::EpisodeStart),
    ];
    let bank = SkillBank::default().apply(&operations, 7, &SkillLimits::default()).unwrap();
    fs::create_dir_all(root).unwrap();
    fs::write(root.join("config.toml"), "seed = 0\n").unwrap();
    save_bank(&root.join("skills"), &bank).unwrap();
    let record = HistoryRecord {
        step: 7,
        kind: HistoryKind::Proposed,
        operations,
        reason: "failures lack it".into(),
        decision: None,
        artefacts: None,
    };
    let accepted = HistoryRecord { step: 9, kind: HistoryKind::Accepted, ..record.clone() };
    save_history(&root.join("history.jsonl"), &[record, accepted]).unwrap();
    bank
}

#[test]
fn a_run_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("run");
    let bank = run_dir(&run);
    let run = run.to_str().unwrap();
    let out = done(&["list", run]);
    assert!(
        out.starts_with("NAME") && out.contains("open-first") && out.ends_with("2 skills, 2 active\n"),
        "{out}"
    );
    let listed: Vec<reskill_skills::Skill> = serde_json::from_str(&done(&["list", run, "--json"])).unwrap();
    assert_eq!(listed, bank.skills());
    let out = done(&["show", run, "open-first"]);
    assert!(out.contains("after /^go to/") && out.contains("born at step 7"), "{out}");
    assert!(done(&["show", run, "s0000", "--file"]).starts_with("---\nname: open-first\n"));
    refused(&["show", run, "open-frist"], &["open-frist", "did you mean `open-first`?"]);
    let out = done(&["history", run, "--kind", "accepted"]);
    assert!(out.contains("+open-first, +look-around") && out.ends_with("1 events\n"), "{out}");
    let events: Vec<Value> =
        serde_json::from_str(&done(&["history", run, "--json", "--skill", "look-around"])).unwrap();
    assert_eq!(events.len(), 2);
}

#[test]
fn banks_are_compared_by_their_skills() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (dir.path().join("one"), dir.path().join("other"));
    let bank = run_dir(&one);
    let operations = [Operation::Delete { id: bank.skills()[1].id.clone() }, add("third", Trigger::Always)];
    save_bank(&other, &bank.apply(&operations, 9, &SkillLimits::default()).unwrap()).unwrap();
    let (one, other) = (one.to_str().unwrap(), other.to_str().unwrap());
    let (code, out, _) = outcome(&["diff", one, other, "--exit-code"]);
    assert_eq!(code, Some(1));
    assert!(out.contains("- look-around (s0001)\n") && out.contains("+ third (s0002)\n"), "{out}");
    assert_eq!(done(&["diff", one, one, "--exit-code"]), "no difference\n");
    let diff: Value = serde_json::from_str(&done(&["diff", one, other, "--json"])).unwrap();
    assert_eq!(diff["added"][0]["content"]["name"], "third");
}

#[test]
fn export_and_import_keep_all_files_and_name_conflicts() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    run_dir(&dir.path().join("run"));
    fs::create_dir_all(dir.path().join("run/skills/open-first/references")).unwrap();
    fs::write(dir.path().join("run/skills/open-first/references/more.md"), "more\r\n").unwrap();
    let out = done(&["export", &path("run"), &path("library")]);
    assert!(out.contains("2 skills") && out.contains("2 of them written"), "{out}");
    assert_eq!(fs::read(dir.path().join("library/open-first/references/more.md")).unwrap(), b"more\r\n");
    assert_eq!(done(&["validate", &path("library")]), "2 skills, 0 violations\n");

    let theirs = dir.path().join("theirs/open-first");
    fs::create_dir_all(&theirs).unwrap();
    fs::write(theirs.join("SKILL.md"), "---\nname: open-first\ndescription: Theirs.\n---\nDo it.\n").unwrap();
    refused(
        &["import", &path("theirs"), &path("library")],
        &["open-first", "nothing was imported", "--rename"],
    );
    let out = done(&["import", &path("theirs"), &path("library"), "--rename"]);
    assert!(out.contains("open-first: added as open-first-2"), "{out}");
    let fates: Value =
        serde_json::from_str(&done(&["import", &path("theirs"), &path("library"), "--force", "--json"]))
            .unwrap();
    assert_eq!(fates[0][1], "replaced");
    assert!(done(&["list", &path("library")]).contains("3 skills"));
}

#[test]
fn validation_lists_every_violation_with_file_and_line_and_ends_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("a");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("SKILL.md"), "---\nname: b\ndescription: d\ncolour: red\n---\n").unwrap();
    let (code, out, _) = outcome(&["validate", dir.path().to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(out.contains("a/SKILL.md:2: name `b` differs"), "{out}");
    assert!(out.contains("a/SKILL.md:4: `colour`"), "{out}");
    let (code, json, _) = outcome(&["validate", dir.path().to_str().unwrap(), "--json"]);
    let found: Vec<Value> = serde_json::from_str(&json).unwrap();
    assert_eq!((code, found.len()), (Some(1), 2));
    assert_eq!((&found[0]["line"], &found[0]["fatal"]), (&2.into(), &true.into()));
    refused(&["list", dir.path().to_str().unwrap()], &["a/SKILL.md:2", "skills validate"]);
}

#[test]
fn what_is_not_there_is_named_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().to_str().unwrap();
    refused(&["list", empty], &["no skills here", "SKILL.md"]);
    refused(&["list", &format!("{empty}/none")], &["no such folder"]);
    refused(&["history", empty], &["no history.jsonl"]);
}
