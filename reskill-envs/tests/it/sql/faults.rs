//! Data that is broken: the message names the file and what is wrong with it.

use std::fs;
use std::path::{Path, PathBuf};

use reskill_envs::sql::{SqlConfig, SqlSuite};
use reskill_envs::{EnvError, Suite, TaskId};
use rusqlite::Connection;

use super::config;

/// A copy of the fixture.
fn copy(dir: &Path) -> PathBuf {
    let folder = dir.join("data");
    fs::create_dir_all(folder.join("sqlite_sql")).unwrap();
    for name in ["ic_spider_dev.json", "sqlite_sql/bakery.sql", "sqlite_sql/harbour.sql"] {
        fs::copy(super::fixture().join(name), folder.join(name)).unwrap();
    }
    folder
}

fn check(folder: &Path, config: &SqlConfig, fragments: &[&str]) {
    let error = SqlSuite::open_path(folder, config).err().unwrap();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let message = format!("{error}: {source}");
    for fragment in fragments {
        assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
    }
}

#[test]
fn broken_tasks_are_refused_with_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let folder = copy(dir.path());
    let file = folder.join("ic_spider_dev.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    check(&folder, &config(), &["ic_spider_dev.json", "`tasks`", "line ", "column "]);
    fs::write(&file, text.replacen("\"gold\"", "\"silver\"", 1)).unwrap();
    check(&folder, &config(), &["ic_spider_dev.json", "missing field `gold`", "line 2"]);
    fs::write(&file, text.replacen("\"bakery\"", "\"../bakery\"", 1)).unwrap();
    check(&folder, &config(), &["`db`", "../bakery", "row 0"]);
    fs::write(&file, "[]").unwrap();
    check(&folder, &config(), &["ic_spider_dev.json", "expected a list of tasks"]);
    fs::write(&file, [0xff, 0xfe]).unwrap();
    check(&folder, &config(), &["ic_spider_dev.json", "cannot be read"]);
    fs::remove_file(&file).unwrap();
    check(&folder, &config(), &["ic_spider_dev.json", "cannot be read"]);
}

#[test]
fn broken_databases_are_refused_with_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = copy(dir.path());
    let script = folder.join("sqlite_sql/harbour.sql");
    let text = fs::read_to_string(&script).unwrap();
    for (broken, reason) in [
        (text.replacen("CREATE TABLE", "CREATE TABEL", 1), "syntax error"),
        (text.replacen("'NO')", "'NO', 4)", 1), "same number of terms"),
        (text[..text.len() - 20].to_owned(), "incomplete input"),
        (String::new(), "no tables in it"),
        (format!("ATTACH 'x' AS y;\n{text}"), "not authorized"),
        (format!("{text}\nSELECT load_extension('x');"), "not authorized"),
    ] {
        fs::write(&script, broken).unwrap();
        check(&folder, &config(), &["harbour.sql", "`database`", reason]);
    }
    fs::remove_file(&script).unwrap();
    check(&folder, &config(), &["harbour.sql", "cannot be read"]);
}

#[test]
fn sqlite_files_serve_as_databases_and_are_refused_when_locked_or_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let folder = copy(dir.path());
    let script = folder.join("sqlite_sql/harbour.sql");
    let text = fs::read_to_string(&script).unwrap();
    fs::remove_file(&script).unwrap();
    let file = folder.join("database/harbour/harbour.sqlite");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let owner = Connection::open(&file).unwrap();
    owner.execute_batch(&text).unwrap();
    let suite = SqlSuite::open_path(&folder, &config()).unwrap();
    let mut env = suite.open(&TaskId("8".into())).unwrap();
    let plan = env.expert().unwrap();
    let steps: Vec<_> = plan.iter().map(|command| env.step(command).unwrap()).collect();
    assert_eq!(steps[0].observation.text, "[('Heron',), ('Otter',)]");
    assert!(steps[1].won);

    owner.execute_batch("BEGIN EXCLUSIVE").unwrap();
    check(&folder, &config(), &["harbour.sqlite", "`database`", "locked"]);
    owner.execute_batch("ROLLBACK").unwrap();
    drop(owner);
    fs::write(
        &file,
        "this is no database, however long it is, and it is longer than a header of a hundred bytes is, too",
    )
    .unwrap();
    check(&folder, &config(), &["harbour.sqlite", "`database`", "not a database"]);
}

#[test]
fn a_gold_query_that_fails_is_found_when_its_task_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let folder = copy(dir.path());
    let file = folder.join("ic_spider_dev.json");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("FROM Cakes\"", "FROM Pies\"", 1)).unwrap();
    let suite = SqlSuite::open_path(&folder, &config()).unwrap();
    let error = suite.open(&TaskId("0".into())).err().unwrap();
    assert!(matches!(&error, EnvError::Gold { .. }), "{error}");
    assert_eq!(error.to_string(), "task `0`: the gold answer cannot be had: no such table: Pies");
    assert!(suite.open(&TaskId("1".into())).is_ok());
}

#[test]
fn settings_out_of_range_are_refused() {
    let folder = super::fixture();
    let of = |config: SqlConfig, key: &str| check(&folder, &config, &[key]);
    of(SqlConfig { unseen: Some(vec!["nowhere".into()]), ..config() }, "`unseen` = nowhere");
    of(SqlConfig { unseen: Some(vec!["harbour".into(), "bakery".into()]), ..config() }, "`unseen`");
    of(SqlConfig { max_candidates: 3, ..config() }, "`max_candidates` = 3");
    of(SqlConfig { max_rows: 0, ..config() }, "`max_rows` = 0");
    of(SqlConfig { max_result_bytes: 9, ..config() }, "`max_result_bytes` = 9");
    of(SqlConfig { max_instructions: 9, ..config() }, "`max_instructions` = 9");
    of(SqlConfig { timeout_secs: f64::NAN, ..config() }, "`timeout_secs` = NaN");
    // Without a list the usual ones are unseen, as far as they are there.
    let suite = SqlSuite::open_path(&folder, &SqlConfig::default()).unwrap();
    assert!(suite.tasks(reskill_envs::Split::ValidUnseen).is_empty());
}
