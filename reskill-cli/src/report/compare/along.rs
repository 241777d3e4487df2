//! The second table of a study: success on the way there.

use reskill_envs::Split;

use crate::report::compare::arms::ArmRuns;
use crate::report::compare::spread::Spread;
use crate::report::compare::study::{OfRun, Paired, paired};
use crate::report::data::RunData;
use crate::report::format::NONE;

/// Training is looked at in so many parts.
const PARTS: u64 = 4;

/// Mean success on unseen games of the evaluations during one part of training, or during all of it.
fn along(run: &RunData, part: Option<u64>) -> Option<f64> {
    let last = run.config.grpo.steps.unwrap_or_else(|| run.last_step());
    // Evaluations with the live bank; that of the warm start belongs to no part.
    let is_in = |step: u64| step > 0 && part.is_none_or(|part| (step - 1) * PARTS / last.max(1) == part);
    let rates: Vec<f64> = run
        .evaluations
        .iter()
        .filter(|line| line.phase == "during" && line.evaluation.split == Split::ValidUnseen)
        .filter(|line| is_in(line.step))
        .map(|line| line.evaluation.overall.rate)
        .collect();
    Some(Spread::of(&rates)?.mean)
}

/// The parts of training with their numbers.
const ALONG: [(&str, OfRun); 5] = [
    ("first quarter", |run| along(run, Some(0))),
    ("second", |run| along(run, Some(1))),
    ("third", |run| along(run, Some(2))),
    ("last", |run| along(run, Some(3))),
    ("all of training", |run| along(run, None)),
];

/// The table's head.
pub(super) fn head() -> Vec<String> {
    ["arm", "runs"].into_iter().chain(ALONG.iter().map(|(title, _)| *title)).map(String::from).collect()
}

/// A row: success, and its difference to the baseline with the p-value; nothing if no run was evaluated on the way.
pub(super) fn row(arm: &ArmRuns, baseline: &ArmRuns, small: fn(&str) -> String) -> Option<Vec<String>> {
    let cell = |of: OfRun| {
        let Some(spread) = Spread::of(&arm.values(of)) else { return NONE.to_string() };
        let difference = paired(arm, baseline, of).filter(|_| !std::ptr::eq(arm, baseline));
        let difference = difference.map_or(String::new(), |Paired { spread, p_value }| {
            small(&format!("{:+.1}, p {p_value:.3}", spread.mean * 100.0))
        });
        format!("{:.1}{difference}", spread.mean * 100.0)
    };
    let mut row = vec![arm.name.clone(), arm.runs.len().to_string()];
    row.extend(ALONG.iter().map(|(_, of)| cell(*of)));
    arm.runs.iter().any(|run| along(run, None).is_some()).then_some(row)
}

/// What the table is, in words.
pub(super) const LEGEND: &str = "Success in % of unseen games on the way, with the difference to the baseline and its p-value: means of the \
evaluations during each quarter of training, with the live bank, on fewer games than at the end. It shows how fast an arm learns, which the end \
does not.";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn run(evaluations: &[(u64, &str, &str, f64)], last: u64) -> RunData {
        let line = |(step, phase, split, rate): &(u64, &str, &str, f64)| {
            let rate_of = |hits: u64| serde_json::json!({"hits": hits, "total": 0});
            let overall = serde_json::json!({"n_games": 100, "won": 0, "rate": rate, "interval": [0.0, 1.0]});
            let evaluation = serde_json::json!({
                "split": split, "overall": overall, "families": {}, "mean_turns": 1.0, "heeded": rate_of(0), "unprompted": null
            });
            let line = serde_json::json!({"step": step, "phase": phase, "evaluation": evaluation});
            serde_json::from_value(line).unwrap()
        };
        let mut data = RunData { evaluations: evaluations.iter().map(line).collect(), ..RunData::default() };
        data.config.seed = Some(0);
        data.config.grpo.steps = Some(last);
        data
    }

    #[test]
    fn an_evaluation_counts_in_the_quarter_that_it_ends() {
        let unseen = |step, rate| (step, "during", "valid_unseen", rate);
        let run = run(
            &[
                (0, "warm_start", "valid_unseen", 0.9),
                unseen(2, 0.1),
                (2, "during", "valid_seen", 0.9),
                (2, "during_bank_off", "valid_unseen", 0.9),
                unseen(4, 0.3),
                unseen(6, 0.5),
                unseen(16, 0.7),
                (16, "final", "valid_unseen", 0.9),
            ],
            16,
        );
        let close = |part, expected: f64| (along(&run, part).unwrap() - expected).abs() < 1e-12;
        assert!(close(Some(0), 0.2) && close(Some(1), 0.5) && close(Some(3), 0.7) && close(None, 0.4));
        assert_eq!(along(&run, Some(2)), None);
    }

    #[test]
    fn a_row_has_a_cell_for_each_column_and_is_left_out_without_evaluations() {
        let arm = |runs| ArmRuns {
            name: "on".into(),
            class: "a0".into(),
            note: String::new(),
            is_control: false,
            settings: BTreeMap::new(),
            runs,
        };
        let with = arm(vec![run(&[(4, "during", "valid_unseen", 0.25)], 4)]);
        let cells = row(&with, &with, str::to_string).unwrap();
        assert_eq!(cells.len(), head().len());
        assert!(cells.contains(&"25.0".to_string()), "{cells:?}");
        assert!(row(&arm(vec![run(&[], 4)]), &with, str::to_string).is_none());
    }
}
