//! An episode keeps the rules: searches, one answer that counts, a last step.

use super::suite;
use reskill_envs::search::{InformationFormat, SearchConfig};
use reskill_envs::{Episode, Outcome, Split, Suite, TaskId, TextEnv, Turn};

fn open(suite: &dyn Suite, id: &str) -> Box<dyn TextEnv> {
    let mut env = suite.open(&TaskId(id.into())).unwrap();
    env.reset().unwrap();
    env
}

#[test]
fn a_search_brings_three_passages_between_tags() {
    let suite = suite(&SearchConfig::default());
    let mut env = suite.open(&TaskId("nq/n1".into())).unwrap();
    let first = env.reset().unwrap();
    assert_eq!(
        (first.text.as_str(), first.admissible.len()),
        ("Question: what is the capital of brenland", 0)
    );
    let by_command = env.step("search capital of Brenland").unwrap();
    let text = &by_command.observation.text;
    assert!(
        text.starts_with("<information>Doc 1(Title: Harwick) Harwick is the capital of Brenland"),
        "{text}"
    );
    assert!(
        text.contains("\nDoc 3(Title: ") && !text.contains("Doc 4") && text.ends_with("</information>"),
        "{text}"
    );
    assert_eq!((by_command.score, by_command.done, by_command.won), (0.0, false, false));
    let by_tag = env.step("I look it up: <search>capital of Brenland</search>").unwrap();
    assert_eq!(by_tag.observation.text, *text);
}

#[test]
fn the_last_answer_counts() {
    let suite = suite(&SearchConfig::default());
    let mut env = open(&suite, "nq/n4");
    let wrong = env.step("<answer>the Rowan Medal</answer>").unwrap();
    assert_eq!((wrong.score, wrong.done, wrong.won), (0.0, true, false));
    let right =
        env.step("<answer>nobody</answer> or rather <answer>A society of builders.</answer>").unwrap();
    assert_eq!((right.score, right.done, right.won), (1.0, true, true));
    let wrong = env.step("answer nobody").unwrap();
    assert_eq!((wrong.score, wrong.won), (0.0, false));
    // Starting again forgets the answers.
    env.reset().unwrap();
    assert!(!env.step("search medal").unwrap().done);
}

#[test]
fn an_action_that_cannot_be_read_changes_nothing_but_the_count() {
    let suite = suite(&SearchConfig { max_steps: 3, ..SearchConfig::default() });
    let mut env = open(&suite, "nq/n1");
    let step = env.step("dance").unwrap();
    assert!(step.observation.text.starts_with("Nothing was done") && !step.done);
    assert!(!env.step("search Brenland").unwrap().done);
    let last = env.step("search Harwick").unwrap();
    assert_eq!((last.done, last.won), (true, false));
}

#[test]
fn the_json_layout_and_the_number_of_passages_are_settings() {
    let config = SearchConfig { information: InformationFormat::Json, top_k: 1, ..SearchConfig::default() };
    let suite = suite(&config);
    let text = open(&suite, "nq/n1").step("search Zoë").unwrap().observation.text;
    assert_eq!(
        text,
        "<information>{\"result\": \"Doc 1 (Title: Zo\\u00eb Brandt)\\nZo\\u00eb Brandt is a painter from Harwick, known for \
         views of the River Tolle.\"}</information>"
    );
}

#[test]
fn a_copy_goes_its_own_way() {
    let suite = suite(&SearchConfig::default());
    let mut env = open(&suite, "nq/n1");
    let mut copy = env.boxed_clone().unwrap();
    assert!(copy.step("answer Harwick").unwrap().won);
    assert!(!env.step("search Harwick").unwrap().done);
}

