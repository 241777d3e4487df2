//! The engine on a domain of its own, and on broken files.

use std::path::Path;
use std::sync::Arc;

use reskill_envs::alfworld::{Alfworld, AlfworldOptions, Game, GameEnv, GameFile, RulesCache};
use reskill_envs::household::{Household, HouseholdConfig};
use reskill_envs::{EnvError, Split, Suite, TaskId, TextEnv};

fn fixture() -> GameFile {
    GameFile {
        pddl_domain: include_str!("fixture/domain.pddl").into(),
        grammar: include_str!("fixture/grammar.twl2").into(),
        pddl_problem: include_str!("fixture/problem.pddl").into(),
        solvable: true,
        walkthrough: Vec::new(),
    }
}

fn household_file() -> GameFile {
    let config = HouseholdConfig { n_train: 6, n_seen: 0, n_unseen: 0, ..HouseholdConfig::default() };
    let suite = Household::generate(&config).unwrap();
    suite.game_file(&suite.tasks(Split::Train)[3].id).unwrap()
}

fn compile(file: &GameFile) -> Result<Game, EnvError> {
    Game::compile(file, &RulesCache::default())
}

fn env() -> GameEnv {
    GameEnv::new(Arc::new(compile(&fixture()).unwrap()), TaskId("train/fixture/0".into()))
}

#[test]
fn intro_lists_by_id_numbers_downwards_and_prints_the_task_line() {
    let first = env().reset();
    assert_eq!(first.text, "in a hall 2 - keys: key 2!& key 1! - taken from: none\nGoal: PLACEHOLDER");
    assert_eq!(env().game().goal_text(), "PLACEHOLDER");
}

#[test]
fn walking_to_where_one_is_is_no_move_and_a_type_with_a_comma_has_no_members() {
    // Neither `walk to hall 2`, which changes nothing, nor `ring`, whose condition names an undeclared type.
    assert_eq!(env().reset().admissible, ["look", "take key 2", "walk to hall 1"]);
}

#[test]
fn not_exists_forbids_a_second_key_and_deletions_are_remembered() {
    let mut env = env();
    assert_eq!(env.step("take key 2").observation.text, "taken: key 2. two others: key 1");
    assert_eq!(env.step("walk to hall 1").observation.text, "you walk from hall 2 to hall 1");
    assert!(!env.admissible().any(|command| command == "take key 1"));
    let look = env.step("look").observation.text;
    assert_eq!(look, "in a hall 1 - keys: key 1! - taken from: hall_bar_1");
    env.step("drop key 2");
    assert!(env.admissible().any(|command| command == "take key 1"));
}

#[test]
fn conditional_effects_toggle_and_the_game_goes_on_after_the_win() {
    let mut env = env();
    let plan = env.expert().unwrap();
    let (last, before) = plan.split_last().unwrap();
    for command in before {
        assert!(!env.step(command).won, "{plan:?}");
    }
    assert!(env.step(last).won, "{plan:?}");
    // An id without a number is printed with a blank, as in the original.
    assert!(plan.contains(&"unlock vault ".to_owned()), "{plan:?}");
    let tapped = env.step("tap bellbasin 1");
    assert_eq!((tapped.observation.text.as_str(), tapped.won, tapped.score), ("silence", false, 0.0));
    assert!(env.step("tap bellbasin 1").won);
}

#[test]
fn commands_are_trimmed_and_anything_else_changes_nothing() {
    let mut env = env();
    let before = env.reset();
    let step = env.step("Take key 2");
    assert_eq!(step.observation.text, "Nothing happens.");
    assert_eq!((step.score, step.done, &step.observation.admissible), (0.0, false, &before.admissible));
    assert_eq!(env.step("  look \n").observation.text, before.text.split('\n').next().unwrap());
}

#[test]
fn a_clone_goes_its_own_way() {
    let mut env = env();
    let mut other = env.boxed_clone().unwrap();
    env.step("take key 2");
    assert!(other.step("take key 2").unwrap().observation.text.starts_with("taken"));
    assert_eq!(other.reset().unwrap(), env.reset());
}

/// Every prefix of every part either compiles or is refused with an error.
fn check_truncations(file: &GameFile, stride: usize) {
    let parts: [fn(&mut GameFile) -> &mut String; 3] =
        [|file| &mut file.pddl_domain, |file| &mut file.grammar, |file| &mut file.pddl_problem];
    for part in parts {
        let whole = part(&mut file.clone()).clone();
        for end in (0..whole.len()).step_by(stride).filter(|&end| whole.is_char_boundary(end)) {
            let mut broken = file.clone();
            part(&mut broken).truncate(end);
            if let Ok(game) = compile(&broken) {
                GameEnv::new(Arc::new(game), TaskId(String::new())).reset();
            }
            // One character replaced.
            let mut broken = file.clone();
            let replacement = ["(", ")", "?x", "\"", "{", "#", " "][end % 7];
            if whole.is_char_boundary(end + 1) {
                part(&mut broken).replace_range(end..=end, replacement);
                if let Ok(game) = compile(&broken) {
                    let mut env = GameEnv::new(Arc::new(game), TaskId(String::new()));
                    env.reset();
                    let commands: Vec<String> = env.admissible().collect();
                    for command in commands {
                        env.clone().step(&command);
                    }
                }
            }
        }
    }
}

