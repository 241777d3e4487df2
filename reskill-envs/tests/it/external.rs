//! Environments in other programs: the example in Python, and shell scripts that fail in every way.

use std::path::Path;
use std::time::{Duration, Instant};

use reskill_envs::check::solve_all;
use reskill_envs::external::{External, ExternalOptions};
use reskill_envs::{EnvError, Fault, Split, Suite, TaskId};

fn example() -> ExternalOptions {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/external_env.py");
    let command = ["python3", script.to_str().unwrap()].map(String::from).to_vec();
    ExternalOptions { command, processes: 2, ..ExternalOptions::default() }
}

#[test]
fn the_example_is_a_suite_whose_expert_wins() {
    let suite = External::start(&example()).unwrap();
    assert_eq!(suite.name(), "counter");
    assert_eq!(Split::ALL.map(|split| suite.tasks(split).len()), [6, 3, 3, 0]);
    assert_eq!(suite.vocabulary().verbs(), ["go to", "take", "give"]);
    // Four commands a task: go, take, go back, give.
    assert_eq!(solve_all(&suite, 4).unwrap(), 4 * 12);
    let mut env = suite.open(&TaskId("pen-attic".into())).unwrap();
    assert_eq!(env.reset().unwrap().admissible, ["go to hall", "go to attic", "go to cellar", "go to counter", "give"]);
    let step = env.step("give").unwrap();
    assert_eq!((step.score, step.done, step.won), (0.0, true, false));
    assert!(matches!(suite.open(&TaskId("x".into())), Err(EnvError::UnknownTask { .. })));
}

#[test]
fn a_process_is_used_again_and_ends_with_the_suite() {
    let suite = External::start(&example()).unwrap();
    let ids = suite.idle_process_ids();
    for _ in 0..3 {
        suite.open(&TaskId("pen-attic".into())).unwrap().reset().unwrap();
    }
    assert_eq!(suite.idle_process_ids(), ids);
    let is_there = || Path::new(&format!("/proc/{}", ids[0])).exists();
    assert!(is_there());
    drop(suite);
    assert!(!is_there());
}

