//! The numbers of an evaluation, for people.

use std::fmt::Write as _;

use super::measure::{Comparison, Measured};
use super::{Report, SplitReport};

/// The report as text.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    let drawn = if report.temperature == 0.0 {
        "the likeliest tokens".to_string()
    } else {
        format!("temperature {}", report.temperature)
    };
    let seeds = match report.seeds.as_slice() {
        [seed] => format!("seed {seed}"),
        [first, .., last] => format!("seeds {first} to {last}"),
        [] => String::new(),
    };
    line(&mut text, &format!("{}: {drawn}, {seeds}", report.run.display()));
    for split in &report.splits {
        of_split(&mut text, split);
    }
    text
}

fn of_split(text: &mut String, report: &SplitReport) {
    let label = |one: &Measured| one.families.keys().map(|name| name.chars().count() + 2).max().unwrap_or(0);
    let width = report.played.iter().map(|one| label(one).max(one.played.chars().count())).max().unwrap_or(0);
    let width = width.max(report.split.as_str().len()).max(20);
    line(text, "");
    line(
        text,
        &format!(
            "{:<width$}  {:>24}  {:>7}  {:>6}  {:>6}",
            report.split.as_str(),
            "success in %, 95%",
            "score",
            "turns",
            "games"
        ),
    );
    for one in &report.played {
        let numbers = format!("{:>7.3}  {:>6.1}  {:>6}", one.score.mean, one.mean_turns, one.success.n_games);
        line(text, &format!("{:<width$}  {:>24}  {numbers}", one.played, one.success.percent()));
        for (family, mean) in &one.families {
            let name = format!("  {family}");
            line(
                text,
                &format!("{name:<width$}  {:>24}  {:>7}  {:>6}  {:>6}", mean.percent(), "", "", mean.n_games),
            );
        }
        if one.faults > 0 {
            line(text, &format!("  {} episodes were lost by the environment and count nowhere", one.faults));
        }
    }
    for Comparison { of, against, success, .. } in &report.comparisons {
        line(
            text,
            &format!(
                "{of} minus {against}: {}, p = {}, on {} games",
                success.points(),
                p_value(success.p_value),
                success.mean.n_games
            ),
        );
    }
}

fn p_value(p: f64) -> String {
    if p < 0.001 { format!("{p:.1e}") } else { format!("{p:.3}") }
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{}", line.trim_end());
}
