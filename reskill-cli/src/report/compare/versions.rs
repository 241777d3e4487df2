//! How many versions were tested and accepted in every run.

use reskill_skills::HistoryKind;

use crate::report::compare::arms::ArmRuns;
use crate::report::data::RunData;
use crate::report::format::NONE;
use crate::report::html::{breakable, table, text};
use crate::report::trials::trials;

/// A row for every run.
pub(super) fn section_body(arms: &[ArmRuns]) -> String {
    let rows: Vec<Vec<String>> =
        arms.iter().flat_map(|arm| arm.runs.iter().map(|run| row(arm, run))).collect();
    let head =
        ["run", "seed", "tested", "accepted", "rejected", "pruned", "creator failed", "skills at the end"];
    table("numbers words-last", &head, &rows)
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