#[test]
fn what_a_process_started_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let start = |after: &str| {
        let child = format!("sleep 600 >/dev/null & echo $! >{}; {after}", file.display());
        let suite = External::start(&script(HELLO, &child)).unwrap();
        let mut env = suite.open(&TaskId("a".into())).unwrap();
        env.reset().unwrap();
        env.step("go").unwrap_err();
        drop(env);
        drop(suite);
        std::fs::read_to_string(&file).unwrap().trim().to_string()
    };
    for after in ["exit 3", "echo nonsense", "sleep 60"] {
        let id = start(after);
        // The signal is sent, not yet obeyed. In the end it is gone, or dead and not yet collected by who inherits it.
        let deadline = Instant::now() + Duration::from_secs(20);
        let state = || std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        while !(state().is_empty() || state().contains(") Z ")) {
            assert!(Instant::now() < deadline, "{after}: {}", state());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

const HELLO: &str = r#"{"protocol":1,"name":"t","tasks":[{"id":"a","split":"train","family":"f","goal":"g"}],"vocabulary":["go"]}"#;

/// A shell script that says hello, begins an episode, and then does something odd.
fn script(hello: &str, then: &str) -> ExternalOptions {
    let script = format!(
        "read -r r; echo '{hello}'; read -r r; echo '{{\"observation\":\"hi\"}}'; read -r r; {then}; read -r r"
    );
    let command = ["sh", "-c", &script].map(String::from).to_vec();
    let (timeout_secs, max_line_bytes) = (1.0, 4096);
    ExternalOptions { command, timeout_secs, max_line_bytes, processes: 1, ..ExternalOptions::default() }
}

fn check_fault(then: &str, is_expected: impl Fn(&Fault) -> bool) {
    let suite = External::start(&script(HELLO, then)).unwrap();
    for _ in 0..2 {
        let mut env = suite.open(&TaskId("a".into())).unwrap();
        assert_eq!(env.reset().unwrap().text, "hi");
        match env.step("go").unwrap_err() {
            EnvError::Fault { fault, .. } => assert!(is_expected(&fault), "{then}: {fault:?}"),
            other => panic!("{then}: {other}"),
        }
        assert!(env.step("go").unwrap_err().is_fault());
    }
}

#[test]
fn a_process_that_ends_costs_its_episode() {
    check_fault(
        "exit 3",
        |fault| matches!(fault, Fault::Lost { reason, .. } if reason.contains("exit status: 3")),
    );
    check_fault(
        "kill -9 $$",
        |fault| matches!(fault, Fault::Lost { reason, .. } if reason.contains("SIGKILL")),
    );
}

#[test]
fn a_process_that_says_nothing_costs_its_episode_and_the_time_limit() {
    let start = Instant::now();
    check_fault("sleep 60", |fault| matches!(fault, Fault::TimedOut { .. }));
    check_fault("kill -STOP $$", |fault| matches!(fault, Fault::TimedOut { .. }));
    assert!(start.elapsed() < Duration::from_secs(40));
}

#[test]
fn garbage_costs_its_episode_and_is_shown() {
    let says = |part: &'static str| move |fault: &Fault| matches!(fault, Fault::Protocol { reason, .. } if reason.contains(part));
    check_fault("echo loading...", says("`loading...`: expected value"));
    check_fault("echo", says("only answers may be written to standard output"));
    check_fault(
        "head -c 9000 /dev/zero | tr '\\0' x",
        says("a line of more than 4096 bytes (`max_line_bytes`)"),
    );
    check_fault("printf '\\377\\n'", says("not UTF-8"));
    check_fault(r#"echo '{"observation":"x","score":0,"done":false}'"#, says("missing field `won`"));
    check_fault(
        r#"echo '{"observation":"x","score":0,"done":false,"won":false,"admisible":[]}'"#,
        says("unknown field `admisible`"),
    );
    check_fault(r#"echo '{"observation":"x","score":2,"done":false,"won":false}'"#, says("a score of 2"));
}

#[test]
fn an_error_that_the_program_reports_costs_its_episode() {
    check_fault(
        r#"echo '{"error":"out of paper"}'"#,
        |fault| matches!(fault, Fault::Refused { request, reason } if request == "step" && reason == "out of paper"),
    );
}

#[test]
fn a_huge_action_is_refused_and_not_sent() {
    let suite = External::start(&example()).unwrap();
    let mut env = suite.open(&TaskId("pen-attic".into())).unwrap();
    env.reset().unwrap();
    let error = env.step(&"x".repeat(100_000)).unwrap_err();
    assert!(matches!(error, EnvError::Fault { fault: Fault::Refused { .. }, .. }), "{error}");
}

#[test]
fn a_program_that_cannot_be_a_suite_is_refused_at_the_start() {
    let check = |options: ExternalOptions, expected: &str| {
        let error = External::start(&options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    let of = |hello: &str| script(hello, "true");
    check(of(&HELLO.replace("\"protocol\":1", "\"protocol\":2")), "it speaks protocol 2, expected 1");
    check(of("hello"), "`hello`: expected value");
    check(of(&HELLO.replace("train", "test")), "unknown variant `test`");
    check(of(&HELLO.replace("[\"go\"]", "[\"{x}\"]")), "`{x}` in the vocabulary");
    let twice = HELLO.replace("}],", r#"},{"id":"a","split":"train","family":"f","goal":"g"}],"#);
    check(of(&twice), "two tasks have the id `a`");
    let command = |words: &[&str]| words.iter().map(ToString::to_string).collect();
    check(
        ExternalOptions { command: command(&["no-such-program"]), ..Default::default() },
        "cannot be started",
    );
    check(ExternalOptions::default(), "`command` = []");
    check(ExternalOptions { processes: 0, ..example() }, "`processes` = 0");
}

#[test]
fn without_an_expert_there_is_none() {
    let suite = External::start(&script(HELLO, "true")).unwrap();
    let mut env = suite.open(&TaskId("a".into())).unwrap();
    env.reset().unwrap();
    assert!(matches!(env.expert(), Err(EnvError::Unsupported { what: "expert" })));
    // The script plays once.
    let suite = External::start(&script(HELLO, "true")).unwrap();
    assert!(matches!(solve_all(&suite, 1), Err(EnvError::Unsupported { .. })));
}
