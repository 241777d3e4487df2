//! Exact match and F1 are those of the benchmarks' evaluation (make_scores.py).

use reskill_envs::search::{normalise_answer, score_answer};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    answer: String,
    gold: Vec<String>,
    normalised: String,
    exact_match: bool,
    f1: f64,
}

#[test]
fn awkward_answers_score_as_in_python() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("answer_scores.json")).unwrap();
    assert!(cases.len() > 80);
    for Case { answer, gold, normalised, exact_match, f1 } in cases {
        assert_eq!(normalise_answer(&answer), normalised, "{answer:?}");
        let scores = score_answer(&answer, &gold);
        assert_eq!(scores.exact_match, exact_match, "{answer:?} / {gold:?}");
        // The same operations in f64, in another order at most.
        assert!((scores.f1 - f1).abs() < 1e-12, "{answer:?} / {gold:?}: {} instead of {f1}", scores.f1);
    }
}
