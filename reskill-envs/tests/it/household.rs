//! Properties of the generated games.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use rayon::prelude::*;
use reskill_envs::alfworld::{Alfworld, AlfworldOptions};
use reskill_envs::household::{Appliance, Appliances, Family, Household, HouseholdConfig};
use reskill_envs::{EnvError, Split, Suite, Task, TaskId, TextEnv};

const SPLITS: [Split; 3] = [Split::Train, Split::ValidSeen, Split::ValidUnseen];

fn small(seed: u64) -> HouseholdConfig {
    HouseholdConfig { seed, n_train: 300, n_seen: 90, n_unseen: 90, ..HouseholdConfig::default() }
}

fn all_tasks(suite: &Household) -> Vec<Arc<Task>> {
    SPLITS.iter().flat_map(|&split| suite.tasks(split)).cloned().collect()
}

/// Plays commands; every one must be admissible and only the last may win.
fn check_wins(env: &mut dyn TextEnv, commands: &[String], what: &str) {
    assert!(!commands.is_empty(), "{what}");
    let mut admissible = env.reset().unwrap().admissible;
    for (index, command) in commands.iter().enumerate() {
        assert!(admissible.contains(command), "{what}: {command}");
        let step = env.step(command).unwrap();
        assert_eq!(step.won, index + 1 == commands.len(), "{what}: {command}");
        assert!(!step.observation.text.is_empty(), "{what}: {command}");
        admissible = step.observation.admissible;
    }
}

fn check_all_solved(config: &HouseholdConfig) {
    let suite = Household::generate(config).unwrap();
    all_tasks(&suite).par_iter().for_each(|task| {
        let mut env = suite.open(&task.id).unwrap();
        let plan = env.expert().unwrap();
        assert_eq!(plan, suite.game(&task.id).unwrap().walkthrough());
        assert!(plan.len() <= 16, "{}: {plan:?}", task.id);
        check_wins(env.as_mut(), &plan, &task.id.0);
    });
}

#[test]
fn the_expert_solves_every_game_of_several_seeds() {
    for seed in 0..4 {
        check_all_solved(&small(seed));
    }
}

#[test]
fn the_expert_solves_every_game_with_all_open_or_closed_and_idle_or_running() {
    for (closed_fraction, idle_fraction) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.5, 0.5)] {
        check_all_solved(&HouseholdConfig { closed_fraction, idle_fraction, ..small(7) });
    }
}

/// What is closed is started, what is idle is opened, and every appliance does the work of another.
fn changed(seed: u64) -> HouseholdConfig {
    let verbs = [("open", "start"), ("start", "open")].map(|(verb, word)| (verb.into(), word.into()));
    let appliances =
        Appliances { rinse: Appliance::Microwave, heat: Appliance::Fridge, chill: Appliance::Sink };
    HouseholdConfig { verbs: verbs.into(), appliances, ..small(seed) }
}

#[test]
fn a_changed_household_is_solved_with_its_own_words_and_appliances() {
    check_all_solved(&changed(5));
    let suite = Household::generate(&changed(5)).unwrap();
    let (mut n_opened, mut n_heated) = (0, 0);
    for task in suite.tasks(Split::Train) {
        for command in suite.game(&task.id).unwrap().walkthrough() {
            // Beds and tables are never opened, sinks never had a door.
            n_opened +=
                usize::from(command.starts_with("start cabinet") || command.starts_with("start drawer"));
            assert!(!command.starts_with("open cabinet") && !command.starts_with("start sink"), "{command}");
            n_heated += usize::from(command.starts_with("heat") && command.contains("in fridge"));
            assert!(!command.starts_with("heat") || command.contains("in fridge"), "{command}");
        }
    }
    assert!(n_opened > 20 && n_heated > 20, "{n_opened} {n_heated}");
}

