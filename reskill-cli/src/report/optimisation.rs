//! Policy optimisation as small multiples.

use crate::metrics_lines::{OfStep, StepLine};
use crate::report::axis::Axis;
use crate::report::chart::Chart;
use crate::report::data::RunData;
use crate::report::format::{NONE, maybe, number, percent, plain, plain_percent};
use crate::report::html::{figure, text};

/// One small chart.
struct Panel {
    title: &'static str,
    note: &'static str,
    lines: &'static [(&'static str, OfStep)],
    value: fn(f64) -> String,
    label: fn(f64) -> String,
    from_zero: bool,
}

const PANELS: [Panel; 9] = [
    Panel {
        title: "loss",
        note: "mean over mini-batches",
        lines: &[("main", |line| line.update.loss)],
        value: number,
        label: plain,
        from_zero: false,
    },
    Panel {
        title: "KL to reference",
        note: "nats a token; reference: the warm start",
        lines: &[("main", |line| line.update.ref_kl)],
        value: number,
        label: plain,
        from_zero: true,
    },
    Panel {
        title: "KL to sampler",
        note: "nats a token, during the update",
        lines: &[("main", |line| line.update.approx_kl)],
        value: number,
        label: plain,
        from_zero: true,
    },
    Panel {
        title: "entropy",
        note: "nats a token",
        lines: &[("main", |line| line.update.entropy)],
        value: number,
        label: plain,
        from_zero: true,
    },
    Panel {
        title: "clip fraction",
        note: "<i class=\"key main\"></i>below, <i class=\"key second\"></i>above",
        lines: &[
            ("main", |line| line.update.clip_fraction_low),
            ("second", |line| line.update.clip_fraction_high),
        ],
        value: percent_of_few,
        label: plain_percent,
        from_zero: true,
    },
    Panel {
        title: "gradient norm",
        note: "before clipping",
        lines: &[("main", |line| line.update.grad_norm)],
        value: number,
        label: plain,
        from_zero: true,
    },
    Panel {
        title: "sampler mismatch",
        note: "largest difference of log-probabilities; 0 where both agree",
        lines: &[("main", |line| line.update.sampler_mismatch)],
        value: number,
        label: plain,
        from_zero: true,
    },
    Panel {
        title: "turns",
        note: "mean of an episode",
        lines: &[("main", |line| line.mean_turns)],
        value: number,
        label: plain,
        from_zero: false,
    },
    Panel {
        title: "invalid actions",
        note: "share of turns",
        lines: &[("main", |line| line.invalid_fraction)],
        value: percent_of_few,
        label: plain_percent,
        from_zero: true,
    },
];

/// The charts of the steps, and the loss of the warm start.
pub(super) fn section_body(data: &RunData) -> String {
    let mut figures = String::new();
    if !data.steps.is_empty() {
        let has_values = |panel: &&Panel| {
            data.steps.iter().any(|line| panel.lines.iter().any(|(_, value)| value(line).is_some()))
        };
        figures.extend(PANELS.iter().filter(has_values).map(|panel| panel_figure(panel, &data.steps)));
    }
    figures.push_str(&warm_start(data));
    if figures.is_empty() {
        return "<p class=\"quiet\">No update is recorded.</p>".to_string();
    }
    let frozen = if data.is_adaptation() { "The weights were frozen. " } else { "" };
    format!(
        "<div class=\"grid\">{figures}</div>\n<p class=\"quiet\">{frozen}Beside each title: the value of the last step.</p>\n"
    )
}

fn panel_figure(panel: &Panel, steps: &[StepLine]) -> String {
    let values = steps.iter().flat_map(|line| panel.lines.iter().filter_map(|(_, value)| value(line)));
    let last = steps.iter().map(|line| line.step).max().unwrap_or(1);
    let first = steps.iter().map(|line| line.step).min().unwrap_or(0);
    let y = Axis::around(values, panel.from_zero, panel.label);
    let mut chart = Chart::new(320.0, 150.0, Axis::counting(first, last), y);
    for (class, value) in panel.lines {
        let line: Vec<(f64, Option<f64>)> =
            steps.iter().map(|line| (line.step as f64, value(line))).collect();
        chart.line(class, &line);
    }
    let hover: Vec<(f64, String)> = steps
        .iter()
        .map(|line| {
            let values: Vec<String> = panel.lines.iter().map(|(_, value)| maybe(value(line))).collect();
            (line.step as f64, format!("step {}: {} {}", line.step, panel.title, values.join(", ")))
        })
        .collect();
    chart.hover(&hover);
    let latest = steps.last().map_or(String::new(), |line| {
        panel
            .lines
            .iter()
            .map(|(_, value)| value(line).map_or(NONE.into(), panel.value))
            .collect::<Vec<_>>()
            .join(", ")
    });
    let caption = format!(
        "<b>{}</b> <small>{}</small><span class=\"last\">{}</span>",
        panel.title,
        panel.note,
        text(&latest)
    );
    figure(&caption, &chart.finish(&format!("{} by training step", panel.title)))
}

/// The imitation loss by mini-batch.
fn warm_start(data: &RunData) -> String {
    let Some(last) = data.warm_start.last() else { return String::new() };
    let losses: Vec<(f64, Option<f64>)> =
        data.warm_start.iter().map(|line| (line.batch as f64, line.update.loss)).collect();
    let y = Axis::around(losses.iter().filter_map(|(_, loss)| *loss), true, plain);
    let mut chart = Chart::new(320.0, 150.0, Axis::counting(1, last.batch), y);
    chart.line("second", &losses);
    let caption = format!(
        "<b>warm-start loss</b> <small>nats a token, by mini-batch</small><span class=\"last\">{}</span>",
        maybe(last.update.loss)
    );
    figure(&caption, &chart.finish("loss of the warm start by mini-batch"))
}

fn percent_of_few(share: f64) -> String {
    if share == 0.0 || share.abs() >= 0.1 { percent(share) } else { format!("{:.2}%", share * 100.0) }
}
