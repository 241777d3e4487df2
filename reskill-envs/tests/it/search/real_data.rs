//! The real questions and passages, where they are at hand.

use std::sync::Arc;

use crate::data::data;
use reskill_envs::search::{BuildOptions, EmbeddedRetriever, Ranking, Search, SearchConfig, build_index};
use reskill_envs::{Split, Suite};

#[test]
fn the_expert_answers_real_questions_from_the_real_passages() {
    let Some(data) = data("qa", "corpus.jsonl.gz") else { return };
    let dir = tempfile::tempdir().unwrap();
    let index = build_index(
        &data.join("corpus.jsonl.gz"),
        &dir.path().join("index"),
        &BuildOptions::default(),
        &mut |_, _, _| {},
    );
    let index = Arc::new(index.unwrap());
    assert_eq!(index.manifest().corpus.passages, 51_650);
    let open = |candidates| {
        let retriever = Arc::new(EmbeddedRetriever::new(Arc::clone(&index), Ranking::Bm25, None).unwrap());
        let config = SearchConfig { candidates, ..SearchConfig::default() };
        Search::open_path(&data, retriever, &config).unwrap()
    };
    // How many are answered from this corpus is in the data's own notes (coverage.json).
    let free = open(false);
    let counts = [Split::Train, Split::ValidSeen, Split::ValidUnseen].map(|split| free.tasks(split).len());
    assert_eq!(counts[0] + counts[1], 1975 + 2422);
    assert_eq!(counts[2], 1513 + 815 + 2380 + 1035 + 47);
    // A binomial of 4,397 halves stays within 4 standard deviations, 133.
    assert!(counts[0].abs_diff(2198) < 133, "{counts:?}");
    for (suite, least) in [(&free, 0.8), (&open(true), 0.45)] {
        let tasks = suite.tasks(Split::Train).iter().step_by(20);
        let n_tasks = tasks.clone().count();
        let mut solved = 0;
        for task in tasks {
            let mut env = suite.open(&task.id).unwrap();
            env.reset().unwrap();
            if let Ok(plan) = env.expert() {
                let last = plan.iter().map(|command| env.step(command).unwrap()).last().unwrap();
                assert!(last.won, "{}: {plan:?}", task.id);
                solved += 1;
            }
        }
        let share = f64::from(solved) / n_tasks as f64;
        assert!(share >= least, "{solved} of {n_tasks}");
    }
}
