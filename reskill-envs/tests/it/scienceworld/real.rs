//! The real simulator: `$RESKILL_SCIENCEWORLD_JAR`, or `target/scienceworld/scienceworld.jar`, where
//! `scripts/get-scienceworld target/scienceworld` puts it. Without it these tests have nothing to do.

use std::path::{Path, PathBuf};
use std::process::Command;

use rayon::prelude::*;
use reskill_envs::scienceworld::{ScienceWorld, ScienceWorldOptions, Survey, TaskFamily};
use reskill_envs::{EnvError, Fault, Suite, TaskId};
use serde::Deserialize;

use crate::data::data;

fn jar() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/scienceworld/scienceworld.jar");
    let jar = std::env::var_os("RESKILL_SCIENCEWORLD_JAR").map_or(built, PathBuf::from);
    jar.is_file().then_some(jar)
}

fn suite(options: &ScienceWorldOptions) -> Option<ScienceWorld> {
    Some(ScienceWorld::open_path(&jar()?, options).unwrap())
}

fn signal(id: u32, signal: &str) {
    assert!(Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
}

#[derive(Deserialize)]
struct Transcript {
    task: String,
    variation: usize,
    reset_obs: String,
    steps: Vec<Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    action: String,
    obs: String,
    score: f32,
    done: bool,
}

/// Words in an order of their own: that of doors and things is not the same every time, in the original as well.
fn sorted(text: &str) -> Vec<&str> {
    let mut words: Vec<&str> = text.split(|c: char| c.is_whitespace() || ",.".contains(c)).collect();
    words.retain(|word| !word.is_empty());
    words.sort_unstable();
    words
}

/// Tasks in which chance decides: the original does not play them the same twice.
const BY_CHANCE: [&str; 4] =
    ["mendelian-genetics-known-plant", "mendelian-genetics-unknown-plant", "grow-fruit", "use-thermometer"];

#[test]
fn recorded_episodes_of_the_original_package_are_reproduced() {
    let Some(folder) = data("scienceworld", "golden_transcripts.jsonl.gz") else { return };
    let options = ScienceWorldOptions {
        environments_per_jvm: 1,
        jvms: 2,
        objects: false,
        ..ScienceWorldOptions::all_tasks()
    };
    let Some(suite) = suite(&options) else { return };
    let file = std::fs::File::open(folder.join("golden_transcripts.jsonl.gz")).unwrap();
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(file)).unwrap();
    let transcripts: Vec<Transcript> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(transcripts.len(), 30);
    for transcript in &transcripts {
        let name = format!("{}/{}", transcript.task, transcript.variation);
        let mut env = suite.open(&TaskId(name.clone())).unwrap();
        assert_eq!(sorted(&env.reset().unwrap().text), sorted(&transcript.reset_obs), "{name}");
        let mut last = None;
        for (turn, recorded) in transcript.steps.iter().enumerate() {
            let step = env.step(&recorded.action).unwrap();
            if !BY_CHANCE.contains(&transcript.task.as_str()) {
                let place = format!("{name} turn {turn}: {}", recorded.action);
                assert_eq!(sorted(&step.observation.text), sorted(&recorded.obs), "{place}");
                assert_eq!((step.score, step.done), (recorded.score / 100.0, recorded.done), "{place}");
            }
            last = Some(step);
        }
        if !BY_CHANCE.contains(&transcript.task.as_str()) {
            assert!(last.is_some_and(|step| step.done && step.won), "{name}");
        }
    }
}

#[test]
fn the_expert_reaches_the_full_score_of_every_task() {
    let Some(suite) =
        suite(&ScienceWorldOptions { jvms: 1, objects: false, ..ScienceWorldOptions::all_tasks() })
    else {
        return;
    };
    TaskFamily::all().unwrap().par_iter().for_each(|family| {
        // The last variation of the test set; the recorded episodes are the first of the train set.
        let id = TaskId(format!("{}/{}", family.name, family.goals.len() - 1));
        let mut env = suite.open(&id).unwrap();
        env.reset().unwrap();
        let mut end = (0.0, false, false);
        for command in env.expert().unwrap() {
            let step = env.step(&command).unwrap();
            end = (step.score, step.done, step.won);
        }
        assert_eq!(end, (1.0, true, true), "{id}");
    });
}

