//! The report of a run: one self-contained HTML file for a person to read.
//!
//! `data` reads the files of the run, `trials` and `lives` put the history of the bank in order, and each section
//! of the page has a module that turns these into markup with `html` and `chart`. Nothing is computed here that
//! training depends on; a run that was stopped early, or had no skills, gives a shorter page. [`compare`] puts several
//! runs on one page. No page needs a network, and none has a script: what can be chosen is chosen by style sheets.

mod data;
mod trials;
mod lives;
pub(crate) mod beta;
mod intervals;
pub(crate) mod format;
mod html;
mod axis;
mod chart;
mod headline;
mod results;
mod curves;
mod version_tests;
mod posteriors;
mod life_lines;
mod failures;
mod optimisation;
mod cost;
mod creator;
mod browser;
pub mod compare;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Result;

use crate::report::data::RunData;
use crate::report::html::{section, text};
use crate::run_dir::{RunDir, write_atomically};

const STYLE: &str = include_str!("style.css");

/// What a page holds besides the run's own files.
#[derive(Debug, Clone)]
pub struct ReportOptions {
    /// Further files of episodes, as `eval --episodes` writes them.
    pub episodes: Vec<PathBuf>,
    /// Most episodes on the page; 0: all.
    pub max_episodes: usize,
}

impl Default for ReportOptions {
    fn default() -> Self {
        ReportOptions { episodes: Vec::new(), max_episodes: 60 }
    }
}

/// Writes `report.html` from the files of a run.
///
/// # Errors
/// If a file of the run holds something else than it should (the error names the file and the line), or the report
/// cannot be written. Files that are not there are no error.
pub fn write(run: &RunDir) -> Result<()> {
    write_atomically(&run.report(), render(run, &ReportOptions::default())?.as_bytes())
}

/// The page of a run.
///
/// # Errors
/// As [`write()`].
pub fn render(run: &RunDir, options: &ReportOptions) -> Result<String> {
    let data = RunData::read(run)?.with_episodes(run, &options.episodes)?;
    Ok(page(&data, options.max_episodes))
}

/// The whole page.
fn page(data: &RunData, max_episodes: usize) -> String {
    let browser = browser::Browser::of(data, max_episodes);
    let sections = [
        ("result", "Result", results::section_body(data)),
        ("curves", "Learning curves", curves::section_body(data)),
        ("tests", "Version tests", version_tests::section_body(data)),
        ("skills", "Life of the skills", life_lines::section_body(data)),
        ("failures", "Failures and assertions", failures::section_body(data)),
        ("optimisation", "Policy optimisation", optimisation::section_body(data)),
        ("cost", "Cost", cost::section_body(data)),
        ("creator", "What the creator wrote", creator::section_body(data)),
        ("episodes", "Episodes", browser.section_body()),
        ("configuration", "Configuration", configuration(data)),
    ];
    document(
        &format!("{} - run report", data.name),
        &browser.style(),
        &headline::header(data),
        &headline::key_figures(data),
        &sections,
    )
}

/// A page: header, key figures, sections with links to them.
fn document(
    title: &str,
    style: &str,
    header: &str,
    figures: &str,
    sections: &[(&str, &str, String)],
) -> String {
    let links: String =
        sections.iter().map(|(id, title, _)| format!("<a href=\"#{id}\">{title}</a> ")).collect();
    let body: String = sections.iter().map(|(id, title, body)| section(id, title, body)).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n\
         <style>\n{STYLE}{style}</style>\n</head>\n<body>\n{}\n{header}\n<main>\n{figures}<nav>{links}</nav>\n{body}</main>\n</body>\n</html>\n",
        text(title),
        chart::PATTERNS,
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
