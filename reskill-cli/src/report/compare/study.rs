//! The table of a study: success of every arm with intervals over seeds, differences to the baseline in pairs of seeds, costs.

use std::collections::BTreeMap;

use reskill_envs::Split;
use reskill_skills::Verdict;
use serde::Deserialize;

use crate::report::compare::along;
use crate::report::compare::arms::ArmRuns;
use crate::report::compare::cost;
use crate::report::compare::spread::Spread;
use crate::report::data::RunData;
use crate::report::format::{NONE, plain};
use crate::report::html::{table, text};
use crate::statistics::difference;
use crate::summary::VersionSummary;

/// The part of `eval --json` that is read here.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::report) struct BestCheckpoint {
    splits: Vec<BestSplit>,
}

#[derive(Debug, Clone, Deserialize)]
struct BestSplit {
    split: Split,
    played: Vec<BestPlayed>,
}

#[derive(Debug, Clone, Deserialize)]
struct BestPlayed {
    success: BestSuccess,
}

#[derive(Debug, Clone, Deserialize)]
struct BestSuccess {
    mean: f64,
}

impl BestCheckpoint {
    /// Success with the bank of that checkpoint: what is played first.
    fn success(&self, split: Split) -> Option<f64> {
        let of_split = self.splits.iter().find(|of_split| of_split.split == split)?;
        Some(of_split.played.first()?.success.mean)
    }
}

/// A column of success.
pub(super) type OfRun = fn(&RunData) -> Option<f64>;

