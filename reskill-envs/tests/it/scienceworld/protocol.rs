//! Episodes over the stand-in simulator.

use reskill_envs::scienceworld::{ScienceWorld, ScienceWorldOptions, TaskFamily};
use reskill_envs::{EnvError, Split, Suite, TaskId};

use super::fake::{Jump, suite};

#[test]
fn an_episode_reads_scores_and_ends_as_the_simulator_says() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), Jump::Closes);
    let mut env = suite.open(&TaskId("power-component/0".into())).unwrap();
    let first = env.reset().unwrap();
    assert_eq!(first.text, "You see a corridor.");
    assert_eq!(first.admissible, ["go on", "jump", "look around"]);
    assert_eq!(first.objects, ["agent", "room"]);
    let mut ends = Vec::new();
    for room in 1..=10_u8 {
        let step = env.step("go on").unwrap();
        assert_eq!(step.observation.text, format!("You are in room {room}.\nIt is\\was dark."));
        assert_eq!(step.score, f32::from(room) / 10.0);
        ends.push((step.won, step.done));
    }
    // Above 70 of 100 it counts as a success, but goes on until the simulator says that the task is done.
    let expected: Vec<(bool, bool)> = (1..=10).map(|room| (room > 7, room == 10)).collect();
    assert_eq!(ends, expected);
    env.reset().unwrap();
    let step = env.step("give up").unwrap();
    assert_eq!((step.score, step.done, step.won), (-1.0, true, false));
}

#[test]
fn the_expert_tells_what_is_left_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let suite = suite(dir.path(), Jump::Closes);
    let mut env = suite.open(&TaskId("power-component/0".into())).unwrap();
    env.reset().unwrap();
    env.step("go on").unwrap();
    env.step("look around").unwrap();
    assert_eq!(env.expert().unwrap(), ["go on"; 9]);
    assert_eq!(env.step("go on").unwrap().score, 0.2);
    assert_eq!(env.expert().unwrap().len(), 8);
    assert!(matches!(env.boxed_clone(), Err(EnvError::Unsupported { .. })));
}

#[test]
fn published_tasks_are_the_default_and_a_list_of_tasks_replaces_them() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("scienceworld.jar"), "").unwrap();
    let counts = |options: &ScienceWorldOptions| {
        let suite = ScienceWorld::open_path(dir.path(), options).unwrap();
        Split::ALL.map(|split| suite.tasks(split).len())
    };
    // Variations of the published splits: 8 + 450, 5 + 225, 10 + 225, 7 + 150 or what the table says.
    let families = TaskFamily::all().unwrap();
    let sizes = |names: &[&str]| {
        let chosen = || families.iter().filter(|family| names.contains(&family.name.as_str()));
        let (train, dev): (usize, usize) =
            (chosen().map(|it| it.train.len()).sum(), chosen().map(|it| it.dev.len()).sum());
        [train, dev, chosen().map(|it| it.test.len()).sum()]
    };
    let options = ScienceWorldOptions::default();
    let [train, dev, test] = sizes(&["power-component", "test-conductivity"]);
    let [.., unseen] = sizes(&[
        "power-component-renewable-vs-nonrenewable-energy",
        "test-conductivity-of-unknown-substances",
    ]);
    assert_eq!(counts(&options), [train, test, unseen, dev]);
    assert_eq!(counts(&ScienceWorldOptions::all_tasks()).iter().sum::<usize>(), 7207);
    let boil =
        ScienceWorldOptions { train_tasks: vec!["boil".into()], unseen_tasks: vec![], ..options.clone() };
    assert_eq!(counts(&boil), [14, 9, 0, 7]);
    let unknown = ScienceWorldOptions { train_tasks: vec!["fly".into()], ..options };
    let error = ScienceWorld::open_path(dir.path(), &unknown).unwrap_err().to_string();
    assert_eq!(error, "`train_tasks` = fly, expected the name of a ScienceWorld task");
}

#[test]
fn tasks_are_as_published() {
    let families = TaskFamily::all().unwrap();
    assert_eq!(families.len(), 30);
    for family in &families {
        let n = family.goals.len();
        assert_eq!((family.train.start, family.train.end), (0, family.dev.start), "{}", family.name);
        assert_eq!((family.dev.end, family.test.end), (family.test.start, n), "{}", family.name);
        assert!(family.goals.iter().all(|goal| goal.starts_with("Your task is to ")), "{}", family.name);
    }
}
