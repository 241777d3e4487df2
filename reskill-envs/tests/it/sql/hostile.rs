//! Queries that mean harm: each costs its episode a turn, and nothing else anything.

use std::path::Path;

use rayon::prelude::*;
use reskill_envs::sql::{ERROR, SqlConfig, SqlSuite};

use super::{config, open, seen, suite};

/// Limits that are reached quickly.
fn strict() -> SqlConfig {
    SqlConfig { max_turns: 0, max_instructions: 3_000_000, ..config() }
}

/// The query fails for this reason, and the next one works.
fn check(suite: &SqlSuite, sql: &str, reason: &str) {
    let mut env = open(suite, 0);
    let text = seen(env.as_mut(), sql);
    let start: String = sql.chars().take(120).collect();
    assert!(text.starts_with(ERROR) && text.contains(reason), "{start}: {text}");
    assert_eq!(seen(env.as_mut(), "SELECT count(*) FROM Cakes"), "[(5,)]", "{start}");
    assert!(env.step("submit").unwrap().won);
}

const TOO_LONG: &str = "the query takes too long";
const REFUSED: &str = "not authorized";

#[test]
fn endless_queries_are_stopped() {
    let suite = suite(&strict());
    for sql in [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i + 1 FROM n) SELECT max(i) FROM n",
        "SELECT count(*) FROM Cakes a, Cakes b, Cakes c, Cakes d, Cakes e, Cakes f, Cakes g, Cakes h, Cakes i, Cakes j",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM n WHERE i < 0",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT count(*) FROM n a, n b",
    ] {
        check(&suite, sql, TOO_LONG);
    }
}

#[test]
fn instructions_that_are_long_themselves_are_stopped_by_the_clock() {
    let suite = suite(&SqlConfig { timeout_secs: 0.2, ..strict() });
    let text = "replace(hex(zeroblob(16000)), '00', 'aa')";
    for sql in [
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n), t(h, s) AS (SELECT {text}, substr({text}, 1, 16000) || 'b') \
             SELECT sum(instr(h, s)) FROM n, t"
        ),
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n), t(h) AS (SELECT {text}) \
             SELECT count(*) FROM n, t WHERE h || i LIKE '%a%a%a%a%a%a%a%a%a%a%a%a%a%a%a%b'"
        ),
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n), t(h) AS (SELECT {text}) \
             SELECT count(*) FROM n, t WHERE h || i GLOB '*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b'"
        ),
    ] {
        check(&suite, &sql, TOO_LONG);
    }
}

#[test]
fn queries_that_grow_while_they_are_prepared_are_stopped() {
    let suite = suite(&strict());
    // Each refers twice to the one before it: 2^30 selects when written out.
    let mut doubling = String::from("WITH c0 AS (SELECT 1 AS x)");
    for level in 1..=30 {
        let before = level - 1;
        doubling.push_str(&format!(", c{level} AS (SELECT a.x FROM c{before} a, c{before} b)"));
    }
    doubling.push_str(" SELECT count(*) FROM c30");
    let mut env = open(&suite, 0);
    let text = seen(env.as_mut(), &doubling);
    assert!(text.starts_with(ERROR), "{text}");
    assert_eq!(seen(env.as_mut(), "SELECT 1"), "[(1,)]");
    let nested = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(seen(env.as_mut(), &nested).starts_with(ERROR));
    let nested = "SELECT 1".to_owned() + &" + 1".repeat(3000);
    assert!(seen(env.as_mut(), &nested).starts_with(ERROR));
    let nested = "SELECT 1".to_owned() + &" UNION ALL SELECT 1".repeat(800);
    assert!(seen(env.as_mut(), &nested).starts_with(ERROR));
    let joined = "SELECT 1 FROM Cakes".to_owned() + &", Cakes".repeat(100);
    assert!(seen(env.as_mut(), &joined).starts_with(ERROR));
    assert_eq!(seen(env.as_mut(), "SELECT 1"), "[(1,)]");
}

#[test]
fn values_and_queries_have_a_size() {
    let suite = suite(&strict());
    for (sql, reason) in [
        ("SELECT length(zeroblob(1000000000))", "too big"),
        ("SELECT hex(zeroblob(60000))", "too big"),
        ("SELECT printf('%1000000000d', 1)", "too big"),
        ("SELECT printf('%.*c', 100000000, 'x')", "too big"),
        ("SELECT replace(hex(zeroblob(20000)), '0', 'abcdefghij')", "too big"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT group_concat(i) FROM n",
            "too big",
        ),
        ("SELECT randomblob(1000000000)", REFUSED),
        ("SELECT random()", REFUSED),
    ] {
        check(&suite, sql, reason);
    }
    check(&suite, &format!("SELECT '{}'", "x".repeat(1 << 20)), "statement too long");
    check(&suite, &format!("SELECT '{}'", "x".repeat(1 << 14)), "statement too long");
    check(&suite, &format!("SELECT 1{}", ", 1".repeat(3000)), "too many columns");
}

