//! The title, the result in a sentence, and the key figures.

use reskill_envs::Split;

use crate::evaluate::Evaluation;
use crate::report::data::RunData;
use crate::report::format::{NONE, bytes, count, counted, duration, median, percent, percent_range, short};
use crate::report::html::text;
use crate::report::trials::trials;

/// Title and result.
pub(super) fn header(data: &RunData) -> String {
    let environment = data.config.env.name.as_deref().unwrap_or("unknown environment");
    let seed = seed(data).map_or(String::new(), |seed| format!(" \u{b7} seed {seed}"));
    let notes: String = data
        .cut
        .iter()
        .map(|file| {
            format!("<p class=\"note\">The last line of {} was cut off and is left out.</p>\n", text(file))
        })
        .collect();
    format!(
        "<header>\n<p class=\"eyebrow\">run report \u{b7} {}{seed}</p>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n{notes}</header>\n",
        text(environment),
        text(&data.name),
        sentence(data)
    )
}

/// What came out, in one sentence; or how far the run came.
fn sentence(data: &RunData) -> String {
    let unseen = |phase: &str| data.evaluation(phase, "unseen", Split::ValidUnseen);
    let rate = |evaluation: &Evaluation| {
        let success = &evaluation.overall;
        format!("<b>{}</b> <small>({})</small>", percent(success.rate), percent_range(success.interval))
    };
    let before = unseen("warm_start").map(rate);
    let Some(last) = unseen("final") else {
        let planned = data.config.grpo.steps.map_or(String::new(), |steps| format!(" of {steps}"));
        let before =
            before.map_or(String::new(), |before| format!(" After the warm start {before} were won."));
        let during = unseen("during")
            .map_or(String::new(), |during| format!(" At the latest evaluation {} were won.", rate(during)));
        let games = if before.is_empty() && during.is_empty() {
            ""
        } else {
            " Success is on unseen games, with 95% intervals."
        };
        return format!(
            "The run has not reached its final evaluation: {} recorded{planned}.{before}{during}{games}",
            counted(data.steps.len(), "step")
        );
    };
    let games = count(last.overall.n_games);
    let began =
        if data.is_adaptation() { "with the bank that it began with" } else { "after the warm start" };
    let from = before.map_or("was".into(), |before| format!("went from {before} {began} to"));
    let off = unseen("final_bank_off").map_or(String::new(), |off| {
        let empty = data.summary.as_ref().is_some_and(|summary| summary.skills.is_empty());
        let bank = if empty { "the skill bank, which is empty" } else { "the skill bank" };
        format!(" with {bank}; without it, the same policy reaches {}", rate(off))
    });
    format!(
        "On {games} unseen games, success {from} {} at the end{off}. <small>In brackets: 95% intervals, in percent.</small>",
        rate(last)
    )
}

/// Time, memory, speed, versions.
pub(super) fn key_figures(data: &RunData) -> String {
    let seconds = data.summary.as_ref().map_or_else(
        || data.seconds_by_phase().iter().map(|(_, seconds)| seconds).sum(),
        |summary| summary.seconds,
    );
    let memory = data.summary.as_ref().map(|summary| summary.peak_rss_bytes).filter(|peak| *peak > 0);
    let steps = match data.config.grpo.steps {
        Some(planned) if planned != data.steps.len() as u64 => format!("{} of {planned}", data.steps.len()),
        _ => data.steps.len().to_string(),
    };
    let trials = trials(&data.history, data.first_id);
    let decided = |accepted: bool| trials.iter().filter(|trial| trial.accepted() == Some(accepted)).count();
    let speed = |values: Option<f64>| values.map_or(NONE.to_string(), |speed| format!("{}/s", short(speed)));
    let rollout = median(data.steps.iter().filter_map(|line| line.time.rollout_tokens_per_second));
    let update = median(data.steps.iter().filter_map(|line| line.time.update_tokens_per_second));
    let figures = [
        ("wall-clock time", duration(seconds)),
        ("peak memory", memory.map_or(NONE.to_string(), bytes)),
        ("training steps", steps),
        ("seed", seed(data).map_or(NONE.to_string(), |seed| seed.to_string())),
        ("versions accepted", decided(true).to_string()),
        ("versions rejected", decided(false).to_string()),
        ("tokens in rollout, median", speed(rollout)),
        ("tokens in update, median", speed(update)),
    ];
    let figures: String = figures
        .iter()
        .map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", text(value)))
        .collect();
    format!("<dl class=\"figures\">{figures}</dl>\n")
}

fn seed(data: &RunData) -> Option<u64> {
    data.summary.as_ref().map(|summary| summary.seed).or(data.config.seed)
}
