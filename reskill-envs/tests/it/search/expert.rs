//! The expert answers rightly, also where it may only choose; what it may choose from does not come from the gold answer.

use super::suite;
use reskill_envs::search::SearchConfig;
use reskill_envs::{EnvError, Split, Suite, TaskId};

/// Plays every task by the expert; ids of those without a plan.
fn play_all(config: &SearchConfig) -> Vec<String> {
    let suite = suite(config);
    let mut unsolved = Vec::new();
    for task in Split::ALL.into_iter().flat_map(|split| suite.tasks(split)) {
        let mut env = suite.open(&task.id).unwrap();
        let mut now = env.reset().unwrap();
        let plan = match env.expert() {
            Ok(plan) => plan,
            Err(EnvError::NoPlan { .. }) => {
                unsolved.push(task.id.0.clone());
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let (last, searches) = plan.split_last().unwrap();
        for command in searches {
            assert!(command.starts_with("search "), "{plan:?}");
            assert!(
                !config.candidates || now.admissible.contains(command),
                "{command}: {:?}",
                now.admissible
            );
            let step = env.step(command).unwrap();
            assert!(!step.done, "{plan:?}");
            now = step.observation;
        }
        assert!(!searches.is_empty(), "{}: an answer without evidence", task.id);
        assert!(!config.candidates || now.admissible.contains(last), "{last}: {:?}", now.admissible);
        let step = env.step(last).unwrap();
        assert!(step.won && step.done && step.score == 1.0, "{plan:?}");
        assert_eq!(env.expert().unwrap(), [""; 0]);
    }
    unsolved
}

#[test]
fn the_expert_answers_every_question_that_the_corpus_answers() {
    assert_eq!(play_all(&SearchConfig::default()), [""; 0]);
    assert_eq!(
        play_all(&SearchConfig { answerable_only: false, ..SearchConfig::default() }),
        ["hotpotqa/h4"]
    );
}

#[test]
fn the_expert_answers_from_candidates_alone() {
    // "212 miles" is no span of names, but "212" is a gold answer too.
    assert_eq!(play_all(&SearchConfig { candidates: true, ..SearchConfig::default() }), [""; 0]);
}

#[test]
fn the_expert_goes_on_from_where_the_episode_is() {
    let suite = suite(&SearchConfig::default());
    let mut env = suite.open(&TaskId("hotpotqa/h1".into())).unwrap();
    env.reset().unwrap();
    env.step("search Edith Carrow").unwrap();
    assert_eq!(env.expert().unwrap(), ["answer Penholt"]);
    env.step("answer Esk").unwrap();
    assert_eq!(env.expert().unwrap(), ["answer Penholt"]);
}

#[test]
fn candidates_come_from_question_and_passages() {
    let suite = suite(&SearchConfig { candidates: true, ..SearchConfig::default() });
    let mut env = suite.open(&TaskId("hotpotqa/h1".into())).unwrap();
    let first = env.reset().unwrap().admissible;
    assert_eq!(
        first,
        ["search In which town was the engineer who designed Marlow Bridge born?", "search Marlow Bridge"]
    );
    let then = env.step("search Marlow Bridge").unwrap().observation.admissible;
    // What was searched for is not offered again; people of the passages are.
    assert!(!then.contains(&"search Marlow Bridge".to_string()), "{then:?}");
    for expected in ["search Edith Carrow", "answer yes", "answer no", "answer Edith Carrow", "answer 1832"] {
        assert!(then.iter().any(|command| command == expected), "{expected} is not in {then:?}");
    }
    assert!(then.len() <= 80);
}

#[test]
fn candidates_do_not_depend_on_the_gold_answer() {
    use reskill_envs::search::{Search, read_questions};
    let config = SearchConfig { candidates: true, ..SearchConfig::default() };
    let listed = |spoil: bool| -> Vec<Vec<String>> {
        let mut questions = read_questions(&super::data()).unwrap();
        if spoil {
            for question in &mut questions {
                question.answers = vec!["something else".into()];
                question.supporting_titles = Vec::new();
            }
        }
        let suite = Search::new(questions, super::word_retriever(), &config).unwrap();
        let tasks = Split::ALL.into_iter().flat_map(|split| suite.tasks(split).to_vec());
        tasks
            .flat_map(|task| {
                let mut env = suite.open(&task.id).unwrap();
                let first = env.reset().unwrap().admissible;
                let then = env.step(&first[0]).unwrap().observation.admissible;
                [first, then]
            })
            .collect()
    };
    assert_eq!(listed(false), listed(true));
}
