//! What the stages tell a model about the environment, the bank and the past: plain lines of text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use reskill_envs::ActionVocabulary;

use crate::assertion::{AssertionReport, AssertionSet};
use crate::bank::{Operation, SkillBank};
use crate::creator::verify::{VerifyConfig, VerifyScope, fires_in};
use crate::episode::{Rate, SkillEpisode, heed};
use crate::lifecycle::{HistoryKind, HistoryRecord};
use crate::skill::{Skill, SkillLimits, SkillStatus};

/// Versions that are told about.
const LAST_VERSIONS: usize = 5;
/// Kinds of command that are counted.
const MAX_ACTIONS: usize = 40;
const NONE: &str = "(none)";

/// `12 of 30 (40%)`.
pub(super) fn rate(rate: Rate) -> String {
    let percent = rate.value().map_or(String::new(), |share| format!(" ({:.0}%)", share * 100.0));
    format!("{} of {}{percent}", rate.hits, rate.total)
}

/// Successes of all episodes and of each kind of task.
pub(super) fn outcomes(episodes: &[SkillEpisode]) -> String {
    let mut families: BTreeMap<&str, Rate> = BTreeMap::new();
    let mut all = Rate::default();
    for played in episodes {
        let success = played.episode.is_success();
        all.add(success);
        families.entry(&played.episode.task.family).or_default().add(success);
    }
    let mut text = format!(
        "all: {} episodes succeeded (of those kept: at most one for each task, version and outcome, so rates are only \
         comparable with each other)\n",
        rate(all)
    );
    for (family, successes) in families {
        let _ = writeln!(text, "{family}: {}", rate(successes));
    }
    text
}

/// The command templates.
pub(super) fn vocabulary(vocabulary: &ActionVocabulary) -> String {
    let templates: Vec<&str> =
        vocabulary.templates.iter().map(|template| template.template.as_str()).collect();
    if templates.is_empty() { "(free text)".into() } else { templates.join("\n") }
}

/// How often commands of each kind were played, the most frequent first. Numbers of objects are left out.
pub(super) fn actions(episodes: &[SkillEpisode]) -> String {
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for played in episodes {
        let mut seen: Vec<String> = Vec::new();
        for action in played.episode.actions() {
            let kind = kind_of_command(action);
            let entry = counts.entry(kind.clone()).or_default();
            entry.0 += 1;
            if !seen.contains(&kind) {
                entry.1 += 1;
                seen.push(kind);
            }
        }
    }
    let n_kinds = counts.len();
    let mut counts: Vec<(String, (usize, usize))> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.0.cmp(&a.1.0).then_with(|| a.0.cmp(&b.0)));
    let mut text = String::new();
    for (kind, (n, n_episodes)) in counts.iter().take(MAX_ACTIONS) {
        let _ = writeln!(text, "{kind}: {n} times in {n_episodes} of {} episodes", episodes.len());
    }
    if n_kinds > MAX_ACTIONS {
        let _ = writeln!(text, "[{} rarer kinds left out]", n_kinds - MAX_ACTIONS);
    }
    if text.is_empty() { NONE.into() } else { text }
}

/// A command without the numbers of its objects, at most 80 characters: `take apple # from drawer #`.
fn kind_of_command(action: &str) -> String {
    let words = action
        .split_whitespace()
        .map(|word| if word.bytes().all(|b| b.is_ascii_digit()) { "#" } else { word });
    words.collect::<Vec<_>>().join(" ").chars().take(80).collect()
}

/// The skills, each in a line.
pub(super) fn skills(bank: &SkillBank) -> String {
    let lines: Vec<String> =
        bank.skills().iter().filter(|skill| skill.status == SkillStatus::Active).map(skill_line).collect();
    if lines.is_empty() { NONE.into() } else { lines.join("\n") }
}

/// `s0001 open-it [after /^go to/]: When it is closed. Open it.`
pub(super) fn skill_line(skill: &Skill) -> String {
    let content = &skill.content;
    format!("{} {} [{}]: {} {}", skill.id, content.name, content.trigger, content.when_to_use, content.action)
}