#[test]
fn results_have_a_size() {
    let suite = suite(&SqlConfig { max_rows: 100, max_result_bytes: 50_000, ..strict() });
    check(
        &suite,
        "SELECT a.Name FROM Bakers a, Bakers b, Bakers c, Bakers d",
        "the result has more than 100 rows",
    );
    check(&suite, "SELECT hex(zeroblob(30000))", "the result has more than 50000 bytes");
    check(&suite, "SELECT zeroblob(20000)", "the result has more than 50000 bytes");
}

/// Two gigabytes, if it could.
const MEMORY_BOMB: &str = "WITH RECURSIVE n(i, b) AS (SELECT 1, zeroblob(60000) UNION ALL \
    SELECT i + 1, zeroblob(60000) FROM n LIMIT 40000) SELECT count(*) FROM (SELECT DISTINCT i, hex(substr(b, 1, 30000)) FROM n)";

#[test]
fn memory_is_limited_and_others_do_not_pay_for_it() {
    let suite = suite(&SqlConfig { max_instructions: 100_000_000, timeout_secs: 600.0, ..strict() });
    check(&suite, MEMORY_BOMB, "the query takes too much memory");
    let sort = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 400000) SELECT max(length(s)) FROM \
        (SELECT i || hex(zeroblob(500)) AS s FROM n ORDER BY 1 LIMIT 1 OFFSET 399999)";
    check(&suite, sort, "the query takes too much memory");
    // Beside such a query others get their answers.
    (0..12).into_par_iter().for_each(|index| {
        let mut env = open(&suite, 0);
        if index % 6 == 0 {
            assert!(seen(env.as_mut(), MEMORY_BOMB).contains("too much memory"));
            return;
        }
        for _ in 0..50 {
            let text = seen(
                env.as_mut(),
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) SELECT count(DISTINCT i) FROM n",
            );
            assert_eq!(text, "[(2000,)]");
        }
    });
}

#[test]
fn nothing_is_written_loaded_or_reached() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("leak.db");
    let file = file.display();
    let suite = suite(&strict());
    for sql in [
        format!("ATTACH '{file}' AS leak"),
        format!("ATTACH 'file:{file}?mode=rwc' AS leak"),
        "DETACH main".to_owned(),
        "INSERT INTO Cakes VALUES (9, 1, 'x', 1.0)".to_owned(),
        "UPDATE Cakes SET Price = 0".to_owned(),
        "DELETE FROM Cakes".to_owned(),
        "DROP TABLE Cakes".to_owned(),
        "CREATE TABLE t (x)".to_owned(),
        "CREATE TEMP TABLE t AS SELECT 1".to_owned(),
        "CREATE TEMP VIEW v AS SELECT 1".to_owned(),
        "ALTER TABLE Cakes RENAME TO Pies".to_owned(),
        "BEGIN".to_owned(),
        "SAVEPOINT s".to_owned(),
        "PRAGMA writable_schema = ON".to_owned(),
        "PRAGMA hard_heap_limit = 1".to_owned(),
        "PRAGMA temp_store_directory = '/'".to_owned(),
        "PRAGMA journal_mode = WAL".to_owned(),
        "PRAGMA query_only = OFF".to_owned(),
        "SELECT * FROM pragma_hard_heap_limit".to_owned(),
        "SELECT load_extension('libm.so')".to_owned(),
        "SELECT fts3_tokenizer('simple')".to_owned(),
        "SELECT sqlite_compileoption_get(0)".to_owned(),
        "SELECT changes()".to_owned(),
        "EXPLAIN DELETE FROM Cakes".to_owned(),
    ] {
        check(&suite, &sql, REFUSED);
    }
    // Some are stopped before anybody is asked.
    for sql in [
        format!("VACUUM INTO '{file}'"),
        "VACUUM".to_owned(),
        "REINDEX".to_owned(),
        "ANALYZE".to_owned(),
        "CREATE VIRTUAL TABLE f USING fts5(x)".to_owned(),
        "CREATE VIRTUAL TABLE temp.f USING fts3(x)".to_owned(),
        "SELECT readfile('/etc/passwd')".to_owned(),
        format!("SELECT writefile('{file}', 'x')"),
        "SELECT edit('x')".to_owned(),
        "SELECT * FROM fsdir('/')".to_owned(),
    ] {
        check(&suite, &sql, "");
    }
    assert!(!Path::new(&file.to_string()).exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_one_episode_does_no_other_sees() {
    let suite = suite(&strict());
    let (mut one, mut other) = (open(&suite, 0), open(&suite, 0));
    for sql in [
        "CREATE TEMP TABLE t (x)",
        "INSERT INTO Cakes VALUES (9, 1, 'x', 1.0)",
        "PRAGMA case_sensitive_like = ON",
    ] {
        assert!(seen(one.as_mut(), sql).starts_with(ERROR), "{sql}");
    }
    assert_eq!(seen(other.as_mut(), "SELECT count(*) FROM Cakes WHERE Flavour LIKE 'LEMON'"), "[(2,)]");
    assert!(seen(other.as_mut(), "SELECT * FROM t").contains("no such table"));
}
