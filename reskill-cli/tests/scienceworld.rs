//! ScienceWorld from the command line, where the simulator is (`scripts/get-scienceworld target/scienceworld`).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

fn jar() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/scienceworld/scienceworld.jar");
    let jar = std::env::var_os("RESKILL_SCIENCEWORLD_JAR").map_or(built, PathBuf::from);
    jar.is_file().then_some(jar)
}

fn cli(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reskill-cli"));
    command.args(args);
    command
}

#[test]
fn replay_prints_scores_of_a_hundred_and_lists_actions_only_when_asked() {
    let Some(jar) = jar() else { return };
    for valid_actions in [false, true] {
        let mut command =
            cli(&["env", "replay", "--env", "scienceworld", "--game", "power-component/0", "--data"]);
        command.arg(&jar).args(["--actions", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        if valid_actions {
            command.arg("--valid-actions");
        }
        let mut child = command.spawn().unwrap();
        let actions = json!(["look around", "focus on red light bulb", "teleport to workshop"]).to_string();
        child.stdin.take().unwrap().write_all(actions.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let lines: Vec<Value> = output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice(line).ok())
            .collect();
        assert_eq!(lines.len(), 4);
        for line in &lines {
            assert_eq!(line["admissible"].is_array(), valid_actions, "{line}");
        }
        assert!(lines[0]["obs"].as_str().unwrap().starts_with("This room is called the hallway."));
        assert!(lines[3]["score"].is_i64() && lines[3]["won"] == false, "{}", lines[3]);
    }
}

#[test]
fn a_machine_ends_when_this_program_is_killed() {
    let Some(jar) = jar() else { return };
    let mut command = cli(&["env", "play", "--env", "scienceworld", "--game", "power-component/0", "--data"]);
    let mut child = command.arg(&jar).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("hallway") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0);
    }
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let all: Vec<PathBuf> = children.split_whitespace().map(|id| Path::new("/proc").join(id)).collect();
    assert!(!all.is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    let start = Instant::now();
    // An ended process that nobody has waited for yet has no command line any more.
    let is_there =
        |process: &PathBuf| std::fs::read(process.join("cmdline")).is_ok_and(|line| !line.is_empty());
    while all.iter().any(is_there) {
        assert!(start.elapsed() < Duration::from_secs(20), "{all:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
