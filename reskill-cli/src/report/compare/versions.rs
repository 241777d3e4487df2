//! What was tested and accepted in every run.

use reskill_skills::HistoryKind;

use crate::report::compare::arms::ArmRuns;
use crate::report::data::RunData;
use crate::report::format::{NONE, percent, short};
use crate::report::html::{breakable, table, text};
use crate::report::trials::{Trial, arms as of_decision, trials};

/// A row for every run, then every test of each.
pub(super) fn section_body(arms: &[ArmRuns]) -> String {
    let rows: Vec<Vec<String>> =
        arms.iter().flat_map(|arm| arm.runs.iter().map(|run| row(arm, run))).collect();
    let head =
        ["run", "seed", "tested", "accepted", "rejected", "pruned", "creator failed", "skills at the end"];
    let tests: String = arms.iter().flat_map(|arm| &arm.runs).map(tests_of).collect();
    table("numbers words-last", &head, &rows) + &tests
}

fn row(arm: &ArmRuns, run: &RunData) -> Vec<String> {
    let trials = trials(&run.history, run.first_id);
    let ended = |accepted: bool| trials.iter().filter(|trial| trial.accepted() == Some(accepted)).count();
    let of_kind =
        |kinds: &[HistoryKind]| run.history.iter().filter(|record| kinds.contains(&record.kind)).count();
    let bank = match (&run.summary, run.steps.last()) {
        (Some(summary), _) => summary.skills.clone(),
        (None, Some(line)) => line.bank.clone(),
        (None, None) => Vec::new(),
    };
    let bank: Vec<String> = bank.iter().map(|name| format!("<code>{}</code>", breakable(name))).collect();
    vec![
        format!("<i class=\"swatch c {}\"></i> {}", arm.class, text(&run.name)),
        run.config.seed.map_or(NONE.to_string(), |seed| seed.to_string()),
        trials.len().to_string(),
        ended(true).to_string(),
        ended(false).to_string(),
        of_kind(&[HistoryKind::Pruned]).to_string(),
        of_kind(&[HistoryKind::CreatorFailed, HistoryKind::CreatorMissed]).to_string(),
        if bank.is_empty() { NONE.to_string() } else { bank.join(", ") },
    ]
}

/// Every test of a run, to open.
fn tests_of(run: &RunData) -> String {
    let trials = trials(&run.history, run.first_id);
    if trials.is_empty() {
        return String::new();
    }
    let row = |trial: &Trial<'_>| {
        let arms = trial.decision().and_then(of_decision);
        let share = arms.map(|(old, new)| new.episodes as f64 / (old.episodes + new.episodes).max(1) as f64);
        let decision = trial.decision();
        vec![
            trial.ended().map_or(NONE.to_string(), |step| step.to_string()),
            text(&trial.title()).to_string(),
            trial.badge(),
            decision.map_or(NONE.to_string(), |decision| short(decision.n_episodes as f64)),
            share.map_or(NONE.to_string(), percent),
            decision.map_or(NONE.to_string(), |decision| format!("{:.3}", decision.p_new_better)),
        ]
    };
    let rows: Vec<Vec<String>> = trials.iter().map(row).collect();
    let head = ["step", "change", "verdict", "episodes", "on the new version", "P(new better)"];
    format!(
        "<details><summary><b>{}</b> <small>every test</small></summary>\n{}</details>\n",
        text(&run.name),
        table("numbers", &head, &rows)
    )
}
