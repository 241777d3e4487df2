//! Where the time and the tokens went.

use crate::metrics_lines::{OfStep, StepLine};
use crate::report::axis::Axis;
use crate::report::chart::Chart;
use crate::report::data::RunData;
use crate::report::format::{NONE, count, duration, percent, plain_short, short};
use crate::report::html::{figure, legend, table, text};

/// Phases, speeds, and what prefix reuse saved.
pub(super) fn section_body(data: &RunData) -> String {
    let phases = data.seconds_by_phase();
    if phases.is_empty() && data.steps.is_empty() {
        return "<p class=\"quiet\">No time is recorded.</p>".to_string();
    }
    let mut body = String::new();
    if data.summary.is_none() {
        body.push_str(
            "<p class=\"note\">The run has no summary: seconds are those that the metrics tell.</p>\n",
        );
    }
    body.push_str(&bar(&phases));
    body.push_str(&phase_table(data, &phases));
    body.push_str(&speeds(&data.steps));
    body.push_str(&reuse(&data.steps));
    body
}

fn class(phase: &str) -> &'static str {
    match phase {
        "demonstrations" => "p1",
        "warm_start" => "p2",
        "rollout" => "p3",
        "update" => "p4",
        "skills" => "p5",
        "evaluation" => "p6",
        _ => "p7",
    }
}

/// One bar, cut by phase.
fn bar(phases: &[(String, f64)]) -> String {
    let total: f64 = phases.iter().map(|(_, seconds)| seconds).sum();
    let mut left = 0.0;
    let mut cells = String::new();
    for (phase, seconds) in phases {
        let width = 1000.0 * seconds / total;
        cells.push_str(&format!(
            "<rect class=\"phase {}\" x=\"{left:.2}\" y=\"0\" width=\"{width:.2}\" height=\"26\"><title>{}: {}</title></rect>",
            class(phase),
            text(&phase.replace('_', " ")),
            duration(*seconds)
        ));
        left += width;
    }
    format!(
        "<svg class=\"phases\" viewBox=\"0 0 1000 26\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"seconds by phase\">{cells}</svg>\n"
    )
}

fn phase_table(data: &RunData, phases: &[(String, f64)]) -> String {
    let total: f64 = phases.iter().map(|(_, seconds)| seconds).sum();
    let row = |(phase, seconds): &(String, f64)| {
        let tokens = tokens(data, phase);
        vec![
            format!("<i class=\"swatch phase {}\"></i> {}", class(phase), text(&phase.replace('_', " "))),
            duration(*seconds),
            percent(seconds / total),
            tokens.map_or(NONE.to_string(), count),
            tokens.map_or(NONE.to_string(), |tokens| format!("{}/s", short(tokens as f64 / seconds))),
        ]
    };
    let mut rows: Vec<Vec<String>> = phases.iter().map(row).collect();
    rows.push(vec!["<b>all</b>".into(), duration(total), percent(1.0), String::new(), String::new()]);
    let head = ["phase", "time", "share", "tokens through the network", "speed"];
    table("numbers", &head, &rows)
}

/// Tokens of a phase: of the whole run if it finished, else what the metrics tell.
fn tokens(data: &RunData, phase: &str) -> Option<u64> {
    if let Some(&tokens) = data.summary.as_ref().and_then(|summary| summary.tokens_by_phase.get(phase)) {
        return (tokens > 0).then_some(tokens);
    }
    let tokens = match phase {
        "warm_start" => data.warm_start.iter().map(|line| line.update.packed_tokens).sum(),
        "rollout" => data.steps.iter().map(|line| line.tokens.run).sum(),
        "update" => data.steps.iter().map(|line| line.update.packed_tokens).sum(),
        _ => 0,
    };
    (tokens > 0).then_some(tokens)
}

fn speeds(steps: &[StepLine]) -> String {
    if steps.is_empty() {
        return String::new();
    }
    let lines: [(&str, &str, OfStep); 2] = [
        ("p3", "rollout", |line| line.time.rollout_tokens_per_second),
        ("p4", "update", |line| line.time.update_tokens_per_second),
    ];
    let values = steps.iter().flat_map(|line| lines.iter().filter_map(|(_, _, value)| value(line)));
    let bounds = (steps.iter().map(|line| line.step).min(), steps.iter().map(|line| line.step).max());
    let x = Axis::counting(bounds.0.unwrap_or(0), bounds.1.unwrap_or(1));
    let mut speed = Chart::new(460.0, 190.0, x.clone(), Axis::around(values, true, plain_short));
    for (class, _, value) in lines {
        let line: Vec<(f64, Option<f64>)> =
            steps.iter().map(|line| (line.step as f64, value(line))).collect();
        speed.line(&format!("phase-line {class}"), &line);
    }
    let hover: Vec<(f64, String)> = steps
        .iter()
        .map(|line| {
            let said: Vec<String> = lines
                .iter()
                .map(|(_, name, value)| format!("{name} {}/s", value(line).map_or(NONE.into(), short)))
                .collect();
            (line.step as f64, format!("step {}: {}", line.step, said.join(", ")))
        })
        .collect();
    speed.hover(&hover);
    let tokens = [
        ("second", steps.iter().map(|line| line.tokens.without_reuse as f64).collect::<Vec<f64>>()),
        ("phase-line p3", steps.iter().map(|line| line.tokens.run as f64).collect()),
    ];
    let y = Axis::around(tokens.iter().flat_map(|(_, values)| values.iter().copied()), true, plain_short);
    let mut reuse = Chart::new(460.0, 190.0, x, y);
    for (class, values) in &tokens {
        let line: Vec<(f64, Option<f64>)> =
            steps.iter().zip(values).map(|(line, tokens)| (line.step as f64, Some(*tokens))).collect();
        reuse.line(class, &line);
    }
    let legend = legend(&[
        ("swatch phase p3", "rollout"),
        ("swatch phase p4", "update"),
        ("swatch second", "rollout, had nothing been reused"),
    ]);
    format!(
        "{legend}<div class=\"pair\">{}{}</div>\n",
        figure("<b>tokens a second</b>, by step", &speed.finish("tokens a second by training step")),
        figure(
            "<b>tokens through the network</b> in the rollouts, by step",
            &reuse.finish("rollout tokens by training step")
        ),
    )
}

/// What was saved in all.
fn reuse(steps: &[StepLine]) -> String {
    let sum = |tokens: fn(&StepLine) -> u64| steps.iter().map(tokens).sum::<u64>();
    let (run, without) = (sum(|line| line.tokens.run), sum(|line| line.tokens.without_reuse));
    if run == 0 || without <= run {
        return String::new();
    }
    format!(
        "<p>Prefix reuse: rollouts put <b>{}</b> tokens through the network instead of {} \u{2013} {:.1} times fewer, {} \
         saved. {} of them were sampled.</p>\n",
        count(run),
        count(without),
        without as f64 / run as f64,
        percent(1.0 - run as f64 / without as f64),
        count(sum(|line| line.tokens.generated)),
    )
}
