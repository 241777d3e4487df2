//! An audit for people.

use std::fmt::Write as _;

use reskill_skills::{Rate, Verdict};

use super::{BankAudit, SkillAudit, SplitAudit, VersionAudit};
use crate::statistics::Difference;

/// Width of a column of a difference with its interval.
const WIDE: usize = 24;

/// One split as text.
#[must_use]
pub fn render(audit: &SplitAudit) -> String {
    let mut text = String::new();
    let name = audit.reference.as_ref().map_or("", |reference| reference.name.as_str());
    let names = audit.skills.iter().map(|skill| skill.name.chars().count());
    let width = names.chain([name.chars().count(), 16]).max().unwrap_or(16);
    let mut line = |line: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    };
    line(format!("{}, {} games", audit.split, audit.n_games));
    line(format!("{:<width$}  {:>20}  {:>5}  failed", "bank", "success in %, 95%", "turns"));
    let all = format!("all {}", count(audit.skills.len()));
    line(of_bank(&all, &audit.all, width));
    line(of_bank("none", &audit.none, width));
    if let Some(reference) = &audit.reference {
        line(of_bank(&reference.name, &reference.bank, width));
    }
    line(format!("all minus none: {}", with_p(&audit.worth)));
    if let Some(reference) = &audit.reference {
        line(format!("{} minus all: {}", reference.name, with_p(&reference.room)));
    }
    line(format!(
        "{:.1}% of the games were won with at least one of the {} banks played here",
        audit.within_reach * 100.0,
        audit.n_banks
    ));
    if !audit.skills.is_empty() {
        line(String::new());
        line(format!(
            "{:<width$}  {:>5}  {:>6}  {:>10}  {:>WIDE$}  {:>6}  {:>WIDE$}  {:>6}",
            "skill", "shown", "heeded", "unprompted", "adds to the others", "p", "adds alone", "p"
        ));
        audit.skills.iter().for_each(|skill| line(of_skill(skill, width)));
    }
    if !audit.versions.is_empty() {
        line(String::new());
        line(format!(
            "{:>4}  {:<8}  {:>6}  {:>6}  {:>WIDE$}  {:>6}  version",
            "step", "verdict", "before", "after", "gain", "p"
        ));
        audit.versions.iter().for_each(|version| line(of_version(version)));
    }
    text
}

fn of_bank(name: &str, bank: &BankAudit, width: usize) -> String {
    let failed: Vec<String> = bank
        .failures
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(mode, count)| {
            format!("{} {}", mode.name().replace('_', " "), share(*count, bank.n_episodes as u64))
        })
        .collect();
    let lost = if bank.faults > 0 { format!("; {} episodes lost", bank.faults) } else { String::new() };
    format!(
        "{name:<width$}  {:>20}  {:>5.1}  {}{lost}",
        bank.success.percent(),
        bank.mean_turns,
        failed.join(", ")
    )
}

fn of_skill(skill: &SkillAudit, width: usize) -> String {
    let rate = |rate: Option<Rate>| rate.map_or("-".to_string(), |rate| share(rate.hits, rate.total));
    format!(
        "{:<width$}  {:>5}  {:>6}  {:>10}  {:>WIDE$}  {:>6}  {:>WIDE$}  {:>6}",
        skill.name,
        rate(Some(skill.shown_in)),
        rate(skill.heeded),
        rate(skill.unprompted),
        skill.adds.points(),
        p_value(skill.adds.p_value),
        skill.adds_alone.points(),
        p_value(skill.adds_alone.p_value),
    )
}

fn of_version(version: &VersionAudit) -> String {
    let verdict = if version.verdict == Verdict::Accept { "accepted" } else { "rejected" };
    format!(
        "{:>4}  {verdict:<8}  {:>6.1}  {:>6.1}  {:>WIDE$}  {:>6}  {}",
        version.step,
        version.before.mean * 100.0,
        version.after.mean * 100.0,
        version.gain.points(),
        p_value(version.gain.p_value),
        version.change
    )
}

fn count(n: usize) -> String {
    if n == 1 { "1 skill".to_string() } else { format!("{n} skills") }
}

fn share(hits: u64, total: u64) -> String {
    let rate = Rate { hits, total }.value();
    rate.map_or("-".to_string(), |rate| format!("{:.0}%", rate * 100.0))
}

fn with_p(difference: &Difference) -> String {
    format!("{}, p = {}", difference.points(), p_value(difference.p_value))
}

fn p_value(p: f64) -> String {
    if p < 0.001 { "<0.001".to_string() } else { format!("{p:.3}") }
}
