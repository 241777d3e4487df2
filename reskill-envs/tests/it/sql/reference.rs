//! Against SciPy and Python: rewards and printed rows. The scripts beside the files made them.

use reskill_envs::sql::{SqlConfig, kendall_tau_b, reward};
use serde::Deserialize;

use super::{open, seen, suite};

#[derive(Deserialize)]
struct Case {
    answer: Vec<String>,
    gold: Vec<String>,
    reward: f64,
    tau: Option<f64>,
}

#[test]
fn rewards_are_those_of_scipy() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("rewards.json")).unwrap();
    assert_eq!(cases.len(), 171);
    for Case { answer, gold, reward: expected, tau } in &cases {
        // The order of the operations is SciPy's; a rounded reward is exact.
        assert_eq!(reward(answer, gold), *expected, "{answer:?} {gold:?} {tau:?}");
    }
}

#[test]
fn tau_is_that_of_scipy_where_the_lists_hold_the_same_rows() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("rewards.json")).unwrap();
    let mut n_compared = 0;
    for case in &cases {
        let (mut a, mut g) = (case.answer.clone(), case.gold.clone());
        a.sort();
        g.sort();
        if a != g {
            continue;
        }
        let answer: Vec<&str> = case.answer.iter().map(String::as_str).collect();
        let gold: Vec<&str> = case.gold.iter().map(String::as_str).collect();
        assert_eq!(kendall_tau_b(&answer, &gold), case.tau, "{answer:?} {gold:?}");
        n_compared += 1;
    }
    assert!(n_compared > 5, "{n_compared}");
}

#[test]
fn tau_by_hand() {
    // One of three pairs is discordant: (2 - 1) / 3; SciPy multiplies in another order of the same roots.
    let tau = kendall_tau_b(&["a", "b", "c"], &["a", "c", "b"]).unwrap();
    assert!((tau - 1.0 / 3.0).abs() < 1e-15, "{tau}");
    // P = 1, Q = 0, one pair tied in the first list only, one in the second only: 1 / (sqrt(2) sqrt(2)).
    let tau = kendall_tau_b(&["a", "a", "b"], &["a", "b", "b"]).unwrap();
    assert!((tau - 0.5).abs() < 1e-15, "{tau}");
    assert_eq!(kendall_tau_b(&["a"], &["a"]), None);
    assert_eq!(kendall_tau_b(&["a", "a"], &["a", "b"]), None);
    assert_eq!(kendall_tau_b(&[], &[]), None);
}

#[test]
fn rows_print_as_python_prints_them() {
    let cases: Vec<(String, String)> = serde_json::from_str(include_str!("printed.json")).unwrap();
    let suite = suite(&SqlConfig { max_turns: 0, ..super::config() });
    let mut env = open(&suite, 0);
    for (query, expected) in &cases {
        assert_eq!(seen(env.as_mut(), query), *expected, "{query}");
    }
}
