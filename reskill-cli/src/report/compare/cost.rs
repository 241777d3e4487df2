//! What the arms cost, as ratios to the baseline.

use crate::creators::CreatorSummary;
use crate::metrics_lines::StepLine;
use crate::report::compare::arms::ArmRuns;
use crate::report::compare::spread::Spread;
use crate::report::data::RunData;
use crate::report::format::{NONE, bytes, duration, number, plain, short};
use crate::report::html::{table, text};

/// One kind of cost.
struct Cost {
    title: &'static str,
    of: fn(&RunData) -> Option<f64>,
    written: fn(f64) -> String,
}

const COSTS: [Cost; 16] = [
    Cost { title: "context of a turn, tokens", of: context_of_a_turn, written: short },
    Cost {
        title: "sampled tokens of a turn",
        of: |run| per_turn(run, |line| line.tokens.generated),
        written: number,
    },
    Cost {
        title: "rollout tokens through the network, a step",
        of: |run| per_step(run, |line| line.tokens.run as f64),
        written: short,
    },
    Cost {
        title: "update tokens through the network, a step",
        of: |run| per_step(run, |line| line.update.packed_tokens as f64),
        written: short,
    },
    Cost {
        title: "turns of an episode",
        of: |run| mean(run.steps.iter().filter_map(|line| line.mean_turns)),
        written: number,
    },
    Cost {
        title: "rollout, seconds a step",
        of: |run| per_step(run, |line| line.time.rollout_seconds),
        written: number,
    },
    Cost {
        title: "update, seconds a step",
        of: |run| per_step(run, |line| line.time.update_seconds),
        written: number,
    },
    Cost {
        title: "skills, seconds a step",
        of: |run| per_step(run, |line| line.time.skills_seconds),
        written: number,
    },
    Cost { title: "warm start, in all", of: |run| phase(run, "warm_start"), written: duration },
    Cost { title: "evaluations, in all", of: |run| phase(run, "evaluation"), written: duration },
    Cost {
        title: "whole run",
        of: |run| run.summary.as_ref().map(|summary| summary.seconds),
        written: duration,
    },
    Cost {
        title: "peak memory",
        of: |run| run.summary.as_ref().map(|summary| summary.peak_rss_bytes as f64),
        written: |x| bytes(x as u64),
    },
    Cost { title: "creator, calls", of: |run| creator(run, |cost| cost.calls), written: plain },
    Cost {
        title: "creator, prompt tokens",
        of: |run| creator(run, |cost| cost.prompt_tokens),
        written: short,
    },
    Cost {
        title: "creator, reply tokens",
        of: |run| creator(run, |cost| cost.completion_tokens),
        written: short,
    },
    Cost { title: "creator, seconds", of: creator_seconds, written: duration },
];

/// A row for every kind of cost that any run has.
pub(super) fn section_body(arms: &[ArmRuns]) -> String {
    let rows: Vec<Vec<String>> = COSTS.iter().filter_map(|cost| row(cost, arms)).collect();
    if rows.is_empty() {
        return "<p class=\"quiet\">No cost is recorded.</p>".to_string();
    }
    let names: Vec<String> = arms.iter().map(|arm| text(&arm.name).to_string()).collect();
    let mut head = vec!["mean over runs"];
    head.extend(names.iter().map(String::as_str));
    head.push("ratio to the baseline: \u{bc} to 4 times");
    format!(
        "{}<p class=\"quiet\">In brackets: the ratio to the baseline, which is the first arm. Below: the lowest and the \
         highest run. The context of a turn is the whole prompt with its reply, whether or not it was encoded again. \
         Seconds compare only between runs of one machine.</p>\n",
        table("numbers costs", &head, &rows)
    )
}

fn row(cost: &Cost, arms: &[ArmRuns]) -> Option<Vec<String>> {
    let spreads: Vec<Option<Spread>> = arms.iter().map(|arm| Spread::of(&arm.values(cost.of))).collect();
    spreads.iter().flatten().next()?;
    let base = spreads.first().copied().flatten().filter(|spread| spread.mean > 0.0);
    let ratio = |spread: &Spread| base.map(|base| spread.mean / base.mean);
    let mut row = vec![cost.title.to_string()];
    for (index, spread) in spreads.iter().enumerate() {
        row.push(spread.map_or(NONE.to_string(), |spread| {
            let times = ratio(&spread).filter(|_| index > 0);
            let times = times.map_or(String::new(), |ratio| format!(" (\u{d7}{})", plain(ratio)));
            let range = match spread.n {
                1 => String::new(),
                _ => format!(
                    "<small>{} to {}</small>",
                    (cost.written)(spread.range.0),
                    (cost.written)(spread.range.1)
                ),
            };
            format!("{}{times}{range}", (cost.written)(spread.mean))
        }));
    }
    let dots: String = spreads
        .iter()
        .zip(arms)
        .filter_map(|(spread, arm)| Some((ratio(spread.as_ref()?)?, arm)))
        .map(|(ratio, arm)| {
            format!(
                "<circle class=\"dot ring {}\" cx=\"{:.1}\" cy=\"9\" r=\"4\"><title>{}: {} times</title></circle>",
                arm.class,
                x_of(ratio),
                text(&arm.name),
                plain(ratio)
            )
        })
        .collect();
    let grid: String = [0.25, 0.5, 1.0, 2.0, 4.0]
        .iter()
        .map(|ratio| format!("<path class=\"grid\" d=\"M{:.1} 0V18\"/>", x_of(*ratio)))
        .collect();
    row.push(format!("<svg class=\"strip\" viewBox=\"0 0 220 18\" role=\"img\" aria-label=\"ratios to the baseline\">{grid}{dots}</svg>"));
    Some(row)
}

/// A ratio between a quarter and four on a logarithmic scale; what lies beyond is put on the edge.
fn x_of(ratio: f64) -> f64 {
    110.0 + 50.0 * ratio.log2().clamp(-2.0, 2.0)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn per_step(run: &RunData, of: fn(&StepLine) -> f64) -> Option<f64> {
    mean(run.steps.iter().map(of))
}

fn per_turn(run: &RunData, of: fn(&StepLine) -> u64) -> Option<f64> {
    let tokens: u64 = run.steps.iter().map(of).sum();
    let turns: f64 = run.steps.iter().filter_map(|line| Some(line.episodes as f64 * line.mean_turns?)).sum();
    (turns > 0.0 && tokens > 0).then(|| tokens as f64 / turns)
}

pub(super) fn context_of_a_turn(run: &RunData) -> Option<f64> {
    per_turn(run, |line| line.tokens.without_reuse)
}

/// Rollout, update and skills, seconds a step.
pub(super) fn seconds_of_a_step(run: &RunData) -> Option<f64> {
    per_step(run, |line| line.time.rollout_seconds + line.time.update_seconds + line.time.skills_seconds)
}

fn phase(run: &RunData, name: &str) -> Option<f64> {
    run.seconds_by_phase().into_iter().find(|(phase, _)| phase == name).map(|(_, seconds)| seconds)
}

/// What a language model as creator did: of the whole run if it finished, else up to the last step.
pub(super) fn creator(run: &RunData, of: fn(&CreatorSummary) -> u64) -> Option<f64> {
    let summary = run.summary.as_ref().and_then(|summary| summary.creator.as_ref());
    let cost = summary.or_else(|| run.steps.last().and_then(|line| line.creator.as_ref()))?;
    Some(of(cost) as f64)
}

fn creator_seconds(run: &RunData) -> Option<f64> {
    run.steps.last().map(|line| line.time.creator_seconds).filter(|seconds| *seconds > 0.0)
}
