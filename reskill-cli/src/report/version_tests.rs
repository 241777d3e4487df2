//! The version tests: a table of decisions, with the course of each below.

use reskill_skills::version_test::{Claim, Rule};
use reskill_skills::{Decision, Operation, Verdict};

use crate::report::data::RunData;
use crate::report::format::{NONE, counted, percent, plain};
use crate::report::html::{breakable, table, text};
use crate::report::posteriors;
use crate::report::trials::{Trial, arms, trials};
use crate::summary::why;

/// Table and charts.
pub(super) fn section_body(data: &RunData) -> String {
    let trials = trials(&data.history, data.first_id);
    if trials.is_empty() {
        let why =
            if data.has_skills() { "No version of the bank was tested." } else { "The run has no skills." };
        return format!("<p class=\"quiet\">{why}</p>");
    }
    let rows: Vec<Vec<String>> = trials.iter().map(row).collect();
    let head = [
        "step",
        "change",
        "verdict",
        "rule",
        "episodes<br>old / new",
        "success<br>old / new",
        "P(new<br>better)",
        "z",
        "bound",
        "why",
    ];
    format!(
        "{}{}{}{}",
        by_chance(&trials),
        table("tests", &head, &rows),
        posteriors::courses(data, &trials),
        NOTES
    )
}

const NOTES: &str = "<p class=\"quiet\">The posterior steers how many episodes each version plays and may discount old \
    evidence; the rule decides. <i>Stratified</i> compares the versions inside each group of episodes of one task \
    (Cochran, Mantel and Haenszel): z is positive if the new version did better, and must pass the bound of that look, \
    which is set so that all looks together keep the level. <i>Posterior means</i> accepts the version with the higher \
    mean.</p>\n";

/// How many acceptances the level alone would lead one to expect.
fn by_chance(trials: &[Trial<'_>]) -> String {
    let better = |decision: &&Decision| decision.rule == Rule::Stratified && decision.claim == Claim::Better;
    let decisions: Vec<&Decision> = trials.iter().filter_map(Trial::decision).filter(better).collect();
    if decisions.is_empty() {
        return String::new();
    }
    let accepted = decisions.iter().filter(|decision| decision.verdict == Verdict::Accept).count();
    let by_chance: f64 = decisions.iter().filter_map(|decision| decision.level).sum();
    format!(
        "<p>{} of the claim \u{201c}better\u{201d}, each at its one-sided level: if no change had any effect, up to {} \
         would be accepted by chance, on average. Accepted: {accepted}.</p>\n",
        counted(decisions.len(), "decided test"),
        plain(by_chance),
    )
}

fn row(trial: &Trial<'_>) -> Vec<String> {
    let steps = match trial.ended() {
        Some(end) => format!("{}\u{2013}{end}", trial.started()),
        None => format!("{}\u{2013}", trial.started()),
    };
    let mut row = vec![steps, change(trial), trial.badge()];
    let Some(decision) = trial.decision() else {
        row.extend(std::iter::repeat_n(NONE.to_string(), 6));
        row.push(
            trial
                .end
                .map_or("still running when the records end".into(), |end| text(&end.reason).to_string()),
        );
        return row;
    };
    let pair = |f: &dyn Fn(u64, u64) -> String| {
        arms(decision).map_or(NONE.to_string(), |(old, new)| {
            format!("{} / {}", f(old.episodes, old.successes), f(new.episodes, new.successes))
        })
    };
    let share = |episodes: u64, successes: u64| {
        if episodes == 0 { NONE.to_string() } else { percent(successes as f64 / episodes as f64) }
    };
    row.extend([
        rule(decision),
        pair(&|episodes, _| episodes.to_string()),
        pair(&share),
        format!("{:.3}", decision.p_new_better),
        decision.z.map_or(NONE.into(), |z| format!("{z:+.2}").replace('-', "\u{2212}")),
        decision.bound.map_or(NONE.into(), |bound| format!("{bound:.2}")),
        why(decision).to_string(),
    ]);
    row
}

/// The operations: a name, and when it says what.
fn change(trial: &Trial<'_>) -> String {
    let one = |operation: &Operation| {
        operation.content().map_or(String::new(), |content| {
            format!(
                "<small><code>{}</code><br>\u{201c}{}\u{201d}</small>",
                breakable(&content.trigger.to_string()),
                text(&content.action)
            )
        })
    };
    let texts: String = trial.operations.iter().map(one).collect();
    format!("<b>{}</b>{texts}", text(&trial.title()))
}

fn rule(decision: &Decision) -> String {
    let rule = match decision.rule {
        Rule::Stratified => "stratified",
        Rule::Paper => "posterior means",
        Rule::AutoAccept => "accept at once",
    };
    let level =
        decision.level.map_or(String::new(), |level| format!("<small>level {}</small>", plain(level)));
    let claim = match decision.claim {
        Claim::Better => "",
        Claim::NotWorse => "<small>at least as good</small>",
    };
    format!("{rule}{level}{claim}")
}