#[test]
fn simulators_of_one_machine_do_not_disturb_each_other_and_episodes_are_reproducible() {
    let options = ScienceWorldOptions { jvms: 1, valid_actions: true, ..ScienceWorldOptions::default() };
    let Some(suite) = suite(&options) else { return };
    let ids = ["power-component/0", "test-conductivity/7"].map(|id| TaskId(id.into()));
    let play = |id: &TaskId| -> Vec<String> {
        let mut env = suite.open(id).unwrap();
        let first = env.reset().unwrap();
        let mut read = vec![first.text, first.admissible.join("\n")];
        for command in env.expert().unwrap() {
            let step = env.step(&command).unwrap();
            read.push(format!("{command}\n{}\n{}", step.observation.text, step.score));
            read.push(step.observation.admissible.join("\n"));
        }
        read
    };
    let alone: Vec<Vec<String>> = ids.iter().map(play).collect();
    let together: Vec<Vec<String>> = (0..6).into_par_iter().map(|index| play(&ids[index % 2])).collect();
    for (index, read) in together.iter().enumerate() {
        assert_eq!(*read, alone[index % 2], "episode {index}");
    }
}

#[test]
fn every_listed_step_of_the_expert_wins_the_published_tasks() {
    let options = ScienceWorldOptions { jvms: 1, valid_actions: true, objects: false, ..Default::default() };
    let Some(suite) = suite(&options) else { return };
    for id in ["power-component/1", "test-conductivity/11", "test-conductivity/40"] {
        let mut env = suite.open(&TaskId(id.into())).unwrap();
        let mut admissible = env.reset().unwrap().admissible;
        let mut won = false;
        for _ in 0..60 {
            let Some(command) = env.expert().unwrap().into_iter().next() else { break };
            assert!(admissible.contains(&command), "{id}: {command}");
            let step = env.step(&command).unwrap();
            (admissible, won) = (step.observation.admissible, step.won);
        }
        assert!(won, "{id}");
    }
}

#[test]
fn a_machine_that_is_killed_costs_its_episodes_and_is_replaced() {
    let Some(suite) = suite(&ScienceWorldOptions { jvms: 1, ..ScienceWorldOptions::default() }) else {
        return;
    };
    let open = || suite.open(&TaskId("power-component/0".into())).unwrap();
    let (mut one, mut other) = (open(), open());
    one.reset().unwrap();
    other.reset().unwrap();
    let killed = suite.process_ids()[0];
    signal(killed, "-KILL");
    for env in [&mut one, &mut other] {
        let error = env.step("look around").unwrap_err();
        assert!(matches!(&error, EnvError::Fault { fault: Fault::Lost { .. }, .. }), "{error}");
        assert!(error.to_string().contains("the Java machine ended (signal: 9 (SIGKILL))"), "{error}");
    }
    let mut next = open();
    next.reset().unwrap();
    assert!(next.step("look around").is_ok());
    assert_ne!(suite.process_ids(), [killed]);
}

#[test]
fn a_machine_that_stops_is_given_up_after_the_time_limit_and_replaced() {
    let options = ScienceWorldOptions { jvms: 1, timeout_secs: 3.0, ..ScienceWorldOptions::default() };
    let Some(suite) = suite(&options) else { return };
    let mut env = suite.open(&TaskId("power-component/0".into())).unwrap();
    env.reset().unwrap();
    let stopped = suite.process_ids()[0];
    signal(stopped, "-STOP");
    let error = env.step("look around").unwrap_err();
    assert!(matches!(&error, EnvError::Fault { fault: Fault::TimedOut { .. }, .. }), "{error}");
    assert!(!Path::new(&format!("/proc/{stopped}")).exists());
    env.reset().unwrap();
    assert!(env.step("look around").is_ok());
}

#[test]
fn the_table_of_tasks_is_what_the_simulator_says() {
    let Some(jar) = jar() else { return };
    let mut survey = Survey::start(&jar, &ScienceWorldOptions::default()).unwrap();
    let table = TaskFamily::all().unwrap();
    let names: Vec<&str> = table.iter().map(|family| family.name.as_str()).collect();
    assert_eq!(survey.names().unwrap(), names);
    for family in &table {
        let stride = family.goals.len().div_ceil(3);
        let mut said = survey.family(&family.name, stride).unwrap();
        let asked: Vec<&String> = said.goals.iter().step_by(stride).collect();
        assert_eq!(asked, family.goals.iter().step_by(stride).collect::<Vec<_>>(), "{}", family.name);
        said.goals.clone_from(&family.goals);
        assert_eq!(said, *family);
    }
}
