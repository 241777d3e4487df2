//! What fails costs the episode that meets it, and says what happened.

use std::path::Path;
use std::time::{Duration, Instant};

use reskill_envs::scienceworld::{ScienceWorld, ScienceWorldOptions};
use reskill_envs::{EnvError, Fault, Suite, TaskId};

use super::fake::{Jump, gateway, options, real_goal, suite};

fn task() -> TaskId {
    TaskId("power-component/0".into())
}

fn fault(error: EnvError) -> Fault {
    match error {
        EnvError::Fault { program, fault } => {
            assert!(program.ends_with("scienceworld.jar"), "{program}");
            fault
        }
        other => panic!("{other}"),
    }
}

/// Loses an episode by `jump`; the one beside it and the next go on.
fn check_lost(jump: Jump, is_expected: impl Fn(&Fault) -> bool) {
    let dir = tempfile::tempdir().unwrap();
    let suite = match jump {
        Jump::Hangs => {
            let port = gateway(jump, &real_goal());
            let options = ScienceWorldOptions { timeout_secs: 0.3, ..options(dir.path(), &port.to_string()) };
            ScienceWorld::open_path(dir.path(), &options).unwrap()
        }
        _ => suite(dir.path(), jump),
    };
    let (mut lost, mut beside) = (suite.open(&task()).unwrap(), suite.open(&task()).unwrap());
    lost.reset().unwrap();
    beside.reset().unwrap();
    let fault = fault(lost.step("jump").unwrap_err());
    assert!(is_expected(&fault), "{fault:?}");
    assert!(lost.step("go on").unwrap_err().is_fault());
    assert_eq!(beside.step("go on").unwrap().score, 0.1);
    let mut next = suite.open(&task()).unwrap();
    next.reset().unwrap();
    assert_eq!(next.step("go on").unwrap().score, 0.1);
    assert_eq!(lost.reset().unwrap().text, "You see a corridor.");
}

#[test]
fn a_connection_that_breaks_costs_one_episode() {
    check_lost(Jump::Closes, |fault| matches!(fault, Fault::Lost { request, .. } if request == "step"));
}

#[test]
fn a_simulator_that_hangs_costs_one_episode_and_the_time_limit() {
    let start = Instant::now();
    check_lost(
        Jump::Hangs,
        |fault| matches!(fault, Fault::TimedOut { request, limit } if request == "step" && limit.as_millis() == 300),
    );
    // It would have taken a minute.
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn an_answer_without_sense_costs_one_episode() {
    check_lost(Jump::Babbles, |fault| matches!(fault, Fault::Protocol { reason, .. } if reason == "`hello`"));
}

#[test]
fn a_method_that_throws_costs_one_episode() {
    let thrown = "java.lang.IllegalStateException: too high";
    check_lost(Jump::Throws, |fault| matches!(fault, Fault::Refused { reason, .. } if reason == thrown));
}

fn check_start(options: impl Fn(&Path) -> ScienceWorldOptions, expected: &str) {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    let suite = ScienceWorld::open_path(dir.path(), &options).unwrap();
    let error = suite.open(&task()).unwrap().reset().unwrap_err();
    assert!(error.is_fault(), "{error}");
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn a_machine_that_cannot_start_says_why() {
    let no_java = |dir: &Path| ScienceWorldOptions { java: "no-such-java".into(), ..options(dir, "0") };
    check_start(no_java, "install a Java runtime, version 17 or newer, or name one in `java`");
    let single = |dir: &Path| ScienceWorldOptions { environments_per_jvm: 1, ..options(dir, "dies") };
    for dies in [&single as &dyn Fn(&Path) -> ScienceWorldOptions, &|dir| options(dir, "dies")] {
        check_start(
            dies,
            "(exit status: 1): Error: Could not find or load main class; expected the scienceworld.jar",
        );
    }
    check_start(|dir| options(dir, "refuses"), "no such class; expected the scienceworld.jar of the package");
    let sleeps = |dir: &Path| ScienceWorldOptions { start_timeout_secs: 0.2, ..options(dir, "sleeps") };
    check_start(sleeps, "no answer to `ping` within 200ms");
}

#[test]
fn a_port_that_refuses_is_a_fault() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    check_start(|dir| options(dir, &port.to_string()), &format!("lost during `connect to 127.0.0.1:{port}`"));
}

#[test]
fn more_episodes_than_simulators_wait_and_then_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let port = gateway(Jump::Closes, &real_goal());
    let options = ScienceWorldOptions { start_timeout_secs: 1.0, ..options(dir.path(), &port.to_string()) };
    let suite = ScienceWorld::open_path(dir.path(), &options).unwrap();
    assert_eq!(suite.max_running(), 2);
    let mut envs: Vec<_> = (0..3).map(|_| suite.open(&task()).unwrap()).collect();
    envs[0].reset().unwrap();
    envs[1].reset().unwrap();
    let error = envs[2].reset().unwrap_err();
    assert!(error.to_string().contains("all 2 simulators are in use"), "{error}");
    std::thread::scope(|scope| {
        let mut first = envs.remove(0);
        let waiting = scope.spawn(|| envs[1].reset().is_ok());
        std::thread::sleep(Duration::from_millis(100));
        first.step("go on").unwrap();
        drop(first);
        assert!(waiting.join().unwrap());
    });
}

#[test]
fn another_version_of_the_simulator_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let port = gateway(Jump::Closes, "Your task is to do something else.");
    let suite = ScienceWorld::open_path(dir.path(), &options(dir.path(), &port.to_string())).unwrap();
    let error = suite.open(&task()).unwrap().reset().unwrap_err();
    assert!(
        !error.is_fault() && error.to_string().contains("use the scienceworld.jar of the package"),
        "{error}"
    );
}

#[test]
fn a_folder_without_simulator_and_settings_out_of_range_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        |options: &ScienceWorldOptions| ScienceWorld::open_path(dir.path(), options).unwrap_err().to_string();
    assert!(open(&ScienceWorldOptions::default()).contains("scripts/get-scienceworld DIR fetches it"));
    for (options, key) in [
        (ScienceWorldOptions { memory_mib: 1, ..Default::default() }, "memory_mib"),
        (ScienceWorldOptions { jvms: 0, ..Default::default() }, "jvms"),
        (ScienceWorldOptions { environments_per_jvm: 0, ..Default::default() }, "environments_per_jvm"),
        (ScienceWorldOptions { timeout_secs: 0.0, ..Default::default() }, "timeout_secs"),
        (ScienceWorldOptions { start_timeout_secs: f64::NAN, ..Default::default() }, "start_timeout_secs"),
        (ScienceWorldOptions { simplification: "easy,fly".into(), ..Default::default() }, "simplification"),
    ] {
        assert!(open(&options).starts_with(&format!("`{key}` = ")), "{key}");
    }
}

#[test]
fn no_process_is_left_when_the_suite_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), Jump::Closes);
    suite.open(&task()).unwrap().reset().unwrap();
    let ids = suite.process_ids();
    assert_eq!(ids.len(), 1);
    assert!(Path::new(&format!("/proc/{}", ids[0])).exists());
    drop(suite);
    assert!(!Path::new(&format!("/proc/{}", ids[0])).exists());
}