/// The skills with their ages, how often they fire and how well they are heeded.
pub(super) fn bank(
    bank: &SkillBank,
    episodes: &[SkillEpisode],
    step: u64,
    vocabulary: &ActionVocabulary,
) -> String {
    let heeded = heed(episodes, bank, vocabulary);
    let line = |skill: &Skill| {
        let mut fired = Rate::default();
        episodes.iter().for_each(|played| fired.add(fires_in(&skill.content.trigger, played)));
        let mut text = format!(
            "{}\n   age {}, version {}, fires in {} episodes",
            skill_line(skill),
            step.saturating_sub(skill.born_step),
            skill.version,
            rate(fired)
        );
        if skill.status == SkillStatus::Inactive {
            text.push_str(", inactive");
        }
        if let Some(heed) = heeded.get(&skill.id) {
            let _ = write!(
                text,
                "; followed on {} turns that showed it, on {} like turns without it",
                rate(heed.shown),
                rate(heed.unshown)
            );
        }
        text
    };
    let lines: Vec<String> = bank.skills().iter().map(line).collect();
    if lines.is_empty() { NONE.into() } else { lines.join("\n") }
}

/// Whether more skills fit.
pub(super) fn room(bank: &SkillBank, limits: &SkillLimits) -> String {
    let (n, max) = (bank.n_active(), limits.max_skills);
    if n >= max {
        format!("The bank is full ({n} of {max} skills): add one only together with a `delete`.")
    } else {
        format!("The bank has room: {n} of {max} skills.")
    }
}

/// Assertions with pass rates.
pub(super) fn assertions(set: &AssertionSet, report: &AssertionReport) -> String {
    let lines: Vec<String> = set
        .assertions()
        .iter()
        .zip(&report.rows)
        .map(|(assertion, row)| {
            let check = serde_json::to_string(&assertion.check).unwrap_or_default();
            format!(
                "{}: {} {check}\n   passed by {} successes, {} failures",
                row.name,
                assertion.description,
                rate(row.success),
                rate(row.failure)
            )
        })
        .collect();
    if lines.is_empty() { NONE.into() } else { lines.join("\n") }
}

/// The last versions that were decided on, and proposals that never came so far, the newest first.
pub(super) fn versions(history: &[HistoryRecord]) -> String {
    let told = [HistoryKind::Accepted, HistoryKind::Rejected, HistoryKind::Pruned, HistoryKind::Refused];
    let lines: Vec<String> = history
        .iter()
        .rev()
        .filter(|record| told.contains(&record.kind))
        .take(LAST_VERSIONS)
        .map(|record| {
            let changes: Vec<String> = record.operations.iter().map(operation).collect();
            let arms = record.decision.as_ref().map_or(String::new(), |decision| {
                let arms: Vec<String> = decision
                    .arms
                    .iter()
                    .map(|arm| {
                        format!("{} {}", arm.arm, rate(Rate { hits: arm.successes, total: arm.episodes }))
                    })
                    .collect();
                format!("; successes: {}", arms.join(", "))
            });
            format!(
                "step {}, {:?}: {}{arms}; {}",
                record.step,
                record.kind,
                changes.join("; "),
                record.reason
            )
        })
        .collect();
    if lines.is_empty() { NONE.into() } else { lines.join("\n") }
}

fn operation(operation: &Operation) -> String {
    match operation {
        Operation::Add(content) => format!("add {} [{}]: {}", content.name, content.trigger, content.action),
        Operation::Modify { id, content } => {
            format!("modify {id} {} [{}]: {}", content.name, content.trigger, content.action)
        }
        Operation::Delete { id } => format!("delete {id}"),
    }
}

/// Limits on a skill's text.
pub(super) fn limits(limits: &SkillLimits) -> String {
    format!(
        "`when_to_use` at most {} words, `action` at most {} words, `when_to_use`, `action` and example together at \
         most {} characters; no line breaks in the first two.",
        limits.when_to_use_words, limits.action_words, limits.total_chars
    )
}

/// What a trigger must reach.
pub(super) fn gate(config: &VerifyConfig) -> String {
    let percent = |share: f64| format!("{:.0}%", share * 100.0);
    let share = percent(config.min_rate);
    let scope = match config.scope {
        VerifyScope::All => format!("must fire in at least {share} of all recent episodes"),
        VerifyScope::Families => format!(
            "must fire in at least {share} of the recent episodes of one kind of task, and in {} of all",
            percent(config.min_overall)
        ),
    };
    format!("the trigger {scope}; the last command of an episode cannot fire anything.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_without_the_numbers_of_their_objects() {
        assert_eq!(kind_of_command("take apple 12 from  drawer 3"), "take apple # from drawer #");
    }

    #[test]
    fn rates_of_nothing_have_no_share() {
        assert_eq!(rate(Rate::default()), "0 of 0");
        assert_eq!(rate(Rate { hits: 1, total: 4 }), "1 of 4 (25%)");
    }
}
