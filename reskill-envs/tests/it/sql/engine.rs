//! The rules of an episode, on the fixture.

use std::collections::BTreeSet;

use reskill_envs::prompt::{ActionFormat, PromptBuilder, PromptConfig, PromptLayout, PromptStyle};
use reskill_envs::sql::{ERROR, SqlConfig, SqlSuite};
use reskill_envs::{EnvError, Split, Suite, TaskId};

use super::{config, open, play, seen, suite};

#[test]
fn the_expert_wins_every_task_with_reward_one() {
    let suite = suite(&config());
    for split in Split::ALL {
        for task in suite.tasks(split) {
            let mut env = suite.open(&task.id).unwrap();
            assert_eq!(env.reset().unwrap().text, task.goal);
            let plan = env.expert().unwrap();
            let plan: Vec<&str> = plan.iter().map(String::as_str).collect();
            let step = play(env.as_mut(), &plan);
            assert!(step.won && step.done && step.score == 1.0, "{}: {step:?}", task.id);
        }
    }
}

#[test]
fn the_reward_is_that_of_the_last_observation() {
    let suite = suite(&config());
    let names = "execute[SELECT Name FROM Bakers ORDER BY Name DESC]";
    for (actions, score) in [
        (&[names, "submit"][..], 1.0),
        (&["execute[SELECT Name FROM Bakers ORDER BY Name]", "submit"], 0.33),
        (&["execute[SELECT Name FROM Bakers WHERE Baker_ID IN (1, 4) ORDER BY Name]", "submit"], -0.5),
        (&["execute[SELECT Name FROM Bakers WHERE Baker_ID < 3 ORDER BY Name DESC]", "submit"], 0.5),
        (&[names, "execute[SELECT 1]", "submit"], 0.0),
        (&[names, "execute[SELECT nothing]", "submit"], 0.0),
        (&[names, "skip"], 0.0),
        (&["submit"], 0.0),
        // What is no SQL runs nothing, so the rows before it stay the last ones.
        (&[names, "let me think", "submit"], 1.0),
        (&["```sql\nSELECT Name FROM Bakers ORDER BY Name DESC;\n```", "submit"], 1.0),
    ] {
        let step = play(open(&suite, 1).as_mut(), actions);
        assert_eq!((step.score, step.done, step.won), (score, true, score == 1.0), "{actions:?}");
    }
}

#[test]
fn an_episode_ends_once() {
    let suite = suite(&config());
    let mut env = open(&suite, 0);
    let before = env.step("execute[SELECT count(*) FROM cakes]").unwrap();
    assert_eq!((before.observation.text.as_str(), before.score, before.done), ("[(5,)]", 0.0, false));
    let copy = env.boxed_clone().unwrap();
    let submitted = env.step("submit").unwrap();
    assert_eq!((submitted.observation.text.as_str(), submitted.score), ("[(5,)]", 1.0));
    for action in ["submit", "skip", "execute[SELECT 1]"] {
        let after = env.step(action).unwrap();
        assert_eq!((after.score, after.done, after.won), (1.0, true, true), "{action}");
    }
    assert!(env.expert().is_err());
    let mut copy = copy;
    assert_eq!(copy.expert().unwrap(), ["submit"]);
    assert!(copy.step("submit").unwrap().won);
    env.reset().unwrap();
    assert!(!env.step("execute[SELECT count(*) FROM cakes]").unwrap().done);
}

#[test]
fn the_last_turn_submits_what_was_seen() {
    let suite = suite(&SqlConfig { max_turns: 3, ..config() });
    let wrong = "execute[SELECT 1]";
    let right = "execute[SELECT count(*) FROM Cakes]";
    let step = play(open(&suite, 0).as_mut(), &[wrong, wrong, right]);
    assert_eq!(
        (step.observation.text.as_str(), step.score, step.done, step.won),
        ("[(5,)]", 1.0, true, true)
    );
    let step = play(open(&suite, 0).as_mut(), &[right, right, "hm"]);
    assert!(step.done && step.won);
    let step = play(open(&suite, 0).as_mut(), &[right, right, wrong]);
    assert_eq!((step.score, step.done, step.won), (0.0, true, false));
    let unlimited = super::suite(&SqlConfig { max_turns: 0, ..config() });
    assert!(!play(open(&unlimited, 0).as_mut(), &[wrong; 40]).done);
}

