//! Help texts, `doctor`, `completions` and `config` as people and programs use them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::{Command, Output};

use serde_json::Value;

fn reskill(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reskill-cli")).args(args).output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let output = reskill(args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let lines = listed.lines().take_while(|line| !line.trim().is_empty());
    // Names stand two columns in; further ones are continued descriptions.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(ToString::to_string).collect()
}

#[test]
fn every_command_explains_itself_with_examples_and_every_group_its_exit_codes() {
    let top = stdout(&["--help"]);
    assert!(top.contains("Examples:") && top.contains("Exit codes:"));
    let names = commands(&top);
    for name in [
        "train",
        "sft",
        "adapt",
        "eval",
        "config",
        "skills",
        "env",
        "index",
        "bench",
        "doctor",
        "completions",
    ] {
        assert!(names.iter().any(|one| one == name), "{name} is not among {names:?}");
    }
    for name in &names {
        let help = stdout(&[name, "--help"]);
        assert!(help.contains("Examples:"), "{name} has no examples");
        assert!(help.contains("Exit codes:"), "{name} has no exit codes");
        for leaf in commands(&help) {
            let help = stdout(&[name, &leaf, "--help"]);
            assert!(help.contains("Examples:"), "{name} {leaf} has no examples");
        }
    }
}

#[test]
fn every_example_of_the_help_texts_is_a_command_line_that_is_understood() {
    let top = stdout(&["--help"]);
    let mut seen = 0;
    for name in commands(&top) {
        let help = stdout(&[&name, "--help"]);
        let leaves = commands(&help).into_iter().map(|leaf| stdout(&[&name, &leaf, "--help"]));
        for help in std::iter::once(help.clone()).chain(leaves) {
            let examples = help.split("Examples:\n").nth(1).unwrap_or_default();
            for line in examples.lines().filter(|line| line.trim_start().starts_with("reskill-cli ")) {
                // What follows two blanks explains the example; pipes and redirections are the shell's.
                let line = line.trim_start().split("  ").next().unwrap_or_default();
                let line = [" | ", " > ", " < "]
                    .iter()
                    .fold(line, |line, mark| line.split(mark).next().unwrap_or_default());
                let words = shlex::split(line).unwrap();
                let mut args: Vec<&str> = words[1..].iter().map(String::as_str).collect();
                // clap reads the whole line before it prints help; what it does not know it refuses with code 2.
                args.push("--help");
                let output = reskill(&args);
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(output.status.success(), "{line}: {said}");
                seen += 1;
            }
        }
    }
    assert!(seen > 60, "{seen} examples");
}

#[test]
fn doctor_names_every_part_with_what_to_do_about_those_that_are_missing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("scienceworld.jar"), "").unwrap();
    let path = dir.path().to_str().unwrap();
    let output = reskill(&["doctor", "--data", path, "--json"]);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let has_problem = findings.iter().any(|finding| finding["status"] == "problem");
    assert_eq!(output.status.code(), Some(i32::from(has_problem)));
    let parts: Vec<&str> = findings.iter().map(|finding| finding["part"].as_str().unwrap()).collect();
    for part in [
        "program",
        "cpu",
        "memory",
        "disk",
        "gpu",
        "java",
        "scienceworld",
        "python",
        "data",
        "models",
        "keys",
    ] {
        assert!(parts.contains(&part), "{part} is not among {parts:?}");
    }
    for finding in &findings {
        assert!(["ok", "absent", "problem"].contains(&finding["status"].as_str().unwrap()), "{finding}");
        assert!(finding["found"].as_str().unwrap().len() > 3, "{finding}");
        assert_eq!(finding["status"] == "ok", finding["get"].is_null(), "{finding}");
    }
    let found = |part: &str| {
        let finding = findings.iter().find(|finding| finding["part"] == part).unwrap();
        finding["found"].as_str().unwrap().to_string()
    };
    assert!(found("scienceworld").starts_with(path) && found("data").contains("--config scienceworld"));
    let table = String::from_utf8(reskill(&["doctor"]).stdout).unwrap();
    assert!(table.lines().any(|line| line.starts_with("ok") && line.contains("cpu")), "{table}");
}

#[test]
fn doctor_finds_no_java_where_there_is_none_and_never_shows_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.args(["doctor", "--json"]).env("PATH", dir.path()).env("OPENAI_API_KEY", "sk-very-secret");
    command
        .env("HOME", dir.path())
        .env_remove("XDG_CACHE_HOME")
        .env_remove("HF_HOME")
        .env_remove("HF_HUB_CACHE");
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let findings: Vec<Value> = serde_json::from_str(&text).unwrap();
    let status = |part: &str| {
        let finding = findings.iter().find(|finding| finding["part"] == part).unwrap();
        finding["status"].as_str().unwrap().to_string()
    };
    for part in ["java", "python", "models"] {
        assert_eq!(status(part), "absent", "{text}");
    }
    assert_eq!(status("keys"), "ok");
    assert!(text.contains("OPENAI_API_KEY") && !text.contains("secret"), "{text}");
}

#[test]
fn completions_know_the_commands_and_their_options() {
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef"),
        ("fish", "complete -c"),
        ("elvish", "edit:"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = stdout(&["completions", shell]);
        assert!(script.contains(mark), "{shell}");
        for word in ["adapt", "doctor", "resume"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
    }
    assert_eq!(reskill(&["completions", "cmd"]).status.code(), Some(2));
}

#[test]
fn config_speaks_json_wherever_a_program_reads_it() {
    let presets: Vec<Value> = serde_json::from_str(&stdout(&["config", "list", "--json"])).unwrap();
    assert_eq!(presets[0]["name"], "default");
    assert!(presets.iter().any(|preset| preset["name"] == "ablation-off" && preset["overlay"] == true));
    let output = reskill(&["config", "check", "default", "default+ablation-off", "nowhere", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(checked["default"].is_null() && checked["default+ablation-off"].is_null());
    assert!(checked["nowhere"].as_str().unwrap().contains("cannot be read"), "{checked}");
    let schema: Value = serde_json::from_str(&stdout(&["config", "schema"])).unwrap();
    assert_eq!(schema["title"], "TrainConfig");
}
