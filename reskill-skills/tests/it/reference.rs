//! The statistics against values computed by SciPy and mpmath: `tests/fixtures/reference.py` makes `reference.json`.

use reskill_skills::version_test::discount::RetentionScores;
use reskill_skills::version_test::spending::{Look, bounds, quantile_of_tail, upper_tail};
use reskill_skills::version_test::{Beta, Counts, Score, Spending, p_best, p_greater};
use serde_json::Value;

pub(crate) fn reference() -> Value {
    serde_json::from_str(include_str!("../fixtures/reference.json")).unwrap()
}

fn cases(name: &str) -> Vec<Value> {
    let cases = reference()[name].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn beta(pair: &Value) -> Beta {
    Beta { alpha: pair[0].as_f64().unwrap(), beta: pair[1].as_f64().unwrap() }
}

/// `[m, n]`.
fn counts(pair: &Value) -> Counts {
    Counts { successes: pair[0].as_u64().unwrap(), episodes: pair[1].as_u64().unwrap() }
}

#[test]
fn p_greater_equals_the_reference_for_tiny_huge_and_extreme_parameters() {
    for case in cases("p_greater") {
        let got = p_greater(beta(&case["new"]), beta(&case["old"]));
        // The promise is 1e-9. The reference has 60 digits, or SciPy's incomplete beta function.
        let tolerance = if case["by"] == "finite sum, 60 digits" { 2e-12 } else { 1e-10 };
        assert!((got - case["p"].as_f64().unwrap()).abs() < tolerance, "{case}: {got}");
    }
}

#[test]
fn p_best_of_three_to_five_arms_equals_the_reference() {
    for case in cases("p_best") {
        let arms: Vec<Beta> = case["arms"].as_array().unwrap().iter().map(beta).collect();
        for (got, expected) in p_best(&arms).iter().zip(case["p"].as_array().unwrap()) {
            // The reference sums a million points in double precision.
            assert!((got - expected.as_f64().unwrap()).abs() < 1e-10, "{case}: {got}");
        }
    }
}

#[test]
fn retention_equals_the_reference() {
    for case in cases("retention") {
        let mut scores = RetentionScores::default();
        for test in case["tests"].as_array().unwrap() {
            let arm = |name: &str| -> Vec<Counts> {
                test["steps"].as_array().unwrap().iter().map(|step| counts(&step[name])).collect()
            };
            scores.add([arm("new").as_slice(), arm("old").as_slice()]);
        }
        assert_eq!(scores.best().map(u64::from), case["m_hat"].as_u64());
        for (retention, expected) in case["curve"].as_object().unwrap() {
            let got = scores.score(retention.parse().unwrap()).unwrap();
            let expected = expected.as_f64().unwrap();
            // SciPy's terms are of the size of the logarithm of a factorial of the counts.
            assert!(
                (got - expected).abs() < 1e-9 * expected.abs().max(1.0),
                "M = {retention}: {got} {expected}"
            );
        }
    }
}

#[test]
fn cochran_mantel_haenszel_equals_the_reference() {
    for case in cases("cmh") {
        let mut score = Score::default();
        for group in case["groups"].as_array().unwrap() {
            let (new, old) = (counts(&group["new"]), counts(&group["old"]));
            score.add((new.episodes, new.successes), (old.episodes, old.successes));
        }
        let near = |got: Option<f64>, key: &str| match (got, case[key].as_f64()) {
            // Sums of at most a hundred numbers of order one.
            (Some(got), Some(expected)) => assert!((got - expected).abs() < 1e-11, "{key}: {got} {expected}"),
            (got, expected) => assert_eq!(got, expected, "{key}"),
        };
        near(Some(score.score), "score");
        near(Some(score.variance), "variance");
        near(score.z(), "z");
        near(score.p_value(), "p_value");
    }
}

#[test]
fn alpha_spending_and_its_bounds_equal_the_reference() {
    for case in cases("spending") {
        let spending: Spending = serde_json::from_value(case["kind"].clone()).unwrap();
        let list = |key: &str| -> Vec<f64> {
            case[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        };
        let looks: Vec<Look> = list("times")
            .iter()
            .zip(list("variances"))
            .map(|(t, variance)| Look {
                variance,
                spent: spending.spent(case["level"].as_f64().unwrap(), *t),
            })
            .collect();
        for (look, expected) in looks.iter().zip(list("spent")) {
            assert!((look.spent - expected).abs() < 1e-12, "{case}: {}", look.spent);
        }
        for (got, expected) in bounds(&looks).iter().zip(list("bounds")) {
            // 64 nodes here, 4,001 there; a bound is known to 1e-12 in probability.
            assert!((got - expected).abs() < 1e-7, "{case}: {got}");
        }
    }
}

#[test]
fn normal_quantiles_equal_the_reference() {
    for case in cases("normal") {
        let (p, z) = (case["p"].as_f64().unwrap(), case["z"].as_f64().unwrap());
        assert!((quantile_of_tail(p) - z).abs() < 1e-10, "{p}");
        assert!((upper_tail(z) / p - 1.0).abs() < 1e-9, "{p}");
    }
}
