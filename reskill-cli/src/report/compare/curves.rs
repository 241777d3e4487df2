//! Learning curves of the arms: means over runs, with bands.

use std::collections::BTreeMap;

use reskill_envs::Split;

use crate::failure_modes::FailureMode;
use crate::metrics_lines::{OfStep, StepLine};
use crate::report::axis::Axis;
use crate::report::chart::Chart;
use crate::report::compare::arms::ArmRuns;
use crate::report::compare::spread::Spread;
use crate::report::data::{HELD_OUT, RunData};
use crate::report::failures::in_words;
use crate::report::format::{number, percent, plain, plain_percent};
use crate::report::html::{figure, text};

/// One number of every step, small.
struct Panel {
    title: &'static str,
    value: OfStep,
    is_share: bool,
}

const PANELS: [Panel; 6] = [
    Panel { title: "training success", value: |line| line.success, is_share: true },
    Panel { title: "return", value: |line| line.mean_return, is_share: false },
    Panel { title: "turns of an episode", value: |line| line.mean_turns, is_share: false },
    Panel { title: "KL to reference", value: |line| line.update.ref_kl, is_share: false },
    Panel { title: "entropy", value: |line| line.update.entropy, is_share: false },
    Panel { title: "live skills", value: |line| Some(line.bank.len() as f64), is_share: false },
];

/// Values by step, of every run that has one.
type BySteps = BTreeMap<u64, Vec<f64>>;

/// With more arms than this, bands would hide each other: each arm is then shown beside the baseline alone as well.
const BANDS: usize = 4;

/// Held-out success large, the rest small.
pub(super) fn section_body(arms: &[ArmRuns]) -> String {
    let all: Vec<&ArmRuns> = arms.iter().collect();
    let has_bands = arms.len() <= BANDS;
    let held_out: String = HELD_OUT
        .iter()
        .map(|(name, split)| {
            let chart = success_chart(&all, name, *split, (460.0, 290.0), has_bands);
            figure(&format!("<b>{name}</b> games won, by training step"), &chart)
        })
        .collect();
    let apart: String = match arms {
        [baseline, others @ ..] if !has_bands => others
            .iter()
            .map(|arm| {
                let chart =
                    success_chart(&[baseline, arm], "unseen", Split::ValidUnseen, (320.0, 200.0), true);
                let (ours, base) = (text(&arm.name), text(&baseline.name));
                figure(&format!("<b>{ours}</b> beside {base}, unseen games"), &chart)
            })
            .collect(),
        _ => String::new(),
    };
    let lines = || arms.iter().flat_map(|arm| &arm.runs).flat_map(|run| &run.steps);
    let is_known = |panel: &&Panel| lines().any(|line| (panel.value)(line).is_some_and(f64::is_finite));
    let panels: String = PANELS
        .iter()
        .filter(is_known)
        .map(|panel| {
            let chart = of_steps(arms, panel.title, panel.value, panel.is_share);
            figure(&format!("<b>{}</b> <small>mean over runs</small>", panel.title), &chart)
        })
        .collect();
    format!(
        "<div class=\"pair\">{held_out}</div>\n<div class=\"grid\">{apart}</div>\n<p class=\"quiet\">Lines are means over the runs of an arm. Bands: of three \
         runs or more the 95% interval of the mean over seeds (Student\u{2019}s), of two the range, of a single one \
         Wilson\u{2019}s interval over games. A step counts where every run of the arm was evaluated.</p>\n\
         <div class=\"grid\">{panels}</div>\n"
    )
}

/// Failure modes of training episodes, an arm a line.
pub(super) fn failures(arms: &[ArmRuns]) -> String {
    let panel = |mode: FailureMode| {
        let of = move |line: &StepLine| {
            let failed = line.failures.get(&mode)?;
            (line.episodes > 0).then(|| *failed as f64 / line.episodes as f64)
        };
        let chart = of_steps(arms, in_words(mode).0, of, true);
        figure(&format!("<b>{}</b>", in_words(mode).0), &chart)
    };
    let occurs = |mode: &FailureMode| {
        let mut steps = arms.iter().flat_map(|arm| &arm.runs).flat_map(|run| &run.steps);
        steps.any(|line| line.failures.get(mode).is_some_and(|failed| *failed > 0))
    };
    let modes: Vec<FailureMode> = FailureMode::ALL.into_iter().filter(occurs).collect();
    if modes.is_empty() {
        return String::new();
    }
    let panels: String = modes.into_iter().map(panel).collect();
    format!(
        "<div class=\"grid\">{panels}</div>\n<p class=\"quiet\">Shares of training episodes that failed in a way, means \
         over runs.</p>\n"
    )
}

