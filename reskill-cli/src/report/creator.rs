//! What the creator wrote on the way to each proposal, and what went wrong.

use reskill_skills::assertion::{AssertionEdit, AssertionReport};
use reskill_skills::creator::artefacts::{
    Artefacts, Change, Diagnosis, Insight, Recommendation, VerifyReport,
};
use reskill_skills::{HistoryKind, HistoryRecord, Rate};

use crate::report::data::RunData;
use crate::report::format::{NONE, count, percent};
use crate::report::html::{breakable, table, text};
use crate::report::trials::{Trial, trials};

/// Failures first, then a fold-out for each proposal.
pub(super) fn section_body(data: &RunData) -> String {
    let trials = trials(&data.history, data.first_id);
    let mut body = failures(&data.history) + &calls(data);
    let folds: String = trials.iter().map(fold).collect();
    if body.is_empty() && folds.is_empty() {
        return "<p class=\"quiet\">The creator proposed nothing.</p>".to_string();
    }
    body.push_str(&folds);
    body
}

/// Records that a reader must not miss: a creator that failed, proposals that did not pass the gate.
fn failures(history: &[HistoryRecord]) -> String {
    let of = |kind: HistoryKind| history.iter().filter(move |record| record.kind == kind);
    let mut body = String::new();
    for (kind, title) in [
        (HistoryKind::CreatorFailed, "The creator failed"),
        (HistoryKind::CreatorMissed, "The creator's answer was late"),
        (HistoryKind::Refused, "Proposals that did not pass the gate"),
    ] {
        let items: String = of(kind)
            .map(|record| format!("<li>step {}: {}</li>\n", record.step, text(&record.reason)))
            .collect();
        if !items.is_empty() {
            let n = of(kind).count();
            body.push_str(&format!("<div class=\"failure\"><b>{title}: {n}</b><ul>\n{items}</ul></div>\n"));
        }
    }
    body
}

/// The ledger of a language model: of the whole run if it finished, else of the last step.
fn calls(data: &RunData) -> String {
    let summary = data.summary.as_ref().and_then(|summary| summary.creator.as_ref());
    let Some(cost) = summary.or_else(|| data.steps.last().and_then(|line| line.creator.as_ref())) else {
        return String::new();
    };
    let head = [
        "requests",
        "failed",
        "late",
        "calls",
        "retries",
        "sent back",
        "prompt tokens",
        "reply tokens",
        "price",
    ];
    let counts = [
        cost.requests,
        cost.failures,
        cost.misses,
        cost.calls,
        cost.retries,
        cost.corrections,
        cost.prompt_tokens,
        cost.completion_tokens,
    ];
    let mut row: Vec<String> = counts.into_iter().map(count).collect();
    row.push(cost.price.map_or(NONE.to_string(), |price| format!("{price:.2}")));
    let mut body = format!("<h4>Calls to the language model</h4>\n{}", table("numbers", &head, &[row]));
    if !cost.errors.is_empty() {
        let items: String = cost
            .errors
            .iter()
            .map(|(kind, n)| format!("<li>{}: {n}</li>\n", text(&kind.replace('_', " "))))
            .collect();
        body.push_str(&format!(
            "<div class=\"failure\"><b>Mishaps in calls, mended or not</b><ul>\n{items}</ul></div>\n"
        ));
    }
    body
}

fn fold(trial: &Trial<'_>) -> String {
    let Some(record) = trial.proposal else { return String::new() };
    let stages = record.artefacts.as_ref().map_or(String::new(), stages);
    format!(
        "<details><summary>step {} \u{b7} <b>{}</b> {}</summary>\n<p>{}</p>\n{stages}</details>\n",
        record.step,
        text(&trial.title()),
        trial.badge(),
        text(&record.reason),
    )
}

fn stages(artefacts: &Artefacts) -> String {
    [
        insights(&artefacts.insights),
        assertions(&artefacts.assertions),
        diagnosis(&artefacts.diagnosis, &artefacts.insights),
        recommendations(&artefacts.recommendations),
        verified(&artefacts.verified),
    ]
    .concat()
}

fn stage(name: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("<h4>{name}</h4>\n{body}") }
}