#[test]
fn splits_are_by_set_and_by_id() {
    let ids = |config: &SearchConfig, split| -> Vec<String> {
        suite(config).tasks(split).iter().map(|task| task.id.0.clone()).collect()
    };
    let all = SearchConfig { answerable_only: false, ..SearchConfig::default() };
    let (train, seen) = (ids(&all, Split::Train), ids(&all, Split::ValidSeen));
    let mut both = [train.clone(), seen.clone()].concat();
    both.sort();
    assert_eq!(
        both,
        [
            "hotpotqa/h1",
            "hotpotqa/h2",
            "hotpotqa/h3",
            "hotpotqa/h4",
            "hotpotqa/h5",
            "hotpotqa/h6",
            "nq/n1",
            "nq/n2",
            "nq/n3",
            "nq/n4"
        ]
    );
    assert!(!train.is_empty() && !seen.is_empty());
    // The training part of a set that is not trained on belongs nowhere.
    assert_eq!(ids(&all, Split::ValidUnseen), ["popqa/p1"]);
    // What the corpus does not answer is left out, and moves nothing else.
    let answerable = SearchConfig::default();
    let without = |ids: Vec<String>| ids.into_iter().filter(|id| id != "hotpotqa/h4").collect::<Vec<_>>();
    assert_eq!(ids(&answerable, Split::Train), without(train));
    assert_eq!(ids(&answerable, Split::ValidSeen), without(seen));
    // A set with a training part of its own is not drawn from.
    let musique = SearchConfig { seen: vec!["musique".to_string().into()], ..SearchConfig::default() };
    assert_eq!(ids(&musique, Split::Train), ["musique/m1"]);
    let only = SearchConfig { datasets: vec!["PopQA".to_string().into()], ..SearchConfig::default() };
    assert_eq!((ids(&only, Split::Train).len(), ids(&only, Split::ValidUnseen).len()), (0, 1));
}

#[test]
fn measures_of_an_episode_are_those_of_its_last_answer() {
    let suite = suite(&SearchConfig::default());
    let tasks: Vec<_> =
        [Split::Train, Split::ValidSeen].into_iter().flat_map(|split| suite.tasks(split)).collect();
    let task = tasks.into_iter().find(|task| task.id.0 == "hotpotqa/h6").unwrap();
    let turn = |action: Option<&str>| Turn {
        observation: String::new(),
        admissible: Vec::new(),
        reply: String::new(),
        action: action.map(ToString::to_string),
        valid: action.is_some(),
    };
    let measures = |actions: &[Option<&str>]| {
        suite.measures(&Episode {
            task: task.clone(),
            turns: actions.iter().map(|action| turn(*action)).collect(),
            final_observation: String::new(),
            outcome: Outcome::Failure,
            return_: 0.0,
            score: 0.0,
            fault: None,
        })
    };
    assert_eq!(measures(&[Some("search x"), Some("answer 212 miles")]), [("exact_match", 1.0), ("f1", 1.0)]);
    assert_eq!(measures(&[None, Some("search 212")]), [("exact_match", 0.0), ("f1", 0.0)]);
    // 2 of 3 words in 2 of 2: 2 * (2/3 * 1) / (2/3 + 1) = 0.8.
    let [(_, exact), (_, f1)] = measures(&[Some("answer 212 miles long")])[..] else { panic!() };
    assert!(exact == 0.0 && (f1 - 0.8).abs() < 1e-12, "{f1}");
}

#[test]
fn replies_in_tags_are_read_as_commands() {
    let manner = suite(&SearchConfig::default()).manner();
    let read = |reply: &str| manner.parse_reply(reply, &[]);
    let search = read("Where is it? <search>capital of  Brenland</search>");
    assert_eq!((search.action.as_deref(), search.valid), (Some("search capital of Brenland"), true));
    let answer = read("<answer>x</answer> no <answer>Harwick</answer>");
    assert_eq!((answer.action.as_deref(), answer.valid), (Some("answer Harwick"), true));
    assert!(!read("It is Harwick.").valid);
    for command in ["search capital of Brenland", "answer Harwick"] {
        assert_eq!(read(&manner.demonstration(command)).action.as_deref(), Some(command));
    }
}