fn success_chart(
    arms: &[&ArmRuns],
    name: &str,
    split: Split,
    (width, height): (f64, f64),
    has_bands: bool,
) -> String {
    let last = arms.iter().flat_map(|arm| &arm.runs).map(RunData::last_step).max().unwrap_or(1);
    let mut chart = Chart::new(width, height, Axis::counting(0, last), Axis::shares());
    for arm in arms {
        let mut by_step = BySteps::new();
        let mut of_games: BTreeMap<u64, [f64; 2]> = BTreeMap::new();
        for run in &arm.runs {
            let of_split = run.evaluations.iter().filter(|line| line.evaluation.split == split);
            // The last one at a step is the final one.
            let with_bank: BTreeMap<u64, _> = of_split
                .filter(|line| !line.phase.ends_with("bank_off"))
                .map(|line| (line.step, line.evaluation.overall))
                .collect();
            for (step, success) in with_bank {
                by_step.entry(step).or_default().push(success.rate);
                of_games.insert(step, success.interval);
            }
        }
        by_step.retain(|_, values| values.len() == arm.runs.len());
        let spreads: Vec<(u64, Spread)> =
            by_step.iter().filter_map(|(step, values)| Some((*step, Spread::of(values)?))).collect();
        let band: Vec<(f64, f64, f64)> = spreads
            .iter()
            .map(|(step, spread)| {
                let [low, high] = match spread.n {
                    1 => of_games[step],
                    2 => [spread.range.0, spread.range.1],
                    _ => spread.interval().unwrap_or([spread.mean, spread.mean]),
                };
                (*step as f64, low.max(0.0), high.min(1.0))
            })
            .collect();
        let line: Vec<(f64, Option<f64>)> =
            spreads.iter().map(|(step, spread)| (*step as f64, Some(spread.mean))).collect();
        if has_bands {
            chart.band(&arm.class, &band);
        }
        chart.line(&arm.class, &line);
        for ((step, spread), (_, low, high)) in spreads.iter().zip(&band) {
            let hover = format!(
                "{}, step {step}: {} ({} to {})",
                arm.name,
                percent(spread.mean),
                percent(*low),
                percent(*high)
            );
            chart.dot(&arm.class, (*step as f64, spread.mean), 3.0, &hover);
        }
    }
    chart.finish(&format!("share of {name} games won by training step, an arm a line"))
}

/// Means over the runs that have a step.
fn of_steps(
    arms: &[ArmRuns],
    title: &str,
    value: impl Fn(&StepLine) -> Option<f64>,
    is_share: bool,
) -> String {
    let lines: Vec<(&ArmRuns, Vec<(f64, f64)>)> = arms
        .iter()
        .map(|arm| {
            let mut by_step = BySteps::new();
            for line in arm.runs.iter().flat_map(|run| &run.steps) {
                by_step.entry(line.step).or_default().extend(value(line).filter(|value| value.is_finite()));
            }
            let means = by_step
                .iter()
                .filter_map(|(step, values)| Some((*step as f64, Spread::of(values)?.mean)))
                .collect();
            (arm, means)
        })
        .collect();
    let all = || lines.iter().flat_map(|(_, line)| line);
    let (first, last) =
        all().fold((f64::INFINITY, 0.0_f64), |(first, last), (step, _)| (first.min(*step), last.max(*step)));
    let first = if first.is_finite() { first } else { 0.0 };
    let label = if is_share { plain_percent } else { plain };
    let y = Axis::around(all().map(|(_, value)| *value), is_share, label);
    let mut chart = Chart::new(320.0, 150.0, Axis::counting(first as u64, last as u64), y);
    for (arm, line) in &lines {
        let line: Vec<(f64, Option<f64>)> = line.iter().map(|(step, value)| (*step, Some(*value))).collect();
        chart.line(&format!("main {}", arm.class), &line);
    }
    let mut by_step: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (arm, line) in &lines {
        for (step, value) in line {
            let value = if is_share { percent(*value) } else { number(*value) };
            by_step.entry(*step as u64).or_default().push(format!("{} {value}", arm.name));
        }
    }
    let hover: Vec<(f64, String)> = by_step
        .into_iter()
        .map(|(step, said)| (step as f64, format!("step {step}: {}", said.join("; "))))
        .collect();
    chart.hover(&hover);
    chart.finish(&format!("{title} by training step, an arm a line"))
}
