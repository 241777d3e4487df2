//! How episodes fail over time, and what the assertions say of them.

use reskill_skills::{HistoryRecord, Rate};

use crate::failure_modes::FailureMode;
use crate::metrics_lines::{AssertionLine, StepLine};
use crate::report::axis::Axis;
use crate::report::chart::Chart;
use crate::report::data::RunData;
use crate::report::format::{NONE, percent};
use crate::report::html::{breakable, figure, legend, table, text};

/// Steps over which the passes of an assertion are pooled: a step may have few successes or few failures.
const WINDOW: usize = 5;

/// Passes among successes, or among failures.
type Half = fn(&AssertionLine) -> Rate;

/// Failure modes, assertions, and what the creator saw.
pub(super) fn section_body(data: &RunData) -> String {
    let parts = [modes(&data.steps), assertions(&data.steps), clusters(&data.history)];
    if parts.iter().all(String::is_empty) {
        return "<p class=\"quiet\">Nothing is recorded of the failures of this run.</p>".to_string();
    }
    parts.concat()
}

/// A failure mode in words, and its class.
pub(super) fn in_words(mode: FailureMode) -> (&'static str, &'static str) {
    match mode {
        FailureMode::Invalid => ("no valid action on half of the turns or more", "f1"),
        FailureMode::Loop => ("same action, same observation, three times", "f2"),
        FailureMode::EndedEarly => ("ended before the turn limit", "f3"),
        FailureMode::OutOfTurns => ("out of turns", "f4"),
    }
}

/// The modes as areas, one upon the other; together they are what did not succeed.
fn modes(steps: &[StepLine]) -> String {
    let steps: Vec<&StepLine> =
        steps.iter().filter(|line| line.episodes > 0 && !line.failures.is_empty()).collect();
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return String::new() };
    let share = |line: &StepLine, mode: FailureMode| {
        line.failures.get(&mode).copied().unwrap_or(0) as f64 / line.episodes as f64
    };
    let seen: Vec<FailureMode> = FailureMode::ALL
        .into_iter()
        .filter(|mode| steps.iter().any(|line| share(line, *mode) > 0.0))
        .collect();
    if seen.is_empty() {
        return "<p>No training episode failed.</p>\n".to_string();
    }
    let mut chart = Chart::new(620.0, 220.0, Axis::counting(first.step, last.step), Axis::shares());
    let mut floor = vec![0.0; steps.len()];
    for mode in &seen {
        let area: Vec<(f64, f64, f64)> = steps
            .iter()
            .zip(&mut floor)
            .map(|(line, floor)| {
                let low = *floor;
                *floor += share(line, *mode);
                (line.step as f64, low, *floor)
            })
            .collect();
        chart.band(&format!("area {}", in_words(*mode).1), &area);
        if let [(x, _, high)] = area.as_slice() {
            chart.dot(in_words(*mode).1, (*x, *high), 3.0, in_words(*mode).0);
        }
    }
    let hover: Vec<(f64, String)> = steps
        .iter()
        .map(|line| {
            let said: Vec<String> = seen
                .iter()
                .map(|mode| format!("{} {}", in_words(*mode).0, percent(share(line, *mode))))
                .collect();
            (line.step as f64, format!("step {}: {}", line.step, said.join("; ")))
        })
        .collect();
    chart.hover(&hover);
    let swatches: Vec<String> =
        seen.iter().map(|mode| format!("swatch phase {}", in_words(*mode).1)).collect();
    let entries: Vec<(&str, &str)> =
        seen.iter().zip(&swatches).map(|(mode, swatch)| (swatch.as_str(), in_words(*mode).0)).collect();
    format!(
        "{}{}",
        legend(&entries),
        figure(
            "<b>training episodes that failed</b>, by how, as shares of all; by training step",
            &chart.finish("shares of training episodes by failure mode and training step")
        )
    )
}

/// Passes of every assertion, among successes and among failures.
fn assertions(steps: &[StepLine]) -> String {
    let mut names: Vec<&String> = Vec::new();
    for name in steps.iter().flat_map(|line| line.assertions.keys()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return String::new();
    }
    let figures: String = names.iter().map(|name| assertion(name, steps)).collect();
    let legend = legend(&[("swatch good", "passed by successes"), ("swatch bad", "passed by failures")]);
    format!(
        "<h3>Assertions <small>share of training episodes that pass, pooled over {WINDOW} steps</small></h3>\n{legend}\
         <div class=\"grid\">{figures}</div>\n<p class=\"quiet\">The further the two lines are apart, the better the \
         assertion tells success from failure. Beside each name: the last value of both.</p>\n"
    )
}

fn assertion(name: &str, steps: &[StepLine]) -> String {
    let held: Vec<(u64, AssertionLine)> =
        steps.iter().filter_map(|line| Some((line.step, *line.assertions.get(name)?))).collect();
    let (first, last) = (steps.first().map_or(0, |line| line.step), steps.last().map_or(1, |line| line.step));
    let mut chart = Chart::new(320.0, 120.0, Axis::counting(first, last), Axis::shares());
    let halves: [(&str, Half); 2] = [("good", |line| line.success), ("bad", |line| line.failure)];
    let mut latest = Vec::new();
    for (class, half) in halves {
        let line: Vec<(f64, Option<f64>)> =
            held.iter()
                .enumerate()
                .map(|(index, (step, _))| {
                    let window = &held[(index + 1).saturating_sub(WINDOW)..=index];
                    let sum = window.iter().map(|(_, line)| half(line)).fold(Rate::default(), |sum, rate| {
                        Rate { hits: sum.hits + rate.hits, total: sum.total + rate.total }
                    });
                    (*step as f64, sum.value())
                })
                .collect();
        latest.push(line.last().and_then(|(_, share)| *share).map_or(NONE.to_string(), percent));
        chart.line(class, &line);
    }
    let caption =
        format!("<code>{}</code><span class=\"last\">{}</span>", breakable(name), text(&latest.join(" / ")));
    figure(&caption, &chart.finish("share of episodes that pass the assertion, by training step"))
}

/// The clusters of failures that the creator found before each proposal.
fn clusters(history: &[HistoryRecord]) -> String {
    let rows: Vec<Vec<String>> = history
        .iter()
        .filter_map(|record| Some((record.step, &record.artefacts.as_ref()?.diagnosis, record)))
        .flat_map(|(step, diagnosis, record)| {
            let insights = record.artefacts.iter().flat_map(|artefacts| &artefacts.insights);
            let insights: Vec<_> = insights.collect();
            diagnosis.clusters.iter().map(move |cluster| {
                let stands = insights.get(cluster.representative).map_or(String::new(), |insight| {
                    text(insight.failure_mode.as_deref().unwrap_or(&insight.finding)).to_string()
                });
                vec![
                    step.to_string(),
                    text(&cluster.name).to_string(),
                    cluster.insights.len().to_string(),
                    stands,
                ]
            })
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = ["step", "cluster of failures", "findings", "what stands for it"];
    format!(
        "<h3>What the creator saw <small>before each proposal</small></h3>\n{}",
        table("words", &head, &rows)
    )
}