#[test]
fn truncated_and_altered_texts_never_panic() {
    check_truncations(&fixture(), 1);
    check_truncations(&household_file(), 5);
}

fn refused(change: impl FnOnce(&mut GameFile)) -> String {
    let mut file = fixture();
    change(&mut file);
    compile(&file).unwrap_err().to_string()
}

#[test]
fn errors_say_what_is_wrong_and_where() {
    let deep = "(".repeat(1000);
    assert!(refused(|file| file.pddl_problem.push_str(&deep)).starts_with("problem: "));
    let undeclared = |file: &mut GameFile| {
        file.pddl_problem = file.pddl_problem.replace("(locked Vault)", "(locked Moon)")
    };
    assert_eq!(refused(undeclared), "problem: line 6, column 43: `moon` in `:init` is not among `:objects`");
    let no_goal = |file: &mut GameFile| file.pddl_problem = file.pddl_problem.replace(":goal", ":aim");
    assert_eq!(refused(no_goal), "problem: no `:goal`");
    let no_texts = |file: &mut GameFile| file.grammar = file.grammar.replace("action Look", "action Gaze");
    assert_eq!(refused(no_texts), "grammar: no texts for action `look`");
    let circle = |file: &mut GameFile| file.grammar = file.grammar.replace("{r.indefinite} ", "#nameof(r)#");
    assert!(refused(circle).contains("circle"));
    let unbound = |file: &mut GameFile| file.grammar = file.grammar.replace("dropped", "{nobody.name}");
    assert!(refused(unbound).contains("`nobody`"));
    let arity =
        |file: &mut GameFile| file.pddl_problem = file.pddl_problem.replace("(locked Vault)", "(locked)");
    assert!(refused(arity).contains("0 arguments"));
    let forall = |file: &mut GameFile| file.pddl_problem = file.pddl_problem.replace("exists", "forall");
    assert!(refused(forall).starts_with("goal: line 7, column 14: `forall`"));
}

#[test]
fn broken_files_name_the_file_and_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train/pick-mug/trial_1/game.tw-pddl");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let open = |content: &str| {
        std::fs::write(&path, content).unwrap();
        Alfworld::open_path(folder.path(), &AlfworldOptions::default()).unwrap_err().to_string()
    };
    let name = path.display().to_string();
    assert!(open("{").starts_with(&format!("{name}: field `json`")));
    assert!(open("{}").starts_with(&format!("{name}: field `pddl_domain`")));
    let mut file = fixture();
    file.pddl_problem = "(define (problem x))".into();
    let json = serde_json::to_string(&file).unwrap();
    assert_eq!(open(&json), format!("{name}: field `pddl_problem`: no `:goal`"));
    file.solvable = false;
    let json = serde_json::to_string(&file).unwrap();
    assert!(open(&json).contains("no games found"));
    let missing = Alfworld::open_path(Path::new("/nowhere/at/all.tw-pddl"), &AlfworldOptions::default());
    assert!(matches!(missing, Err(EnvError::Read { .. })));
}

#[test]
fn options_choose_splits_families_and_a_number() {
    let folder = tempfile::tempdir().unwrap();
    let config = HouseholdConfig { n_train: 36, n_seen: 6, n_unseen: 6, ..HouseholdConfig::default() };
    Household::generate(&config).unwrap().export(folder.path()).unwrap();
    let family = "pick_and_place_simple".to_owned();
    let options = AlfworldOptions {
        splits: vec![Split::Train, Split::ValidSeen],
        families: Some(vec![family.clone()]),
        limit: Some(4),
        ..AlfworldOptions::default()
    };
    let suite = Alfworld::open_path(folder.path(), &options).unwrap();
    let counts = [Split::Train, Split::ValidSeen, Split::ValidUnseen].map(|split| suite.tasks(split).len());
    assert_eq!(counts, [4, 1, 0]);
    assert!(suite.tasks(Split::Train).iter().all(|task| task.family == family));
    let one = folder.path().join(&suite.tasks(Split::Train)[0].id.0).join("game.tw-pddl");
    let single = Alfworld::open_path(&one, &AlfworldOptions::default()).unwrap();
    assert_eq!(single.tasks(Split::Train), &suite.tasks(Split::Train)[..1]);
}
