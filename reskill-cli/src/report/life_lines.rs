//! One row for every skill: from its proposal to where it stands now, and how often it was shown.

use reskill_skills::SkillId;

use crate::metrics_lines::StepLine;
use crate::report::axis::Axis;
use crate::report::data::RunData;
use crate::report::format::{NONE, counted, percent};
use crate::report::html::{badge, breakable, legend, text};
use crate::report::lives::{Life, Status, lives};
use crate::report::trials::trials;

/// Size of a row's drawing; the page stretches it to the width there is.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 22.0;
/// Height of the drawing of its use, below the bar.
const USE_HEIGHT: f64 = 18.0;

/// The rows, with the axis of steps above and below.
pub(super) fn section_body(data: &RunData) -> String {
    let trials = trials(&data.history, data.first_id);
    let lives = lives(&trials);
    if lives.is_empty() {
        return bank_without_history(data);
    }
    let x = Axis::counting(0, data.last_step());
    let rows: String = lives.iter().map(|life| row(life, &x, &data.steps)).collect();
    let mut entries = vec![
        ("swatch hatched", "under test"),
        ("swatch live", "in the bank"),
        ("swatch changed", "text changed"),
        ("swatch ended", "rejected or deleted"),
    ];
    if data.steps.iter().any(|line| !line.shown.is_empty()) {
        entries.push((
            "swatch use",
            "below: share of the step\u{2019}s episodes that it was shown in, 0 to 100%",
        ));
    }
    let legend = legend(&entries);
    let scale = scale(&x);
    format!("{legend}<div class=\"lives\">\n{scale}{rows}{scale}</div>\n")
}

/// A run whose bank never changed.
fn bank_without_history(data: &RunData) -> String {
    let names: Vec<String> = data
        .summary
        .iter()
        .flat_map(|summary| &summary.skills)
        .map(|name| format!("<code>{}</code>", text(name)))
        .collect();
    match (data.has_skills(), names.is_empty()) {
        (_, false) => format!("<p>The bank did not change. It holds {}.</p>", names.join(", ")),
        (true, true) => "<p class=\"quiet\">No skill was proposed.</p>".to_string(),
        (false, true) => "<p class=\"quiet\">The run has no skills.</p>".to_string(),
    }
}

fn row(life: &Life<'_>, x: &Axis, steps: &[StepLine]) -> String {
    let uses = uses(life, steps);
    let (name, when, what) = match life.content {
        Some(content) => {
            (content.name.clone(), content.trigger.to_string(), format!("\u{201c}{}\u{201d}", content.action))
        }
        None => (life.id.clone(), NONE.to_string(), String::new()),
    };
    format!(
        "<div class=\"life\"><div class=\"who\"><b>{}</b> <small>{}</small> {}<br><small><code>{}</code> {}{}</small></div>{}</div>\n",
        text(&name),
        text(&life.id),
        status(life),
        breakable(&when),
        text(&what),
        use_in_words(&uses),
        bar(life, x, &uses)
    )
}

/// Episodes in which the skill was shown, and all, of every step in which it was.
fn uses(life: &Life<'_>, steps: &[StepLine]) -> Vec<(u64, u64, u64)> {
    let id = SkillId(life.id.clone());
    let of = |line: &StepLine| Some((line.step, line.shown.get(&id)?.episodes, line.episodes));
    steps.iter().filter_map(of).filter(|(_, _, all)| *all > 0).collect()
}

fn use_in_words(uses: &[(u64, u64, u64)]) -> String {
    let (shown, all) = uses.iter().fold((0, 0), |(shown, all), (_, one, of)| (shown + one, all + of));
    if all == 0 {
        return String::new();
    }
    format!(
        " \u{b7} shown in {} of the episodes of {}",
        percent(shown as f64 / all as f64),
        counted(uses.len(), "step")
    )
}