const SUCCESS: [(&str, OfRun); 6] = [
    ("unseen: warm start", |run| Some(run.summary.as_ref()?.unseen.warm_start)),
    ("final", final_unseen),
    ("best validated", |run| run.best.as_ref()?.success(Split::ValidUnseen)),
    ("bank off", |run| run.summary.as_ref()?.unseen.final_bank_off),
    ("seen: final", |run| Some(run.summary.as_ref()?.seen.r#final)),
    ("best validated", |run| run.best.as_ref()?.success(Split::ValidSeen)),
];

fn final_unseen(run: &RunData) -> Option<f64> {
    Some(run.summary.as_ref()?.unseen.r#final)
}

fn best_unseen(run: &RunData) -> Option<f64> {
    run.best.as_ref()?.success(Split::ValidUnseen)
}

/// A difference to the baseline, run by run of the same seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Paired {
    pub(super) spread: Spread,
    pub(super) p_value: f64,
}

fn by_seed(arm: &ArmRuns, of: OfRun) -> BTreeMap<u64, f64> {
    arm.runs.iter().filter_map(|run| Some((run.config.seed?, of(run)?))).collect()
}

pub(super) fn paired(arm: &ArmRuns, baseline: &ArmRuns, of: OfRun) -> Option<Paired> {
    let theirs = by_seed(baseline, of);
    let differences: Vec<f64> =
        by_seed(arm, of).iter().filter_map(|(seed, value)| Some(value - theirs.get(seed)?)).collect();
    Some(Paired { spread: Spread::of(&differences)?, p_value: difference(&differences).p_value })
}

/// How many versions of an arm's runs were accepted, and how many rejected.
fn verdicts(arm: &ArmRuns) -> (usize, usize) {
    let versions =
        || arm.runs.iter().filter_map(|run| run.summary.as_ref()).flat_map(|summary| &summary.versions);
    let accepted = versions().filter(|version| version.verdict == Verdict::Accept).count();
    (accepted, versions().count() - accepted)
}

/// The head of the first table.
fn success_head() -> Vec<String> {
    ["arm", "runs"].into_iter().chain(SUCCESS.iter().map(|(title, _)| *title)).map(String::from).collect()
}

/// How well an arm did, `small` around what belongs to the number before.
fn success_row(arm: &ArmRuns, small: fn(&str) -> String) -> Vec<String> {
    let mut row = vec![arm.name.clone(), arm.runs.len().to_string()];
    row.extend(SUCCESS.iter().map(|(_, of)| success(&arm.values(of), small)));
    row
}

/// The head of the second table.
fn against_head() -> Vec<String> {
    let head = [
        "arm",
        "final: difference",
        "p",
        "best validated: difference",
        "p",
        "accepted / rejected",
        "context",
        "seconds",
        "creator calls",
    ];
    head.map(String::from).to_vec()
}

/// How far an arm is from the baseline, what became of its versions, and what it cost.
fn against_row(arm: &ArmRuns, baseline: &ArmRuns, small: fn(&str) -> String) -> Vec<String> {
    let mut row = vec![arm.name.clone()];
    for of in [final_unseen as OfRun, best_unseen] {
        row.extend(against(arm, baseline, of, small));
    }
    let (accepted, rejected) = verdicts(arm);
    row.push(format!("{accepted} / {rejected}"));
    for of in [cost::context_of_a_turn as OfRun, cost::seconds_of_a_step] {
        let mean = |arm: &ArmRuns| Spread::of(&arm.values(of)).map(|spread| spread.mean);
        let ratio =
            mean(arm).zip(mean(baseline)).filter(|(_, base)| *base > 0.0).map(|(ours, base)| ours / base);
        row.push(ratio.map_or(NONE.to_string(), |ratio| format!("\u{d7}{ratio:.2}")));
    }
    let calls = Spread::of(&arm.values(|run| cost::creator(run, |cost| cost.calls)));
    row.push(calls.map_or(NONE.to_string(), |calls| plain(calls.mean)));
    row
}

/// What came out, in a sentence.
pub(super) fn sentence(arms: &[ArmRuns]) -> String {
    let [baseline, others @ ..] = arms else { return String::new() };
    let Some(base) = Spread::of(&baseline.values(final_unseen)) else { return String::new() };
    let said: Vec<String> = others
        .iter()
        .filter_map(|arm| {
            let Paired { spread, p_value } = paired(arm, baseline, final_unseen)?;
            Some(format!("{} <b>{:+.1}</b> (p {p_value:.2})", text(&arm.name), spread.mean * 100.0))
        })
        .collect();
    format!(
        "On unseen games the baseline, {}, ends at <b>{:.1}%</b>. In pairs of seeds: {}.",
        text(&baseline.name),
        base.mean * 100.0,
        said.join(", ")
    )
}

/// A mean of shares in % with its interval.
fn success(values: &[f64], small: fn(&str) -> String) -> String {
    Spread::of(values).map_or(NONE.to_string(), |spread| {
        let interval = spread.interval().map(|bounds| bounds.map(|bound| bound.clamp(0.0, 1.0)));
        let interval = interval.map_or(String::new(), |[low, high]| small(&range(low, high)));
        format!("{:.1}{interval}", spread.mean * 100.0)
    })
}

/// The difference to the baseline with its interval, and its p-value.
fn against(arm: &ArmRuns, baseline: &ArmRuns, of: OfRun, small: fn(&str) -> String) -> [String; 2] {
    let is_baseline = std::ptr::eq(arm, baseline);
    match paired(arm, baseline, of).filter(|_| !is_baseline) {
        None => [NONE.to_string(), NONE.to_string()],
        Some(Paired { spread, p_value }) => {
            let interval = spread.interval().map_or(String::new(), |[low, high]| {
                small(&format!("{:+.1} to {:+.1}", low * 100.0, high * 100.0))
            });
            [format!("{:+.1}{interval}", spread.mean * 100.0), format!("{p_value:.3}")]
        }
    }
}

fn range(low: f64, high: f64) -> String {
    format!("{:.1} to {:.1}", low * 100.0, high * 100.0)
}

/// What the numbers are, in words.
const LEGEND: &str = "Success in % of held-out games, means over runs of an arm with 95% intervals over seeds (Student's t). \
Differences are those to the baseline on unseen games, means over the seeds that both have, in points, with the interval of paired differences and the p-value of \
a two-sided sign-flip test on them; nothing corrects for the number of arms. \"Best validated\" is the checkpoint with the highest success on \
the seen validation games, so it was chosen without a look at unseen games; on seen games its success is a little too high, as the \
validation games are among them. Context (tokens of a turn, prompt and reply) and seconds of a step (rollout, update, skills) are ratios to the baseline; accepted and rejected are versions of the bank.";

/// The tables in Markdown, with what they say about controls.
pub(super) fn markdown(arms: &[ArmRuns], title: &str, n_planned: usize) -> String {
    let Some(baseline) = arms.first() else { return String::new() };
    let n_runs: usize = arms.iter().map(|arm| arm.runs.len()).sum();
    let in_brackets: fn(&str) -> String = |inner| format!(" ({inner})");
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let table = |head: Vec<String>, rows: Vec<Vec<String>>| {
        let align: Vec<String> =
            (0..head.len()).map(|i| if i == 0 { "---".into() } else { "--:".into() }).collect();
        [line(&head), line(&align)].into_iter().chain(rows.iter().map(|row| line(row))).collect::<String>()
    };
    let mut text =
        format!("# {title}\n\n{n_runs} of {n_planned} runs; the baseline is `{}`.\n\n", baseline.name);
    text.push_str(&table(success_head(), arms.iter().map(|arm| success_row(arm, in_brackets)).collect()));
    text.push('\n');
    let against = arms.iter().map(|arm| against_row(arm, baseline, in_brackets)).collect();
    text.push_str(&table(against_head(), against));
    text.push_str(&format!("\n{LEGEND}\n"));
    let on_the_way: Vec<_> = arms.iter().filter_map(|arm| along::row(arm, baseline, in_brackets)).collect();
    if !on_the_way.is_empty() {
        text.push_str(&format!("\n{}\n{}\n", table(along::head(), on_the_way), along::LEGEND));
    }
    let controls: Vec<String> = arms.iter().filter(|arm| arm.is_control).map(control).collect();
    if !controls.is_empty() {
        text.push_str(&format!("\n{}\n", controls.join("\n")));
    }
    let notes: Vec<String> = arms
        .iter()
        .filter(|arm| !arm.note.is_empty())
        .map(|arm| format!("- `{}`: {}", arm.name, arm.note))
        .collect();
    if !notes.is_empty() {
        text.push_str(&format!("\n{}\n", notes.join("\n")));
    }
    text
}

/// What a negative control says.
fn control(arm: &ArmRuns) -> String {
    let versions =
        || arm.runs.iter().filter_map(|run| run.summary.as_ref()).flat_map(|summary| &summary.versions);
    let only_deletes =
        |version: &&VersionSummary| version.change.split("; ").all(|change| change.starts_with("delete "));
    let count = |deletes: bool| {
        let of_kind = || versions().filter(move |version| only_deletes(version) == deletes);
        let accepted = of_kind().filter(|version| version.verdict == Verdict::Accept).count();
        format!("{accepted} of {}", of_kind().count())
    };
    format!(
        "Negative control `{}`: the outcomes that version tests were shown were dealt anew inside each group, so that no version could be \
         better. {} versions with new guidance were accepted, and {} that only delete, which need only do as well.",
        arm.name,
        count(false),
        count(true)
    )
}

/// The section of the page.
pub(super) fn section_body(arms: &[ArmRuns]) -> String {
    let Some(baseline) = arms.first() else { return String::new() };
    let below: fn(&str) -> String = |inner| format!("<small>{inner}</small>");
    let marked = |arm: &ArmRuns, mut row: Vec<String>| {
        row[0] = format!("<i class=\"swatch c {}\"></i> {}", arm.class, text(&arm.name));
        row
    };
    let in_html = |head: Vec<String>, rows: Vec<Vec<String>>| {
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        format!("<div class=\"wide\">{}</div>", table("numbers study", &head, &rows))
    };
    let rows = arms.iter().map(|arm| marked(arm, success_row(arm, below))).collect();
    let against = arms.iter().map(|arm| marked(arm, against_row(arm, baseline, below))).collect();
    let on_the_way: Vec<Vec<String>> =
        arms.iter().filter_map(|arm| Some(marked(arm, along::row(arm, baseline, below)?))).collect();
    let on_the_way = match on_the_way.is_empty() {
        true => String::new(),
        false => {
            format!("{}<p class=\"quiet\">{}</p>", in_html(along::head(), on_the_way), text(along::LEGEND))
        }
    };
    let notes: String = arms
        .iter()
        .filter(|arm| !arm.note.is_empty())
        .map(|arm| format!("<li><b>{}</b>: {}</li>", text(&arm.name), text(&arm.note)))
        .collect();
    let controls: String = arms
        .iter()
        .filter(|arm| arm.is_control)
        .map(|arm| format!("<p>{}</p>", text(&control(arm))))
        .collect();
    format!(
        "{}{}<p class=\"quiet\">{}</p>\n{on_the_way}{controls}<ul>{notes}</ul>\n",
        in_html(success_head(), rows),
        in_html(against_head(), against),
        text(LEGEND)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64, unseen: f64) -> RunData {
        let mut data = RunData::default();
        data.config.seed = Some(seed);
        let split =
            serde_json::json!({"warm_start": 0.3, "final": unseen, "final_bank_off": null, "n_games": 100});
        let summary = serde_json::json!({
            "seen": split, "unseen": split, "versions": [], "seconds": 1.0, "peak_rss_bytes": 1, "seed": seed, "steps": 1,
            "skills": [], "seconds_by_phase": {}, "tokens_by_phase": {}, "evaluations": {}
        });
        data.summary = Some(serde_json::from_value(summary).unwrap());
        data
    }

    fn arm(name: &str, unseen: &[(u64, f64)]) -> ArmRuns {
        ArmRuns {
            name: name.into(),
            class: "a0".into(),
            note: String::new(),
            is_control: false,
            settings: BTreeMap::new(),
            runs: unseen.iter().map(|(seed, success)| run(*seed, *success)).collect(),
        }
    }

    #[test]
    fn differences_are_of_the_seeds_that_both_have() {
        let base = arm("off", &[(0, 0.5), (1, 0.6), (2, 0.9)]);
        let ours = arm("on", &[(1, 0.7), (0, 0.6), (5, 0.0)]);
        let paired = paired(&ours, &base, final_unseen).unwrap();
        assert_eq!(paired.spread.n, 2);
        assert!((paired.spread.mean - 0.1).abs() < 1e-12);
        // Both better: 2 of 4 sign patterns are as far from 0.
        assert_eq!(paired.p_value, 0.5);
    }

    #[test]
    fn the_table_has_a_row_for_each_arm_and_as_many_cells_everywhere() {
        let arms = [arm("off", &[(0, 0.5), (1, 0.6)]), arm("on", &[(0, 0.75), (1, 0.65)])];
        let text = markdown(&arms, "T", 4);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        assert_eq!(rows.len(), 8);
        for table in rows.chunks(4) {
            let cells: Vec<usize> = table.iter().map(|row| row.matches(" | ").count()).collect();
            assert!(cells.iter().all(|n| *n == cells[0]), "{cells:?}");
        }
        assert!(
            rows[2].starts_with("| off | 2 | 30.0 (30.0 to 30.0) | 55.0 (0.0 to 100.0) |"),
            "{}",
            rows[2]
        );
        // Differences 25 and 5: mean 15.
        assert!(rows[7].contains("| +15.0 (-112.1 to +142.1) | 0.500 |"), "{}", rows[7]);
        let said = sentence(&arms);
        assert!(said.contains("ends at <b>55.0%</b>") && said.contains("on <b>+15.0</b> (p 0.50)"), "{said}");
    }
}