#[test]
fn show_and_desc_answer_as_mysql_does() {
    let suite = suite(&SqlConfig { max_turns: 0, ..config() });
    let mut env = open(&suite, 0);
    let mut check = |sql: &str, expected: &str| assert_eq!(seen(env.as_mut(), sql), expected, "{sql}");
    check("SHOW TABLES", "[('Bakers',), ('Cakes',)]");
    check("show tables;", "[('Bakers',), ('Cakes',)]");
    check("SHOW TABLES LIKE 'c%'", "[('Cakes',)]");
    check("SHOW TABLES FROM bakery", "[('Bakers',), ('Cakes',)]");
    check("SHOW DATABASES", "[('bakery',)]");
    let cakes = "[('Cake_ID', 'INTEGER', 'NO', 'PRI', None, ''), ('Baker_ID', 'INTEGER', 'YES', 'MUL', None, ''), \
        ('Flavour', 'TEXT', 'YES', '', None, ''), ('Price', 'REAL', 'NO', '', None, '')]";
    for sql in
        ["DESC Cakes", "DESCRIBE `cakes`", "EXPLAIN Cakes", "SHOW COLUMNS FROM Cakes", "desc bakery.Cakes"]
    {
        check(sql, cakes);
    }
    check("DESC pies", &format!("{ERROR}no such table: pies"));
    check("SHOW GRANTS", &format!("{ERROR}near \"SHOW\": syntax error"));
    assert!(seen(env.as_mut(), "DESC Bakers").contains("('Home_Town', 'TEXT', 'YES', '', 'Ghent', '')"));
    assert!(seen(env.as_mut(), "SHOW CREATE TABLE Cakes").contains("CREATE TABLE `Cakes` (\\n  `Cake_ID`"));
}

