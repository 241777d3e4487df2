//! Success on held-out games: before, after, and without the bank.

use std::collections::BTreeSet;

use reskill_envs::Split;
use reskill_skills::Rate;

use crate::evaluate::{Evaluation, Success};
use crate::report::data::{HELD_OUT, RunData};
use crate::report::format::{NONE, count, percent, percent_range, points};
use crate::report::html::{breakable, legend, table};
use crate::report::intervals::difference;

/// The evaluations of one split that the result rests on.
struct Conditions<'a> {
    /// What the first one is.
    beginning: &'static str,
    warm_start: Option<&'a Evaluation>,
    last: Option<&'a Evaluation>,
    bank_off: Option<&'a Evaluation>,
}

/// What the run began with.
fn beginning(data: &RunData) -> &'static str {
    if data.is_adaptation() { "first bank" } else { "warm start" }
}

/// Tables of both splits.
pub(super) fn section_body(data: &RunData) -> String {
    let mut body = legend(&[
        ("swatch early", beginning(data)),
        ("swatch new", "final, with the bank"),
        ("swatch hollow", "final, bank off"),
    ]);
    let mut n_splits = 0;
    for (name, split) in HELD_OUT {
        let find = |phase: &str| data.evaluation(phase, name, split);
        let last = find("final").or_else(|| find("during"));
        let conditions = Conditions {
            beginning: beginning(data),
            warm_start: find("warm_start"),
            last,
            bank_off: find("final_bank_off"),
        };
        if conditions.warm_start.is_none() && last.is_none() {
            continue;
        }
        n_splits += 1;
        body.push_str(&heading(split));
        if find("final").is_none() && last.is_some() {
            body.push_str("<p class=\"note\">No final evaluation: the column \u{201c}final\u{201d} holds the latest one during training.</p>");
        }
        body.push_str(&split_table(&conditions));
        body.push_str(&effects(&conditions));
    }
    if n_splits == 0 {
        return "<p class=\"quiet\">No evaluation is recorded.</p>".to_string();
    }
    body + "<p class=\"quiet\">Every game is played once, with the same draws in each column. Small numbers are 95% \
            intervals in percent: Wilson\u{2019}s for rates, Newcombe\u{2019}s for differences, which ignore that the \
            games are shared and so are on the wide side.</p>\n"
}

fn heading(split: Split) -> String {
    match split {
        Split::ValidSeen => "<h3>Seen <small>held-out games like the training games</small></h3>\n".into(),
        Split::ValidUnseen => "<h3>Unseen <small>games in places never trained on</small></h3>\n".into(),
        other => format!("<h3>{other}</h3>\n"),
    }
}

/// One row for all games and one for each task family.
fn split_table(conditions: &Conditions<'_>) -> String {
    let Conditions { beginning, warm_start, last, bank_off } = *conditions;
    let present = || [warm_start, last, bank_off].into_iter().flatten();
    let families: BTreeSet<&String> = present().flat_map(|evaluation| evaluation.families.keys()).collect();
    let row = |name: String, pick: &dyn Fn(&Evaluation) -> Option<Success>| {
        let cells = [warm_start, last, bank_off].map(|evaluation| evaluation.and_then(pick));
        let games = cells.iter().flatten().map(|success| success.n_games).max();
        let mut row = vec![name, games.map_or(NONE.to_string(), count)];
        row.extend(cells.iter().map(|success| success.as_ref().map_or(NONE.to_string(), rate)));
        row.push(strip(&cells));
        row
    };
    let mut rows = vec![row("<b>all games</b>".into(), &|evaluation| Some(evaluation.overall))];
    for family in families {
        rows.push(row(breakable(family), &|evaluation| evaluation.families.get(family).copied()));
    }
    let turns = [warm_start, last, bank_off].map(|evaluation| {
        evaluation.map_or(NONE.to_string(), |evaluation| format!("{:.1}", evaluation.mean_turns))
    });
    let mut turns_row = vec!["mean turns".to_string(), String::new()];
    turns_row.extend(turns);
    turns_row.push(SCALE.to_string());
    rows.push(turns_row);
    let head = ["task family", "games", beginning, "final", "bank off", "success, 0 to 100%"];
    table("results", &head, &rows)
}

/// A rate with its interval below.
fn rate(success: &Success) -> String {
    format!("{}<small>{}</small>", percent(success.rate), percent_range(success.interval))
}

/// The labels below the strips.
const SCALE: &str = "<svg class=\"strip\" viewBox=\"0 0 220 14\" aria-hidden=\"true\">\
     <text class=\"x\" x=\"14\" y=\"11\">0</text><text class=\"x\" x=\"110\" y=\"11\">50</text>\
     <text class=\"x\" x=\"202\" y=\"11\">100%</text></svg>";

/// Up to three rates with their intervals, one below the other, on a scale from 0 to 1.
fn strip(cells: &[Option<Success>; 3]) -> String {
    let x = |share: f64| 10.0 + 200.0 * share.clamp(0.0, 1.0);
    let mut drawing: String = [0.0, 0.25, 0.5, 0.75, 1.0]
        .iter()
        .map(|share| format!("<path class=\"grid\" d=\"M{} 0V34\"/>", x(*share)))
        .collect();
    for (index, (success, class)) in cells.iter().zip(["early", "new", "hollow"]).enumerate() {
        let Some(success) = success else { continue };
        let y = 7 + 10 * index;
        let [low, high] = success.interval.map(x);
        drawing.push_str(&format!(
            "<path class=\"whisker {class}\" d=\"M{low:.1} {y}H{high:.1}\"/><circle class=\"dot {class}\" cx=\"{:.1}\" cy=\"{y}\" r=\"3.4\"/>",
            x(success.rate)
        ));
    }
    format!("<svg class=\"strip\" viewBox=\"0 0 220 34\" aria-hidden=\"true\">{drawing}</svg>")
}

/// What training and the bank are worth, and whether the policy follows the bank.
fn effects(conditions: &Conditions<'_>) -> String {
    let Conditions { beginning, warm_start, last, bank_off } = *conditions;
    let Some(last) = last else { return String::new() };
    let compare = |name: &str, other: Option<&Evaluation>| {
        other.map(|other| {
            let [low, high] = difference(&last.overall, &other.overall);
            let change = last.overall.rate - other.overall.rate;
            format!(
                "<li>{name}: <b>{}</b> points <small>({} to {})</small></li>\n",
                points(change),
                points(low),
                points(high)
            )
        })
    };
    let items = [
        compare(&format!("final against {}", beginning), warm_start),
        compare("what the bank adds at the end, final against bank off", bank_off),
        heed(last),
    ];
    format!("<ul class=\"effects\">\n{}</ul>\n", items.into_iter().flatten().collect::<String>())
}

/// How often guidance was followed, against how often the same was done unasked.
fn heed(evaluation: &Evaluation) -> Option<String> {
    let share = |rate: &Rate| {
        rate.value().map(|value| {
            format!(
                "<b>{}</b> <small>({} of {})</small>",
                percent(value),
                count(rate.hits),
                count(rate.total)
            )
        })
    };
    let heeded = share(&evaluation.heeded)?;
    let unprompted = evaluation.unprompted.as_ref().and_then(share).map_or(String::new(), |unprompted| {
        format!("; without the bank, the same was done in the same situation on {unprompted}")
    });
    Some(format!(
        "<li>heed rate: of the turns that showed guidance, the action followed it on {heeded}{unprompted}</li>\n"
    ))
}