#[test]
fn the_expert_solves_from_wherever_random_commands_lead() {
    let suite = Household::generate(&small(3)).unwrap();
    let tasks = all_tasks(&suite);
    tasks.par_iter().enumerate().for_each(|(index, task)| {
        let mut env = suite.open(&task.id).unwrap();
        let mut observation = env.reset().unwrap();
        let mut won = false;
        for turn in 0..30 {
            // A fixed walk that looks random enough.
            let choice = (index * 31 + turn * 17 + turn * turn * 7) % observation.admissible.len();
            let command = observation.admissible[choice].clone();
            let step = env.step(&command).unwrap();
            (observation, won) = (step.observation, step.won);
        }
        if won {
            return;
        }
        let plan = env.expert().unwrap();
        let last = plan.iter().map(|command| env.step(command).unwrap()).last().unwrap();
        assert!(last.won, "{}: {plan:?}", task.id);
    });
}

#[test]
fn equal_configurations_give_equal_games_and_seeds_differ() {
    let [first, second, other] = [5, 5, 6].map(|seed| Household::generate(&small(seed)).unwrap());
    assert_eq!(all_tasks(&first), all_tasks(&second));
    assert_ne!(all_tasks(&first), all_tasks(&other));
    let id = &first.tasks(Split::ValidUnseen)[4].id;
    assert_eq!(first.game_file(id).unwrap(), second.game_file(id).unwrap());
}

#[test]
fn families_are_uniform_in_every_split() {
    let suite = Household::generate(&small(0)).unwrap();
    for split in SPLITS {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for task in suite.tasks(split) {
            *counts.entry(&task.family).or_default() += 1;
        }
        assert_eq!(counts.len(), Family::ALL.len());
        assert_eq!(counts.values().min(), counts.values().max(), "{split}: {counts:?}");
    }
}

/// Object and place of a goal: `put two mug on shelf` and `put clean mug on shelf` are the same pair.
fn pair(goal: &str) -> (String, String) {
    let words: Vec<&str> = goal.split(' ').collect();
    (words[words.len() - 3].to_owned(), words[words.len() - 1].to_owned())
}

fn pairs(suite: &Household, split: Split) -> BTreeSet<(String, String)> {
    suite.tasks(split).iter().map(|task| pair(&task.goal)).collect()
}

#[test]
fn unseen_goals_share_no_pair_with_train_and_seen_goals_occur_in_train() {
    for seed in 0..4 {
        let suite = Household::generate(&HouseholdConfig { seed, ..HouseholdConfig::default() }).unwrap();
        let [train, seen, unseen] = SPLITS.map(|split| pairs(&suite, split));
        assert!(train.is_disjoint(&unseen));
        assert!(seen.is_subset(&train));
        let goals: HashSet<&str> = suite.tasks(Split::Train).iter().map(|task| task.goal.as_str()).collect();
        assert!(goals.len() >= 50, "{}", goals.len());
    }
}

#[test]
fn unseen_layouts_occur_in_no_other_split() {
    let suite = Household::generate(&small(1)).unwrap();
    let layout = |task: &Arc<Task>| {
        let problem = suite.game_file(&task.id).unwrap().pddl_problem;
        let words = |line: &str| line.trim_matches([' ', '(', ')']).split(' ').map(str::to_owned).collect();
        let facts: Vec<Vec<String>> = problem.lines().map(words).collect();
        let mut rooms: Vec<String> =
            facts.iter().filter(|fact| fact[0] == "inroom").map(|fact| fact[2].clone()).collect();
        rooms.sort();
        rooms.dedup();
        let mut kinds: Vec<String> =
            facts.iter().filter(|fact| fact[0] == "rkind").map(|fact| fact[2].clone()).collect();
        // The goal mentions `rkind` on a line of its own, with a variable.
        kinds.sort();
        (rooms, kinds)
    };
    let [train, seen, unseen] =
        SPLITS.map(|split| suite.tasks(split).iter().map(layout).collect::<BTreeSet<_>>());
    assert!(train.is_disjoint(&unseen));
    assert!(seen.is_disjoint(&unseen));
    for (rooms, kinds) in train.iter().chain(&unseen) {
        assert!((2..=3).contains(&rooms.len()), "{rooms:?}");
        assert!((6..=9).contains(&kinds.len()), "{kinds:?}");
    }
}

