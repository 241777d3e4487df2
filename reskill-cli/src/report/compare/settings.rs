//! The runs, and in what their configurations differ.

use crate::report::compare::arms::{ArmRuns, differing};
use crate::report::data::RunData;
use crate::report::format::{NONE, duration};
use crate::report::html::{breakable, table, text};

/// Settings by arm, then the runs.
pub(super) fn section_body(arms: &[ArmRuns]) -> String {
    let keys = differing(arms);
    let mut body = if keys.is_empty() {
        "<p>The configurations differ in the seed alone.</p>\n".to_string()
    } else {
        let row = |key: &String| {
            let values = arms.iter().map(|arm| {
                arm.settings
                    .get(key)
                    .map_or(NONE.to_string(), |value| format!("<code>{}</code>", text(value)))
            });
            std::iter::once(format!("<code>{}</code>", breakable(key))).chain(values).collect()
        };
        let names: Vec<String> = (1..=arms.len())
            .map(|n| if n == 1 { "arm 1, the baseline".into() } else { format!("arm {n}") })
            .collect();
        let head: Vec<&str> = std::iter::once("setting").chain(names.iter().map(String::as_str)).collect();
        table("settings", &head, &keys.iter().map(row).collect::<Vec<_>>())
    };
    let rows: Vec<Vec<String>> =
        arms.iter().flat_map(|arm| arm.runs.iter().map(|run| run_row(arm, run))).collect();
    body.push_str(&table("settings", &["run", "arm", "seed", "steps", "time", ""], &rows));
    body
}

fn run_row(arm: &ArmRuns, run: &RunData) -> Vec<String> {
    let steps = match run.config.grpo.steps {
        Some(planned) => format!("{} of {planned}", run.steps.len()),
        None => run.steps.len().to_string(),
    };
    vec![
        text(&run.name).to_string(),
        text(&arm.name).to_string(),
        run.config.seed.map_or(NONE.to_string(), |seed| seed.to_string()),
        steps,
        run.summary.as_ref().map_or(NONE.to_string(), |summary| duration(summary.seconds)),
        if run.summary.is_some() { "finished".into() } else { "not finished".into() },
    ]
}
