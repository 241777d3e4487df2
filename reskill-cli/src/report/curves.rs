//! Learning curves: held-out success, training success, and when the bank changed.

use reskill_envs::Split;

use crate::evaluate::Success;
use crate::metrics_lines::EvaluationLine;
use crate::report::axis::Axis;
use crate::report::chart::Chart;
use crate::report::data::{HELD_OUT, RunData};
use crate::report::format::{percent, percent_range};
use crate::report::html::{figure, legend};
use crate::report::trials::{Trial, trials};

/// One chart for each held-out split.
pub(super) fn section_body(data: &RunData) -> String {
    if data.steps.is_empty() && data.evaluations.is_empty() {
        return "<p class=\"quiet\">No step and no evaluation is recorded.</p>".to_string();
    }
    let trials = trials(&data.history, data.first_id);
    let mut entries = vec![
        ("swatch seen", "seen"),
        ("swatch unseen", "unseen, with 95% bands"),
        ("swatch thin train", "training success of each step"),
    ];
    if data.evaluations.iter().any(|line| line.phase == "final_bank_off") {
        entries.push(("swatch rhomb", "final policy, bank off"));
    }
    if !trials.is_empty() {
        entries.extend([("swatch accepted", "version accepted"), ("swatch rejected", "version rejected")]);
    }
    let figures: String = HELD_OUT
        .iter()
        .map(|(name, split)| {
            let caption = format!("<b>{name}</b> games won, by training step");
            figure(&caption, &chart(data, &trials, name, *split))
        })
        .collect();
    let began = if data.is_adaptation() {
        "bank that the run began with"
    } else {
        "warm start, played without skills"
    };
    format!(
        "{}<div class=\"pair\">{figures}</div>\n<p class=\"quiet\">Step 0 is the {began}; later \
         evaluations play with the bank of that step. Evaluations during training may play fewer games than the first \
         and the last. Training episodes are other games and, while a test runs, a mixture of two banks.</p>\n",
        legend(&entries)
    )
}

fn chart(data: &RunData, trials: &[Trial<'_>], name: &str, split: Split) -> String {
    let mut chart = Chart::new(460.0, 290.0, Axis::counting(0, data.last_step()), Axis::shares());
    let training: Vec<(f64, Option<f64>)> =
        data.steps.iter().map(|line| (line.step as f64, line.success)).collect();
    let curve: Vec<(f64, Success)> = data
        .evaluations
        .iter()
        .filter(|line| line.evaluation.split == split && !line.phase.ends_with("bank_off"))
        .map(|line| (line.step as f64, line.evaluation.overall))
        .collect();
    let band: Vec<(f64, f64, f64)> =
        curve.iter().map(|(step, success)| (*step, success.interval[0], success.interval[1])).collect();
    let line: Vec<(f64, Option<f64>)> =
        curve.iter().map(|(step, success)| (*step, Some(success.rate))).collect();

    chart.band(name, &band);
    chart.line("thin train", &training);
    let hover: Vec<(f64, String)> = data
        .steps
        .iter()
        .filter_map(|line| {
            Some((
                line.step as f64,
                format!("step {}: training success {}", line.step, percent(line.success?)),
            ))
        })
        .collect();
    chart.hover(&hover);
    for trial in trials {
        mark(&mut chart, trial);
    }
    chart.line(name, &line);
    if let Some(off) = bank_off(data, split) {
        let (step, success) = (off.step as f64, off.evaluation.overall);
        chart.whisker("off", step, (success.interval[0], success.interval[1]), -3.0);
        chart.diamond("off", (step, success.rate), -3.0, &format!("bank off: {}", describe(&success)));
    }
    for (step, success) in &curve {
        chart.dot(name, (*step, success.rate), 3.0, &format!("step {step:.0}: {}", describe(success)));
    }
    chart.finish(&format!("share of {name} games won by training step"))
}

fn mark(chart: &mut Chart, trial: &Trial<'_>) {
    let (Some(step), Some(accepted)) = (trial.ended(), trial.accepted()) else { return };
    let (class, verdict) = if accepted { ("accepted", "accepted") } else { ("rejected", "rejected") };
    chart.vertical(class, step as f64, &format!("step {step}: {} {verdict}", trial.title()));
}

fn bank_off(data: &RunData, split: Split) -> Option<&EvaluationLine> {
    data.evaluations
        .iter()
        .rev()
        .find(|line| line.phase == "final_bank_off" && line.evaluation.split == split)
}

fn describe(success: &Success) -> String {
    format!("{} of {} games ({})", percent(success.rate), success.n_games, percent_range(success.interval))
}