/// The share of each step's episodes, as a column on the floor of the drawing.
fn use_columns(uses: &[(u64, u64, u64)], x: &Axis) -> String {
    let width = (WIDTH / (x.high - x.low).max(1.0) * 0.8).max(1.0);
    let floor = HEIGHT + USE_HEIGHT;
    uses.iter()
        .map(|(step, shown, all)| {
            let share = *shown as f64 / *all as f64;
            let (left, height) =
                (x.position(*step as f64) * WIDTH - width, (share * (USE_HEIGHT - 3.0)).max(0.6));
            format!(
                "<rect class=\"use\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\">\
                 <title>step {step}: shown in {shown} of {all} episodes</title></rect>",
                left.max(0.0),
                floor - height,
            )
        })
        .collect()
}

fn status(life: &Life<'_>) -> String {
    let since = |step: Option<u64>| step.map_or(String::new(), |step| format!(" at {step}"));
    match life.status {
        Status::Live => badge(
            "good",
            &format!("live{}", since(life.live.map(|(from, _)| from)).replace(" at ", " since ")),
        ),
        Status::UnderTest => badge("open", "under test"),
        Status::Rejected => badge("bad", &format!("rejected{}", since(life.rejected))),
        Status::Deleted => badge("bad", &format!("deleted{}", since(life.live.and_then(|(_, to)| to)))),
    }
}

/// The drawing of one life. A test of a change lies over the bar of the skill that it would change.
fn bar(life: &Life<'_>, x: &Axis, uses: &[(u64, u64, u64)]) -> String {
    let at = |step: u64| x.position(step as f64) * WIDTH;
    let until = |end: Option<u64>| end.map_or(WIDTH, at);
    let span = |class: &str, from: u64, to: Option<u64>, (y, height): (f64, f64), hover: &str| {
        // A test that was decided at once still has to be seen.
        let (left, width) = (at(from), (until(to) - at(from)).max(2.0));
        format!(
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{height}\"><title>{}</title></rect>",
            left.min(WIDTH - width),
            text(hover)
        )
    };
    let mut drawing: String = x
        .ticks
        .iter()
        .map(|tick| format!("<path class=\"grid\" d=\"M{:.1} 0V{HEIGHT}\"/>", x.position(*tick) * WIDTH))
        .collect();
    if let Some((from, to)) = life.live {
        let end = to.map_or("the end".to_string(), |to| format!("step {to}"));
        drawing.push_str(&span(
            "live",
            from,
            to,
            (4.0, 14.0),
            &format!("in the bank from step {from} to {end}"),
        ));
    }
    for (from, to) in &life.tests {
        let of_a_change = life.live.is_some_and(|(live, _)| *from >= live);
        let place = if of_a_change { (7.0, 8.0) } else { (4.0, 14.0) };
        let end = to.map_or("the end".to_string(), |to| format!("step {to}"));
        drawing.push_str(&span(
            "hatched",
            *from,
            *to,
            place,
            &format!("under test from step {from} to {end}"),
        ));
    }
    for step in &life.modified {
        drawing.push_str(&format!(
            "<path class=\"changed\" d=\"M{:.1} 1V{}\"><title>text changed at step {step}</title></path>",
            at(*step),
            HEIGHT - 1.0
        ));
    }
    let end = if life.status == Status::Deleted { life.live.and_then(|(_, to)| to) } else { life.rejected };
    if let Some(step) = end {
        let x = at(step).min(WIDTH - 1.5);
        drawing.push_str(&format!(
            "<path class=\"ended\" d=\"M{x:.1} 2V{}\"><title>ended at step {step}</title></path>",
            HEIGHT - 2.0
        ));
    }
    drawing.push_str(&use_columns(uses, x));
    let (class, height) = if uses.is_empty() { ("bar", HEIGHT) } else { ("bar used", HEIGHT + USE_HEIGHT) };
    format!(
        "<svg class=\"{class}\" viewBox=\"0 0 {WIDTH} {height}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"life of the skill by training step\">{drawing}</svg>"
    )
}

/// The labels of the steps: text of the page and not of the drawing, so that it is not stretched with it.
fn scale(x: &Axis) -> String {
    let labels: String = x
        .ticks
        .iter()
        .map(|tick| {
            format!("<span style=\"left:{:.2}%\">{}</span>", x.position(*tick) * 100.0, (x.label)(*tick))
        })
        .collect();
    format!(
        "<div class=\"life scale\"><div class=\"who\"><small>training step</small></div><div class=\"labels\">{labels}</div></div>\n"
    )
}
