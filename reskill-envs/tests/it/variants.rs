//! Limits and oddities of files that are not ALFWorld's: what is refused, and with which words.

use std::sync::Arc;

use reskill_envs::alfworld::{Game, GameEnv, GameFile, RulesCache};
use reskill_envs::household::{Household, HouseholdConfig};
use reskill_envs::{EnvError, Split, Suite, TaskId};

fn fixture() -> GameFile {
    GameFile {
        pddl_domain: include_str!("fixture/domain.pddl").into(),
        grammar: include_str!("fixture/grammar.twl2").into(),
        pddl_problem: include_str!("fixture/problem.pddl").into(),
        solvable: true,
        walkthrough: Vec::new(),
    }
}

fn compile(file: &GameFile) -> Result<Game, EnvError> {
    Game::compile(file, &RulesCache::default())
}

fn refused(change: impl FnOnce(&mut GameFile)) -> String {
    let mut file = fixture();
    change(&mut file);
    compile(&file).unwrap_err().to_string()
}

/// A domain of one action over `n` objects with `k` free variables.
fn product(n: usize, k: usize) -> GameFile {
    let variables: Vec<String> = (0..k).map(|index| format!("?v{index}")).collect();
    let objects: Vec<String> = (0..n).map(|index| format!("thing_bar_{index}")).collect();
    let facts: Vec<String> = objects.iter().map(|object| format!("(on {object})")).collect();
    GameFile {
        pddl_domain: format!(
            "(define (domain d) (:predicates (on ?x) (off ?x)) (:action act :parameters ({}) :precondition (on ?v0) \
             :effect (and (off ?v0) (off ?v{}))))",
            variables.join(" "),
            k - 1
        ),
        grammar: "grammar :: \"\"\"{\"intro\": [{\"rhs\": \"[{a.name + b.name + c.name | on(a:object) & on(b:object) & \
                  on(c:object)}]\"}], \"task\": [{\"rhs\": \"win\"}]}\"\"\"; action act { template :: \"act {v0}\"; \
                  feedback :: \"done\"; }"
            .into(),
        pddl_problem: format!(
            "(define (problem p) (:domain d) (:objects {}) (:init {}) (:goal (off thing_bar_0)))",
            objects.join(" "),
            facts.join(" ")
        ),
        solvable: true,
        walkthrough: Vec::new(),
    }
}

#[test]
fn a_grounding_without_measure_is_refused_by_a_limit() {
    assert!(compile(&product(20, 2)).is_ok());
    let error = compile(&product(100, 5)).unwrap_err().to_string();
    assert!(
        error.contains("more than") && (error.contains("bindings") || error.contains("instances")),
        "{error}"
    );
    let error = compile(&product(300, 2)).unwrap_err().to_string();
    assert!(error.contains("at most 65535"), "{error}");
}

#[test]
fn a_text_without_measure_is_refused_by_a_limit() {
    // A list of 99^3 matches.
    let error = compile(&product(100, 1)).unwrap_err().to_string();
    assert_eq!(error, "grammar: a text takes over 1000000 matches or 1048576 bytes");
}

#[test]
fn symbols_in_a_circle_and_deep_nesting_are_refused_by_a_limit() {
    let circle = refused(|file| file.grammar = file.grammar.replace("{r.indefinite} ", "#nameof(r)#"));
    assert!(circle.contains("nested deeper than 32, or in a circle"), "{circle}");
    let deep = format!("(and {} (in Hall_bar_1) {})", "(and ".repeat(500), ")".repeat(500));
    let deep = refused(|file| {
        file.pddl_problem = file.pddl_problem.replace("(:goal (and", &format!("(:goal (and {deep}"))
    });
    assert!(deep.contains("line ") && deep.contains("nested deeper than 128 brackets"), "{deep}");
    // Every symbol twice in the one before: a text of 2^40 pieces.
    let doubling: Vec<String> =
        (0..40).map(|n| format!("\"s{n}\": [{{\"rhs\": \"#s{}##s{}#\"}}],", n + 1, n + 1)).collect();
    let doubling = refused(|file| {
        file.grammar = file.grammar.replace(
            "\"nameof(r)\"",
            &format!("{} \"s40\": [{{\"rhs\": \"x\"}}], \"nameof(r)\"", doubling.concat()),
        );
        file.grammar = file.grammar.replace("in {#nameof(r)#", "#s0# in {#nameof(r)#");
    });
    assert!(doubling.contains("symbols"), "{doubling}");
}

#[test]
fn enormous_texts_are_refused_by_a_limit() {
    let error = refused(|file| file.pddl_problem.push_str(&" ".repeat(17 << 20)));
    assert!(error.ends_with("bytes of text, at most 16777216"), "{error}");
    let error = refused(|file| file.grammar.push_str(&" ".repeat(17 << 20)));
    assert!(error.ends_with("bytes of text, at most 16777216"), "{error}");
}

#[test]
fn a_command_that_depends_on_what_changes_is_refused() {
    let template = |file: &mut GameFile| {
        file.grammar = file.grammar.replace("\"take {t}\"", "\"take {t} {r.name | lies(t:key, r:room)}\"");
    };
    let error = refused(template);
    assert!(error.contains("`Take`") && error.contains("`lies`"), "{error}");
}

#[test]
fn a_rule_that_cannot_be_read_is_named() {
    let error = refused(|file| {
        file.grammar = file.grammar.replace("\"in {r | in(r:room)}, all open\"", "\"in {r | in(r:room)\"")
    });
    assert!(error.contains("`look`") && error.contains("rule 2"), "{error}");
    let error = refused(|file| file.grammar = file.grammar.replace("\"list_empty\"", "\"list_empty"));
    assert!(error.starts_with("grammar: line ") && error.contains("JSON"), "{error}");
}

#[test]
fn ids_are_printed_where_the_grammar_asks_for_them() {
    let mut file = fixture();
    file.grammar = file.grammar.replace("dropped", "{r.id} or {r.name or r.id} or {r}");
    let mut env = GameEnv::new(Arc::new(compile(&file).unwrap()), TaskId(String::new()));
    env.step("take key 2");
    assert_eq!(env.step("drop key 2").observation.text, "hall_bar_1 or hall 2 or hall 2");
}

#[test]
fn the_rules_of_games_that_differ_in_the_task_alone_are_shared() {
    let config = HouseholdConfig { n_train: 2, n_seen: 0, n_unseen: 0, ..HouseholdConfig::default() };
    let suite = Household::generate(&config).unwrap();
    let files: Vec<GameFile> =
        suite.tasks(Split::Train).iter().map(|task| suite.game_file(&task.id).unwrap()).collect();
    assert_ne!(files[0].grammar, files[1].grammar);
    let cache = RulesCache::default();
    let games: Vec<Game> = files.iter().map(|file| Game::compile(file, &cache).unwrap()).collect();
    assert_eq!(cache.len(), 1);
    assert_ne!(games[0].task_line(), games[1].task_line());
}
