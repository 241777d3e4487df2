//! InterCode-SQL: the engine on a small fixture, against Python and SciPy, on hostile queries, and on the real data.

mod engine;
mod faults;
mod hostile;
mod real;
mod reference;

use std::path::{Path, PathBuf};

use reskill_envs::sql::{SqlConfig, SqlSuite};
use reskill_envs::{Step, Suite, TaskId, TextEnv};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sql/fixture")
}

/// The fixture with `harbour` as unseen database.
fn config() -> SqlConfig {
    SqlConfig { unseen: Some(vec!["harbour".into()]), ..SqlConfig::default() }
}

fn suite(config: &SqlConfig) -> SqlSuite {
    SqlSuite::open_path(&fixture(), config).unwrap()
}

fn open(suite: &SqlSuite, row: usize) -> Box<dyn TextEnv> {
    let mut env = suite.open(&TaskId(row.to_string())).unwrap();
    env.reset().unwrap();
    env
}

/// Plays actions and returns the last step.
fn play(env: &mut dyn TextEnv, actions: &[&str]) -> Step {
    actions.iter().map(|action| env.step(action).unwrap()).last().unwrap()
}

/// What a query shows.
fn seen(env: &mut dyn TextEnv, sql: &str) -> String {
    env.step(&format!("execute[{sql}]")).unwrap().observation.text
}
