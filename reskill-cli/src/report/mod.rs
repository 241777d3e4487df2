//! The report of a run: one self-contained HTML file for a person to read.
//!
//! `data` reads the files of the run, `trials` and `lives` put the history of the bank in order, and each section
//! of the page has a module that turns these into markup with `html` and `chart`. Nothing is computed here that
//! training depends on; a run that was stopped early, or had no skills, gives a shorter page.

mod data;
mod metrics_lines;
mod trials;
mod lives;
mod beta;
mod intervals;
mod format;
mod html;
mod axis;
mod chart;
mod headline;
mod results;
mod curves;
mod version_tests;
mod posteriors;
mod life_lines;
mod optimisation;
mod cost;
mod creator;

#[cfg(test)]
mod tests;

use anyhow::Result;

use crate::report::data::RunData;
use crate::report::html::{section, text};
use crate::run_dir::{RunDir, write_atomically};

const STYLE: &str = include_str!("style.css");

/// Writes `report.html` from the files of a run.
///
/// # Errors
/// If a file of the run holds something else than it should (the error names the file and the line), or the report
/// cannot be written. Files that are not there are no error.
pub fn write(run: &RunDir) -> Result<()> {
    let data = RunData::read(run)?;
    write_atomically(&run.report(), page(&data).as_bytes())
}

/// The whole page.
fn page(data: &RunData) -> String {
    let sections = [
        ("result", "Result", results::section_body(data)),
        ("curves", "Learning curves", curves::section_body(data)),
        ("tests", "Version tests", version_tests::section_body(data)),
        ("skills", "Life of the skills", life_lines::section_body(data)),
        ("optimisation", "Policy optimisation", optimisation::section_body(data)),
        ("cost", "Cost", cost::section_body(data)),
        ("creator", "What the creator wrote", creator::section_body(data)),
        ("configuration", "Configuration", configuration(data)),
    ];
    let links: String =
        sections.iter().map(|(id, title, _)| format!("<a href=\"#{id}\">{title}</a> ")).collect();
    let body: String = sections.iter().map(|(id, title, body)| section(id, title, body)).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{} - run report</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n{}{}\n<main>\n{}<nav>{links}</nav>\n{body}</main>\n</body>\n</html>\n",
        text(&data.name),
        chart::PATTERNS,
        headline::header(data),
        headline::key_figures(data),
    )
}

/// The resolved configuration, as it was written.
fn configuration(data: &RunData) -> String {
    match &data.config_text {
        Some(toml) => format!(
            "<details><summary>config.toml, with every default filled in</summary><pre>{}</pre></details>",
            text(toml)
        ),
        None => "<p class=\"quiet\">The run has no config.toml.</p>".to_string(),
    }
}
