//! SQL and product choices from the command line: list, replay, play, bench, train.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

fn run(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_reskill-cli"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments may be gone before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn fixture() -> String {
    root().join("reskill-envs/tests/it/sql/fixture").display().to_string()
}

fn check_refused(args: &[&str], fragments: &[&str]) {
    let output = run(args, "[]");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    for fragment in fragments {
        assert!(message.contains(fragment), "`{fragment}` is not in: {message}");
    }
}

#[test]
fn replay_of_sql_prints_the_agreed_lines() {
    let data = fixture();
    let replay = |game: &str, actions: Value| {
        let args = ["env", "replay", "--env", "sql", "--data", &data, "--game", game, "--actions", "-"];
        lines(&run(&args, &actions.to_string()))
    };
    let played = replay(
        "1",
        json!(["execute[SHOW TABLES]", "execute[SELECT Name FROM Bakers ORDER BY Name]", "submit"]),
    );
    assert_eq!(
        played,
        [
            json!({"obs": "List the names of the bakers in descending order.", "admissible": null}),
            json!({"action": "execute[SHOW TABLES]", "obs": "[('Bakers',), ('Cakes',)]", "admissible": null, "score": 0,
                "done": false, "won": false}),
            json!({"action": "execute[SELECT Name FROM Bakers ORDER BY Name]",
                "obs": "[('Ada',), ('Ben',), ('Cleo',), (\"D'Arcy\",)]", "admissible": null, "score": 0, "done": false,
                "won": false}),
            json!({"action": "submit", "obs": "[('Ada',), ('Ben',), ('Cleo',), (\"D'Arcy\",)]", "admissible": null,
                "score": 0.33, "done": true, "won": false}),
        ]
    );
    let won = replay("0", json!(["```sql\nSELECT count(*) FROM Cakes;\n```", "submit"]));
    assert_eq!((&won[2]["score"], &won[2]["won"]), (&json!(1), &json!(true)));
    let skipped = replay("0", json!(["skip"]));
    assert_eq!((&skipped[1]["obs"], &skipped[1]["done"]), (&json!("skipped"), &json!(true)));
}

#[test]
fn wrong_arguments_are_refused_in_one_line() {
    let data = fixture();
    check_refused(&["env", "list", "--env", "sql"], &["--data is missing", "ic_spider_dev.json"]);
    check_refused(&["env", "list", "--env", "sql", "--data", "/nowhere"], &["/nowhere/ic_spider_dev.json"]);
    let replay = ["env", "replay", "--env", "sql", "--data", &data, "--actions", "-", "--game"];
    check_refused(&[&replay[..], &["3"]].concat(), &["--game 3", "no such game"]);
    check_refused(&["env", "list", "--env", "wands", "--data", &data], &["product.csv"]);
    check_refused(&["bench", "env", "--env", "sql"], &["--data is missing"]);
    let sql = root().join("configs/sql.toml").display().to_string();
    check_refused(&["train", "--config", &sql], &["env.data", "ic_spider_dev.json"]);
    let data = format!("env.data={data}");
    let train = ["train", "--config", &sql, "--set", &data, "--set"];
    check_refused(&[&train[..], &["env.sql.max_rows=0"]].concat(), &["max_rows", "at least 1"]);
    check_refused(&[&train[..], &["env.sql.unseen=[\"nowhere\"]"]].concat(), &["unseen", "nowhere"]);
    check_refused(&[&train[..], &["env.sql.max_row=1"]].concat(), &["max_row", "did you mean `max_rows`"]);
}

#[test]
fn lists_have_every_task_and_seeds_draw_an_order() {
    let data = fixture();
    let ids = |more: &[&str]| -> Vec<String> {
        let listed = lines(&run(&[&["env", "list", "--json"], more].concat(), ""));
        listed.iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    };
    let sql = ["--env", "sql", "--data", &data];
    let mut all = ids(&sql);
    assert_eq!(all.len(), 9);
    assert_eq!(ids(&[&sql[..], &["--type", "hard"]].concat()), ["5"]);
    let mut drawn = ids(&[&sql[..], &["--order-seed", "1"]].concat());
    assert_ne!(drawn, all);
    drawn.sort();
    all.sort();
    assert_eq!(drawn, all);
    let wands = ids(&["--env", "wands", "--type", "3-opt"]);
    assert!(wands.len() > 1000 && wands.iter().all(|id| id.starts_with("3-opt/")));
}

#[test]
fn hints_win_product_choices_in_the_terminal() {
    let game = ["env", "play", "--env", "wands", "--game", "2-opt/0/0"];
    let mut played = String::new();
    for _ in 0..10 {
        let text = run(&game, &format!("{played}:hint\n")).stdout;
        let text = String::from_utf8_lossy(&text).into_owned();
        if text.contains("won with 5 commands") {
            return;
        }
        let hint = text.split(":hint\n").last().unwrap().lines().next().unwrap().to_owned();
        played.push_str(&format!("{hint}\n"));
    }
    panic!("not won: {played}");
}

#[test]
fn bench_env_measures_any_environment() {
    let data = fixture();
    let small = ["--json", "--games", "6", "--rounds", "2"];
    for (env, source) in [("sql", &["--data", data.as_str()][..]), ("wands", &[])] {
        let cases = lines(&run(&[&["bench", "env", "--env", env], source, &small].concat(), ""));
        let names: Vec<&str> = cases.iter().map(|case| case["case"].as_str().unwrap()).collect();
        for what in ["resident", "open and reset", "steps, 1 thread(s)", "steps, 2 thread(s)"] {
            assert!(names.contains(&format!("{env}: {what}").as_str()), "{names:?}");
        }
        for case in cases {
            assert!(case["median"].as_f64().unwrap() > 0.0, "{case}");
        }
    }
}

/// A run of seconds.
const SMALL: [&str; 17] = [
    "policy.model.hidden_size=32",
    "policy.model.intermediate_size=48",
    "policy.model.num_hidden_layers=1",
    "policy.model.num_attention_heads=2",
    "policy.model.num_key_value_heads=1",
    "policy.model.head_dim=16",
    "sft.episodes=32",
    "sft.epochs=2",
    "rollout.tasks_per_step=4",
    "rollout.group_size=4",
    "grpo.steps=3",
    "skills.reservoir.min=4",
    "skills.version_test.min_episodes=8",
    "skills.creator.offline.min_z=0.1",
    "eval.games=8",
    "eval.games_during=4",
    "eval.every=2",
];

fn train(config: &str, more: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let config = root().join("configs").join(config);
    let mut args = vec!["train", "--config", config.to_str().unwrap(), "--out", out.to_str().unwrap()];
    for assignment in SMALL.iter().chain(more) {
        args.extend(["--set", assignment]);
    }
    let output = run(&args, "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metrics = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    metrics.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every step has a finite loss, and every family of tasks its own result.
fn check_trained(records: &[Value], families: &[&str]) {
    let text = records.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
    assert!(!text.contains("NaN"), "{text}");
    for family in families {
        assert!(text.contains(&format!("\"{family}\"")), "{family}: {text}");
    }
}

#[test]
fn the_small_policy_trains_on_sql() {
    let data = format!("env.data={}", fixture());
    let records = train("sql.toml", &[&data, "env.sql.unseen=[\"harbour\"]"]);
    check_trained(&records, &["easy", "extra"]);
}

#[test]
fn the_small_policy_trains_on_product_choices() {
    let records = train("wands.toml", &["env.wands.catalogue.n_queries=40"]);
    check_trained(&records, &["2-opt", "3-opt"]);
}