#[test]
fn text_is_compared_without_case_and_double_quotes_may_hold_text() {
    let suite = suite(&config());
    let mut env = open(&suite, 0);
    let lemon = "[(1,), (3,)]";
    assert_eq!(seen(env.as_mut(), "SELECT Cake_ID FROM Cakes WHERE Flavour = 'LEMON'"), lemon);
    assert_eq!(seen(env.as_mut(), "SELECT Cake_ID FROM Cakes WHERE Flavour = \"lemon\""), lemon);
    let printed = seen(
        env.as_mut(),
        "SELECT Name, `Rating_(stars)`, 'it''s', Flavour FROM Bakers NATURAL JOIN Cakes WHERE Cake_ID > 3",
    );
    assert_eq!(printed, r#"[('Cleo', None, "it's", 'poppy "dark"'), ('Cleo', None, "it's", 'plum')]"#);
}

#[test]
fn errors_say_what_sqlite_says() {
    let suite = suite(&SqlConfig { max_turns: 0, ..config() });
    let mut env = open(&suite, 0);
    let mut check = |sql: &str, expected: &str| {
        assert_eq!(seen(env.as_mut(), sql), format!("{ERROR}{expected}"), "{sql}")
    };
    check("SELECT pies FROM Cakes", "no such column: pies");
    check("SELECT * FROM pies", "no such table: pies");
    check("SELEC 1", "near \"SELEC\": syntax error");
    check("", "there is no SQL in the action");
    check("; SELECT 1", "there is no SQL in the action");
    check("-- nothing", "SQL is empty or comment only");
    check("SELECT CAST(x'ff' AS TEXT) AS t", "could not decode to UTF-8 column 't'");
}

#[test]
fn long_observations_are_cut_and_still_count_whole() {
    let suite = suite(&SqlConfig { shown_rows: 2, shown_chars: 30, ..config() });
    let mut env = open(&suite, 1);
    let first = env.reset().unwrap().text;
    assert_eq!(first, "List the names of the bakers in descending order.");
    let text = seen(env.as_mut(), "SELECT Name FROM Bakers ORDER BY Name DESC");
    assert_eq!(text, "[(\"D'Arcy\",), ('Cleo',)] and 2 more rows");
    assert!(env.step("submit").unwrap().won);
    let mut env = open(&suite, 1);
    assert_eq!(seen(env.as_mut(), "SELECT 'é' || hex(zeroblob(40))"), "[('é00000000000000000000000000...");
}

#[test]
fn questions_with_one_gold_query_are_in_one_split() {
    let suite = suite(&config());
    let ids = |split| suite.tasks(split).iter().map(|task| task.id.0.as_str()).collect::<Vec<_>>();
    assert_eq!(ids(Split::Train), ["0", "1", "2", "4", "5", "6"]);
    // The sixth query of its database.
    assert_eq!(ids(Split::ValidSeen), ["7"]);
    assert_eq!(ids(Split::ValidUnseen), ["8", "9"]);
    let families: BTreeSet<&str> =
        Split::ALL.iter().flat_map(|&split| suite.tasks(split)).map(|task| task.family.as_str()).collect();
    assert_eq!(families, BTreeSet::from(["easy", "extra", "hard", "medium"]));
    assert!(matches!(suite.open(&TaskId("3".into())), Err(EnvError::UnknownTask { .. })));
}

#[test]
fn candidates_come_from_the_schema_and_the_question_alone() {
    let config = SqlConfig { candidates: true, max_candidates: 40, max_turns: 0, ..config() };
    let suite = suite(&config);
    let mut solved = 0;
    for split in Split::ALL {
        for task in suite.tasks(split) {
            let mut env = suite.open(&task.id).unwrap();
            let listed = env.reset().unwrap().admissible;
            assert!(listed.len() <= 40 && listed.ends_with(&["submit".into(), "skip".into()]), "{listed:?}");
            let distinct: BTreeSet<&String> = listed.iter().collect();
            assert_eq!(distinct.len(), listed.len());
            for command in listed.iter().filter(|command| command.starts_with("execute[")) {
                let step = env.step(command).unwrap();
                assert!(step.observation.text.starts_with('['), "{command}: {}", step.observation.text);
                assert_eq!(step.observation.admissible, listed);
            }
            match env.expert() {
                Ok(plan) => {
                    solved += 1;
                    assert!(plan.iter().all(|command| listed.contains(command)), "{plan:?}");
                    let plan: Vec<&str> = plan.iter().map(String::as_str).collect();
                    assert!(play(env.as_mut(), &plan).won, "{}: {plan:?}", task.id);
                }
                Err(error) => assert!(matches!(error, EnvError::NoPlan { .. }), "{error}"),
            }
        }
    }
    assert!(solved >= 5, "{solved}");
    // Another gold query, the same candidates.
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(super::fixture().join("ic_spider_dev.json")).unwrap();
    let other = text.replace("\"SELECT count(*) FROM Cakes\"", "\"SELECT max(Price) - 2 FROM Cakes\"");
    assert_ne!(text, other);
    std::fs::write(dir.path().join("ic_spider_dev.json"), other).unwrap();
    let scripts = dir.path().join("sqlite_sql");
    std::fs::create_dir(&scripts).unwrap();
    for name in ["bakery.sql", "harbour.sql"] {
        std::fs::copy(super::fixture().join("sqlite_sql").join(name), scripts.join(name)).unwrap();
    }
    let reworded = SqlSuite::open_path(dir.path(), &config).unwrap();
    let of = |suite: &SqlSuite| suite.open(&TaskId("0".into())).unwrap().reset().unwrap().admissible;
    assert_eq!(of(&suite), of(&reworded));
}

#[test]
fn the_schema_is_shown_on_request() {
    let suite = suite(&SqlConfig { show_schema: true, ..config() });
    let text = suite.open(&TaskId("8".into())).unwrap().reset().unwrap().text;
    assert!(text.ends_with("\nTables with their columns:\nships: id, name, tonnage, flag"), "{text}");
}

#[test]
fn prompts_of_both_layouts_hold_question_history_and_rows() {
    let suite = suite(&config());
    let task = &suite.tasks(Split::Train)[0];
    for layout in [PromptLayout::TrunkBranch, PromptLayout::Paper] {
        let config = PromptConfig {
            prompt_layout: layout,
            action_format: ActionFormat::Tagged,
            style: Some(PromptStyle::Plain),
            history_observations: true,
            ..PromptConfig::default()
        };
        let manner = suite.manner();
        let mut builder = PromptBuilder::new(&config, task).speaking(&manner);
        let mut env = suite.open(&task.id).unwrap();
        let first = env.reset().unwrap();
        let mut text = builder.opening(task, &["look before you count"]);
        text += &builder.branch(suite.vocabulary(), &first, &[]);
        let reply = "The tables first.\n```sql\nSHOW TABLES\n```";
        let action = manner.parse_reply(reply, &first.admissible).action.unwrap();
        let now = env.step(&action).unwrap().observation;
        text += &builder.entry(suite.vocabulary(), Some(&action), &now.text);
        text += &builder.branch(suite.vocabulary(), &now, &["now count"]);
        for part in [
            "How many cakes",
            "execute[SHOW TABLES]",
            "[('Bakers',), ('Cakes',)]",
            "look before",
            "now count",
            "submit",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn the_vocabulary_tells_the_kinds_of_query_apart() {
    let suite = suite(&config());
    let verb = |action: &str| suite.vocabulary().parse(action).map(|parsed| parsed.verb.to_owned());
    assert_eq!(verb("execute[SHOW TABLES]").as_deref(), Some("execute[SHOW TABLES]"));
    assert_eq!(verb("execute[DESC Cakes]").as_deref(), Some("execute[DESC"));
    assert_eq!(verb("execute[SELECT 1]").as_deref(), Some("execute[SELECT"));
    assert_eq!(verb("execute[WITH a AS (SELECT 1) SELECT * FROM a]").as_deref(), Some("execute["));
    assert_eq!(verb("submit").as_deref(), Some("submit"));
}
