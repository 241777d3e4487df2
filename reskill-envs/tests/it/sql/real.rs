//! The real tasks and databases. Without the data the tests pass: set `RESKILL_DATA` to the folder above `intercode_sql/`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use reskill_envs::sql::{SqlConfig, SqlSuite, reward};
use reskill_envs::{Split, Suite, Task, TaskId};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{play, seen};
use crate::data::data;

fn folder() -> Option<PathBuf> {
    data("intercode_sql", "ic_spider_dev.json")
}

fn all_tasks(suite: &SqlSuite) -> Vec<Arc<Task>> {
    Split::ALL.iter().flat_map(|&split| suite.tasks(split)).cloned().collect()
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Deserialize)]
struct Counted {
    idx: usize,
    db: String,
    n_rows: usize,
}

#[test]
fn gold_queries_have_the_recorded_numbers_of_rows() {
    let Some(folder) = folder() else { return };
    let suite = SqlSuite::open_path(&folder, &SqlConfig::default()).unwrap();
    let text = std::fs::read_to_string(folder.join("sqlite_gold_check.jsonl")).unwrap();
    let counted: Vec<Counted> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(counted.len(), 707);
    let mut n_compared = 0;
    for Counted { idx, db, n_rows } in counted {
        let id = TaskId(idx.to_string());
        let Some(rows) = suite.gold_rows(&id) else {
            assert_eq!(db, "wta_1", "{id}");
            continue;
        };
        assert_eq!(rows.unwrap().len(), n_rows, "{id}");
        n_compared += 1;
    }
    assert_eq!(n_compared, 661);
}

#[test]
fn gold_rows_print_and_rewards_are_as_in_python() {
    let Some(folder) = folder() else { return };
    let suite = SqlSuite::open_path(&folder, &SqlConfig::default()).unwrap();
    let recorded: Vec<(usize, usize, String, String, f64)> =
        include_str!("gold_rows.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(recorded.len(), 972);
    let mut others = Vec::new();
    for (idx, n_rows, printed, sorted, backwards) in &recorded {
        let id = TaskId(idx.to_string());
        let rows = suite.gold_rows(&id).unwrap().unwrap();
        assert_eq!(rows.len(), *n_rows, "{id}");
        let mut env = suite.open(&id).unwrap();
        let (_, gold) = suite.gold(&id).unwrap();
        if digest(&seen(env.as_mut(), gold)) != *printed {
            others.push(*idx);
            continue;
        }
        let mut in_order = rows.to_vec();
        in_order.sort_unstable();
        assert_eq!(digest(&in_order.join("\n")), *sorted, "{id}");
        let reversed: Vec<String> = rows.iter().rev().cloned().collect();
        assert_eq!(reward(&reversed, rows), *backwards, "{id}");
    }
    // Averages, which SQLite adds up with compensation since 3.43; Python's was 3.40. They differ in their last digit.
    assert_eq!(others, [270, 435, 623, 857, 926, 966]);
}

#[test]
fn the_gold_query_has_reward_one_on_every_task() {
    let Some(folder) = folder() else { return };
    let suite = SqlSuite::open_path(&folder, &SqlConfig::default()).unwrap();
    let tasks = all_tasks(&suite);
    assert_eq!(tasks.len(), 972);
    tasks.par_iter().for_each(|task| {
        let mut env = suite.open(&task.id).unwrap();
        let plan = env.expert().unwrap();
        let step = play(env.as_mut(), &plan.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(step.won && step.score == 1.0, "{}: {step:?}", task.id);
    });
}

#[test]
fn splits_share_no_database_and_no_gold_query() {
    let Some(folder) = folder() else { return };
    let suite = SqlSuite::open_path(&folder, &SqlConfig::default()).unwrap();
    let counts = Split::ALL.map(|split| suite.tasks(split).len());
    assert_eq!(counts, [656, 116, 200, 0]);
    let mut split_of: HashMap<(String, String), Split> = HashMap::new();
    let mut databases: BTreeMap<String, BTreeSet<Split>> = BTreeMap::new();
    for task in all_tasks(&suite) {
        let (db, gold) = suite.gold(&task.id).unwrap();
        let words: Vec<&str> = gold.trim_end_matches(';').split_whitespace().collect();
        let key = (db.to_owned(), words.join(" ").to_lowercase());
        assert_eq!(*split_of.entry(key).or_insert(task.split), task.split, "{}", task.id);
        databases.entry(db.to_owned()).or_default().insert(task.split);
    }
    assert_eq!(databases.len(), 19);
    for (name, splits) in databases {
        assert!(splits.len() == 1 || !splits.contains(&Split::ValidUnseen), "{name}");
    }
    let mut hardness: BTreeMap<String, usize> = BTreeMap::new();
    for task in all_tasks(&suite) {
        *hardness.entry(task.family.clone()).or_default() += 1;
    }
    let expected = [("easy", 232), ("extra", 164), ("hard", 160), ("medium", 416)];
    assert_eq!(hardness, expected.map(|(name, count)| (name.to_owned(), count)).into());
}

#[test]
fn candidates_answer_a_third_of_the_questions() {
    let Some(folder) = folder() else { return };
    let config = SqlConfig { candidates: true, ..SqlConfig::default() };
    let suite = SqlSuite::open_path(&folder, &config).unwrap();
    let tasks = all_tasks(&suite);
    let solved: Vec<&str> = tasks
        .par_iter()
        .filter(|task| suite.open(&task.id).unwrap().expert().is_ok())
        .map(|task| task.family.as_str())
        .collect();
    let of = |name: &str| solved.iter().filter(|family| **family == name).count();
    let counts = [of("easy"), of("medium"), of("hard"), of("extra")];
    // Of 232, 416, 160 and 164.
    assert_eq!(counts, [155, 119, 52, 31], "{} of {}", solved.len(), tasks.len());
}
