//! What came out: success of every arm at the end, and its distance from the baseline.

use reskill_envs::Split;

use crate::evaluate::{Evaluation, Success};
use crate::report::compare::arms::ArmRuns;
use crate::report::compare::spread::Spread;
use crate::report::data::{HELD_OUT, RunData};
use crate::report::format::{NONE, percent, percent_range, points};
use crate::report::html::{table, text};
use crate::report::intervals;

/// The last evaluation of a run with its bank.
fn last<'a>(run: &'a RunData, name: &str, split: Split) -> Option<&'a Evaluation> {
    run.evaluation("final", name, split).or_else(|| run.evaluation("during", name, split))
}

fn rate(evaluation: Option<&Evaluation>) -> Option<f64> {
    evaluation.map(|evaluation| evaluation.overall.rate)
}

/// Success of an arm's runs at the end.
fn at_the_end(arm: &ArmRuns, name: &str, split: Split) -> Vec<f64> {
    arm.values(|run| rate(last(run, name, split)))
}

/// The result in a sentence.
pub(super) fn sentence(arms: &[ArmRuns]) -> String {
    let [baseline, others @ ..] = arms else { return String::new() };
    let unseen = |arm: &ArmRuns| Spread::of(&at_the_end(arm, "unseen", Split::ValidUnseen));
    let Some(base) = unseen(baseline) else {
        return "No run has been evaluated on unseen games.".to_string();
    };
    if others.is_empty() {
        return format!(
            "All runs are seeds of one configuration. On unseen games they reach <b>{}</b> on average.",
            percent(base.mean)
        );
    }
    let said: Vec<String> = others
        .iter()
        .filter_map(|arm| {
            let (difference, _) = unseen(arm)?.less(&base);
            Some(format!(
                "<b>{}</b> with {} (<b>{}</b> points)",
                percent(unseen(arm)?.mean),
                text(&arm.name),
                points(difference)
            ))
        })
        .collect();
    format!(
        "On unseen games the baseline, {}, reaches <b>{}</b>; {}.",
        text(&baseline.name),
        percent(base.mean),
        said.join(", ")
    )
}

/// A table for each split.
pub(super) fn section_body(arms: &[ArmRuns]) -> String {
    let mut body = String::new();
    for (name, split) in HELD_OUT {
        if arms.iter().all(|arm| at_the_end(arm, name, split).is_empty()) {
            continue;
        }
        let rows: Vec<Vec<String>> = arms.iter().map(|arm| row(arms, arm, name, split)).collect();
        let head = [
            "arm",
            "runs",
            "warm start",
            "at the end",
            "bank off",
            "against the baseline, points",
            "every run, 0 to 100%",
        ];
        body.push_str(&format!("<h3>{}</h3>\n{}", capital(name), table("results arms", &head, &rows)));
    }
    if body.is_empty() {
        return "<p class=\"quiet\">No evaluation is recorded.</p>".to_string();
    }
    body + "<p class=\"quiet\">Means over the runs of an arm. Small numbers are 95% intervals over seeds: Student\u{2019}s \
            for means, Welch\u{2019}s for differences; of a single run the interval over games (Wilson\u{2019}s, \
            Newcombe\u{2019}s). A run that has not reached its end counts with its latest evaluation.</p>\n"
}

fn row(arms: &[ArmRuns], arm: &ArmRuns, name: &str, split: Split) -> Vec<String> {
    let of = |phase: &str| arm.values(|run| rate(run.evaluation(phase, name, split)));
    let end = at_the_end(arm, name, split);
    let only = match arm.runs.as_slice() {
        [run] => last(run, name, split).map(|evaluation| evaluation.overall),
        _ => None,
    };
    vec![
        format!("<i class=\"swatch c {}\"></i> {}", arm.class, text(&arm.name)),
        arm.runs.len().to_string(),
        mean_cell(&of("warm_start"), None),
        mean_cell(&end, only),
        mean_cell(&of("final_bank_off"), None),
        difference_cell(arms, arm, name, split),
        strip(&arm.class, &end, only),
    ]
}

/// A mean with its interval below.
fn mean_cell(values: &[f64], only: Option<Success>) -> String {
    let Some(spread) = Spread::of(values) else { return NONE.to_string() };
    let interval = spread.interval().or(only.map(|success| success.interval));
    let interval = interval.map_or(String::new(), |interval| {
        format!("<small>{}</small>", percent_range(interval.map(|bound| bound.clamp(0.0, 1.0))))
    });
    format!("{}{interval}", percent(spread.mean))
}

fn difference_cell(arms: &[ArmRuns], arm: &ArmRuns, name: &str, split: Split) -> String {
    let Some(baseline) = arms.first().filter(|baseline| !std::ptr::eq(*baseline, arm)) else {
        return "baseline".to_string();
    };
    let spread = |arm: &ArmRuns| Spread::of(&at_the_end(arm, name, split));
    let (Some(ours), Some(theirs)) = (spread(arm), spread(baseline)) else { return NONE.to_string() };
    let (difference, interval) = ours.less(&theirs);
    // Of single runs, the interval over games.
    let single = || match (arm.runs.as_slice(), baseline.runs.as_slice()) {
        ([new], [old]) => {
            let (new, old) = (last(new, name, split)?, last(old, name, split)?);
            Some(intervals::difference(&new.overall, &old.overall))
        }
        _ => None,
    };
    let interval = interval
        .or_else(single)
        .map_or(String::new(), |[low, high]| format!("<small>{} to {}</small>", points(low), points(high)));
    format!("<b>{}</b>{interval}", points(difference))
}

/// A dot for every run, a bar for the interval of their mean.
fn strip(class: &str, values: &[f64], only: Option<Success>) -> String {
    let x = |share: f64| 10.0 + 200.0 * share.clamp(0.0, 1.0);
    let grid: String = [0.0, 0.25, 0.5, 0.75, 1.0]
        .iter()
        .map(|share| format!("<path class=\"grid\" d=\"M{} 0V24\"/>", x(*share)))
        .collect();
    let interval = Spread::of(values).and_then(|spread| spread.interval());
    let whisker = interval.or(only.map(|success| success.interval)).map_or(String::new(), |[low, high]| {
        format!("<path class=\"whisker {class}\" d=\"M{:.1} 12H{:.1}\"/>", x(low), x(high))
    });
    let dots: String = values
        .iter()
        .map(|value| {
            format!(
                "<circle class=\"dot ring {class}\" cx=\"{:.1}\" cy=\"12\" r=\"3.6\"><title>{}</title></circle>",
                x(*value),
                percent(*value)
            )
        })
        .collect();
    format!(
        "<svg class=\"strip\" viewBox=\"0 0 220 24\" role=\"img\" aria-label=\"success of every run\">{grid}{whisker}{dots}</svg>"
    )
}

fn capital(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