fn insights(insights: &[Insight]) -> String {
    let row = |(index, insight): (usize, &Insight)| {
        let failure = insight
            .failure_mode
            .as_deref()
            .map_or(String::new(), |mode| format!("<small>{}</small>", text(mode)));
        vec![
            index.to_string(),
            format!("{}{failure}", text(&insight.finding)),
            actions(&insight.failing_actions),
            actions(&insight.succeeding_actions),
            format!("{:.2}", insight.confidence),
            insight.evidence.as_ref().map_or(NONE.into(), |evidence| format!("{:.3}", evidence.gain)),
        ]
    };
    if insights.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = insights.iter().enumerate().map(row).collect();
    let head = ["", "finding", "a failing episode", "a succeeding one", "confi\u{ad}dence", "gain"];
    stage("Contrast", &table("words", &head, &rows))
}

fn actions(actions: &[String]) -> String {
    let actions: Vec<String> =
        actions.iter().map(|action| format!("<code>{}</code>", text(action))).collect();
    actions.join("<br>")
}

fn assertions(report: &AssertionReport) -> String {
    if report.rows.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = report
        .rows
        .iter()
        .map(|row| {
            vec![
                format!("<code>{}</code>", text(&row.name)),
                rate(row.success),
                rate(row.failure),
                row.discrimination.map_or(NONE.into(), |gap| format!("{gap:+.2}").replace('-', "\u{2212}")),
            ]
        })
        .collect();
    let head = ["assertion", "passed by successes", "passed by failures", "difference"];
    stage("Grade", &table("numbers", &head, &rows))
}

fn rate(rate: Rate) -> String {
    let share = rate.value().map_or(NONE.to_string(), percent);
    format!("{share}<small>{} of {}</small>", rate.hits, rate.total)
}

fn diagnosis(diagnosis: &Diagnosis, insights: &[Insight]) -> String {
    let mut body = String::new();
    if !diagnosis.summary.is_empty() {
        body.push_str(&format!("<p>{}</p>\n", text(&diagnosis.summary)));
    }
    for cluster in &diagnosis.clusters {
        let members: Vec<String> = cluster.insights.iter().map(usize::to_string).collect();
        let stands = insights.get(cluster.representative).map_or(String::new(), |insight| {
            format!(": {}", text(insight.failure_mode.as_deref().unwrap_or(&insight.finding)))
        });
        body.push_str(&format!(
            "<p>cluster <b>{}</b> of {} {}{stands}</p>\n",
            text(&cluster.name),
            if members.len() == 1 { "finding" } else { "findings" },
            members.join(", ")
        ));
    }
    let edit = |edit: &AssertionEdit| match edit {
        AssertionEdit::Add(put) | AssertionEdit::Modify(put) | AssertionEdit::Put(put) => {
            format!("<li>assertion <code>{}</code>: {}</li>\n", text(&put.name), text(&put.description))
        }
        AssertionEdit::Delete(name) | AssertionEdit::Remove(name) => {
            format!("<li>assertion <code>{}</code> removed</li>\n", text(name))
        }
    };
    if !diagnosis.assertion_edits.is_empty() {
        let edits: String = diagnosis.assertion_edits.iter().map(edit).collect();
        body.push_str(&format!("<ul>\n{edits}</ul>\n"));
    }
    stage("Diagnose", &body)
}

fn recommendations(recommendations: &[Recommendation]) -> String {
    let item = |advice: &Recommendation| {
        let change = match advice.change {
            Change::Add => "add",
            Change::Modify => "modify",
            Change::Delete => "delete",
        };
        let skill = advice.skill.as_ref().map_or(String::new(), |id| format!(" {}", text(&id.0)));
        format!(
            "<li><b>{change}{skill}</b>: {}<br><small>{}</small></li>\n",
            text(&advice.what),
            text(&advice.why)
        )
    };
    if recommendations.is_empty() {
        return String::new();
    }
    stage("Recommend", &format!("<ul>\n{}</ul>\n", recommendations.iter().map(item).collect::<String>()))
}

fn verified(reports: &[VerifyReport]) -> String {
    let one = |report: &VerifyReport| {
        let rows: Vec<Vec<String>> = std::iter::once(("<b>all episodes</b>".to_string(), report.fired))
            .chain(report.families.iter().map(|(family, fired)| (breakable(family), *fired)))
            .map(|(name, fired)| vec![name, rate(fired)])
            .collect();
        let problems: String = report
            .problems
            .iter()
            .map(|problem| format!("<p class=\"note\">{}</p>\n", text(problem)))
            .collect();
        let name = format!("<code>{}</code> would fire in", text(&report.skill));
        table("numbers", &[&name, "episodes"], &rows) + &problems
    };
    stage("Verify", &reports.iter().map(one).collect::<String>())
}
