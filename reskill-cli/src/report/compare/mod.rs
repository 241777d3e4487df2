//! Several runs on one page. Runs whose configurations differ in the seed alone are one arm; the first run's arm is the
//! baseline that the others are measured against.

mod arms;
mod spread;
mod results;
mod curves;
mod versions;
mod cost;
mod settings;
mod study;
mod along;

#[cfg(test)]
mod tests;

use anyhow::{Result, bail};

use self::arms::{ArmRuns, group};
use crate::report::browser::Browser;
use crate::report::data::RunData;
use crate::report::format::counted;
use crate::report::html::{legend, text};
use crate::report::{ReportOptions, document, failures, life_lines, version_tests};
use crate::run_dir::RunDir;

pub(super) use self::study::BestCheckpoint;

/// An arm of a study.
#[derive(Debug, Clone)]
pub struct NamedArm {
    /// Its name.
    pub name: String,
    /// What it is, or nothing.
    pub note: String,
    /// Whether no version of the bank can be better in it.
    pub is_control: bool,
    /// Its configuration as TOML, as the study has it: files by the paths given there.
    pub settings: String,
    /// Its finished runs.
    pub runs: Vec<RunDir>,
}

/// What a study's report says about the study itself.
#[derive(Debug, Clone)]
pub struct StudyFacts {
    /// What is asked.
    pub title: String,
    /// Runs of the plan.
    pub n_planned: usize,
    /// Runs that are finished.
    pub n_runs: usize,
}

/// The table of a study in Markdown, and its page; the first arm is the baseline.
///
/// # Errors
/// If a file of a run cannot be read or holds something else than it should.
pub fn render_study(arms: &[NamedArm], facts: &StudyFacts) -> Result<(String, String)> {
    let read = |arm: &NamedArm| arm.runs.iter().map(RunData::read).collect::<Result<Vec<_>>>();
    let mut runs = Vec::new();
    for arm in arms {
        let mut of_arm = read(arm)?;
        of_arm.iter_mut().for_each(|run| run.name = format!("{} {}", arm.name, run.name));
        runs.push((arm, of_arm));
    }
    let arms = arms::named(runs);
    let sections = [
        ("table", "Table", study::section_body(&arms)),
        ("curves", "Learning curves", curves::section_body(&arms)),
        ("tests", "Version tests", versions::section_body(&arms)),
        ("failures", "Failures", curves::failures(&arms)),
        ("cost", "Cost", cost::section_body(&arms)),
        ("settings", "What differs", settings::section_body(&arms)),
    ];
    let header = format!(
        "<header>\n<p class=\"eyebrow\">study \u{b7} {} of {}</p>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n{}</header>\n",
        facts.n_runs,
        counted(facts.n_planned, "run"),
        text(&facts.title),
        study::sentence(&arms),
        names(&arms),
    );
    let page = document(&facts.title, "", &header, "", &sections);
    Ok((study::markdown(&arms, &facts.title, facts.n_planned), page))
}

/// The page of several runs, in the order in which they are given.
///
/// # Errors
/// If there are fewer than two runs, or a file of a run cannot be read or holds something else than it should.
pub fn render(runs: &[RunDir], options: &ReportOptions) -> Result<String> {
    if runs.len() < 2 {
        bail!("--compare: one run cannot be compared; give two or more");
    }
    let mut read = Vec::with_capacity(runs.len());
    for run in runs {
        let further: &[_] = if read.is_empty() { &options.episodes } else { &[] };
        read.push(RunData::read(run)?.with_episodes(run, further)?);
    }
    arms::tell_apart(&mut read);
    let played = all_episodes(&read);
    let arms = group(read);
    Ok(page(&arms, &played, options.max_episodes))
}

/// The episodes of all runs, each player with the name of its run.
fn all_episodes(runs: &[RunData]) -> RunData {
    let episodes = runs.iter().flat_map(|run| {
        run.episodes.iter().map(|line| {
            let mut line = line.clone();
            line.played = format!("{}: {}", run.name, line.played);
            line
        })
    });
    RunData { episodes: episodes.collect(), ..RunData::default() }
}

fn page(arms: &[ArmRuns], played: &RunData, max_episodes: usize) -> String {
    let browser = Browser::of(played, max_episodes);
    let sections = [
        ("result", "Result", results::section_body(arms)),
        ("curves", "Learning curves", curves::section_body(arms)),
        (
            "tests",
            "Version tests",
            versions::section_body(arms) + &of_each_run(arms, version_tests::section_body),
        ),
        ("skills", "Life of the skills", of_each_run(arms, life_lines::section_body)),
        (
            "failures",
            "Failures and assertions",
            curves::failures(arms) + &of_each_run(arms, failures::section_body),
        ),
        ("cost", "Cost", cost::section_body(arms)),
        ("episodes", "Episodes", browser.section_body()),
        ("settings", "What differs", settings::section_body(arms)),
    ];
    document("Comparison of runs", &browser.style(), &header(arms), "", &sections)
}

fn header(arms: &[ArmRuns]) -> String {
    let n_runs: usize = arms.iter().map(|arm| arm.runs.len()).sum();
    let environment =
        arms.first().and_then(|arm| arm.runs.first()).and_then(|run| run.config.env.name.clone());
    format!(
        "<header>\n<p class=\"eyebrow\">comparison \u{b7} {} \u{b7} {} in {}</p>\n<h1>{}</h1>\n<p class=\"lead\">{}</p>\n{}</header>\n",
        text(environment.as_deref().unwrap_or("unknown environment")),
        counted(n_runs, "run"),
        counted(arms.len(), "arm"),
        text(&arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>().join(" \u{b7} ")),
        results::sentence(arms),
        names(arms),
    )
}

/// The colours of the arms.
fn names(arms: &[ArmRuns]) -> String {
    let swatches: Vec<String> = arms.iter().map(|arm| format!("swatch c {}", arm.class)).collect();
    let labels: Vec<String> = arms
        .iter()
        .map(|arm| format!("{} <small>({})</small>", text(&arm.name), counted(arm.runs.len(), "run")))
        .collect();
    let entries: Vec<(&str, &str)> =
        swatches.iter().zip(&labels).map(|(swatch, label)| (swatch.as_str(), label.as_str())).collect();
    legend(&entries)
}

/// A section of the report of every single run, to open.
fn of_each_run(arms: &[ArmRuns], body: fn(&RunData) -> String) -> String {
    let one = |arm: &ArmRuns, run: &RunData| {
        format!(
            "<details><summary><b>{}</b> <small>{}</small></summary>\n{}</details>\n",
            text(&run.name),
            text(&arm.name),
            body(run)
        )
    };
    arms.iter().flat_map(|arm| arm.runs.iter().map(|run| one(arm, run))).collect()
}