#[test]
fn a_game_reads_as_designed() {
    let config = HouseholdConfig { n_train: 60, n_seen: 0, n_unseen: 0, ..HouseholdConfig::default() };
    let suite = Household::generate(&config).unwrap();
    let family = Family::PickCleanThenPlaceInRecep.as_str();
    let task = suite.tasks(Split::Train).iter().find(|task| task.family == family).unwrap();
    let mut env = suite.open(&task.id).unwrap();
    let first = env.reset().unwrap();
    let (house, goal) = first.text.split_once("\n\n").unwrap();
    assert!(house.starts_with("house: "), "{house}");
    assert_eq!(goal, format!("task: {}", task.goal));
    assert!(task.goal.starts_with("put clean "), "{}", task.goal);
    assert_eq!(env.step("look").unwrap().observation.text, house);
    assert_eq!(env.step("inventory").unwrap().observation.text, "you hold nothing");
    assert_eq!(env.step("dance").unwrap().observation.text, "Nothing happens.");
    let sink = first.admissible.iter().find(|command| command.starts_with("go to sink")).unwrap();
    let sink = &sink["go to ".len()..];
    assert!(
        env.step(&format!("go to {sink}"))
            .unwrap()
            .observation
            .text
            .starts_with(&format!("{sink} is idle: "))
    );
    assert_eq!(env.step(&format!(" start {sink}\n")).unwrap().observation.text, format!("{sink} is running"));
    assert!(env.step(&format!("examine {sink}")).unwrap().observation.text.starts_with(&format!("{sink}: ")));
    assert_eq!(env.step(&format!("start {sink}")).unwrap().observation.text, "Nothing happens.");
}

#[test]
fn exported_games_play_the_same_when_read_back() {
    let config = HouseholdConfig { n_train: 30, n_seen: 6, n_unseen: 6, ..HouseholdConfig::default() };
    let suite = Household::generate(&config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    suite.export(folder.path()).unwrap();
    let read = Alfworld::open_path(folder.path(), &AlfworldOptions::default()).unwrap();
    assert_eq!(suite.vocabulary(), read.vocabulary());
    for split in SPLITS {
        let sorted =
            |tasks: &[Arc<Task>]| tasks.iter().cloned().map(|task| (task.id.clone(), task)).collect();
        let [ours, theirs]: [BTreeMap<TaskId, Arc<Task>>; 2] =
            [sorted(suite.tasks(split)), sorted(read.tasks(split))];
        assert_eq!(ours, theirs);
        for id in ours.keys() {
            let plan = read.walkthrough(id).unwrap();
            let (mut left, mut right) = (suite.open(id).unwrap(), read.open(id).unwrap());
            assert_eq!(left.reset().unwrap(), right.reset().unwrap());
            for command in plan {
                assert_eq!(left.step(&command).unwrap(), right.step(&command).unwrap());
            }
        }
    }
}

#[test]
fn every_admissible_command_fits_the_vocabulary() {
    let suite = Household::generate(&small(2)).unwrap();
    for task in suite.tasks(Split::Train).iter().step_by(10) {
        for command in suite.game(&task.id).unwrap().commands() {
            assert!(suite.vocabulary().parse(&command).is_some(), "{command}");
        }
    }
}

#[test]
fn configurations_out_of_range_are_refused() {
    let base = HouseholdConfig::default;
    let wrong = [
        HouseholdConfig { closed_fraction: 1.5, ..base() },
        HouseholdConfig { idle_fraction: f64::NAN, ..base() },
        HouseholdConfig { families: Vec::new(), ..base() },
        HouseholdConfig { families: vec![Family::PickAndPlaceSimple; 2], ..base() },
        HouseholdConfig { n_train: 2_000_000, ..base() },
        HouseholdConfig { verbs: [("open".into(), "start".into())].into(), ..base() },
        HouseholdConfig {
            appliances: Appliances { heat: Appliance::Sink, ..Appliances::default() },
            ..base()
        },
    ];
    for config in wrong {
        assert!(matches!(Household::generate(&config), Err(EnvError::Config { .. })), "{config:?}");
    }
    assert!(serde_json::from_str::<HouseholdConfig>(r#"{"n_trian": 3}"#).is_err());
}

#[test]
fn an_unknown_task_is_an_error() {
    let suite = Household::generate(&small(0)).unwrap();
    assert!(matches!(suite.open(&TaskId("train/none".into())), Err(EnvError::UnknownTask { .. })));
}
