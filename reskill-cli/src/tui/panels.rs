//! The panels of the live view.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph, Sparkline, Wrap};
use reskill_skills::version_test::Beta;
use reskill_skills::{Arm, PosteriorSummary};

use super::view::{Point, View};
use crate::report::beta::central_interval;
use crate::report::format::{NONE, number, percent, short};
use crate::rollout::EpisodeState;

const SEEN: Color = Color::Blue;
const UNSEEN: Color = Color::LightRed;
const TRAIN: Color = Color::DarkGray;
const NEW: Color = Color::Magenta;

fn panel(title: Line<'_>) -> Block<'_> {
    Block::bordered().border_style(Style::new().dark_gray()).title(title)
}

/// Success of training, seen and unseen games by step.
pub(super) fn success(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let latest = |curve: &[Point]| curve.last().map_or(NONE.to_string(), |(_, share)| percent(*share));
    let title = Line::from(vec![
        " won: ".into(),
        format!("seen {} ", latest(&view.seen)).fg(SEEN),
        format!("unseen {} ", latest(&view.unseen)).fg(UNSEEN),
        format!("training {} ", latest(&view.train)).fg(TRAIN),
    ]);
    let end = view.plan.steps.max(view.step).max(1) as f64;
    let line = |points, color| {
        Dataset::default()
            .data(points)
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
    };
    let sets = vec![line(&view.train, TRAIN), line(&view.seen, SEEN), line(&view.unseen, UNSEEN)];
    let soft = Style::new().dark_gray();
    let x = Axis::default().style(soft).bounds([0.0, end]).labels(["0".to_string(), format!("step {end}")]);
    let y = Axis::default().style(soft).bounds([0.0, 1.0]).labels(["0%", "50%", "100%"]);
    let chart = Chart::new(sets).block(panel(title)).x_axis(x).y_axis(y);
    frame.render_widget(chart.legend_position(None), area);
}

/// Return, divergence, entropy and turns by step.
pub(super) fn policy(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let block = panel(Line::from(" policy "));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let rows: [Rect; 4] = Layout::vertical([Constraint::Fill(1); 4]).areas(inner);
    let series = [
        ("return", &view.returns),
        ("KL to ref.", &view.kl),
        ("entropy", &view.entropy),
        ("turns", &view.turns),
    ];
    for (row, (name, values)) in rows.into_iter().zip(series) {
        let [label, line] = Layout::horizontal([Constraint::Length(13), Constraint::Fill(1)]).areas(row);
        let last = values.last().map_or(NONE.to_string(), |value| number(*value));
        frame.render_widget(Paragraph::new(vec![Line::from(name).dark_gray(), Line::from(last)]), label);
        frame.render_widget(Sparkline::default().data(heights(values, line.width)).cyan(), line);
    }
}

/// The last `width` values between the lowest and the highest of them, in thousandths; the lowest is still seen.
fn heights(values: &[f64], width: u16) -> Vec<u64> {
    let shown = &values[values.len().saturating_sub(usize::from(width))..];
    let low = shown.iter().copied().fold(f64::INFINITY, f64::min);
    let high = shown.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let scale = |value: &f64| if high > low { (value - low) / (high - low) } else { 0.5 };
    shown.iter().map(|value| 125 + (875.0 * scale(value)) as u64).collect()
}

/// Every rollout that is played now, a group together.
pub(super) fn groups(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let Some(flight) = &view.flight else {
        frame.render_widget(Paragraph::new("none".dark_gray()).block(panel(" groups ".into())), area);
        return;
    };
    let of = |state: EpisodeState| flight.episodes.iter().filter(|(_, other)| *other == state).count();
    let title = Line::from(vec![
        format!(" groups, turn {}: ", flight.turn_idx + 1).into(),
        format!("{} playing ", of(EpisodeState::Running)).fg(Color::Cyan),
        format!("{} won ", of(EpisodeState::Won)).fg(Color::Green),
        format!("{} not ", of(EpisodeState::Ended)).fg(Color::Red),
    ]);
    let mut groups: Vec<(u64, Vec<Span<'_>>)> = Vec::new();
    for (group, state) in &flight.episodes {
        let mark = match state {
            EpisodeState::Running => "\u{b7}".fg(Color::Cyan),
            EpisodeState::Won => "\u{25cf}".fg(Color::Green),
            EpisodeState::Ended => "\u{d7}".fg(Color::Red),
        };
        match groups.last_mut() {
            Some((last, marks)) if last == group => marks.push(mark),
            _ => groups.push((*group, vec![mark])),
        }
    }
    let widest = groups.iter().map(|(_, marks)| marks.len()).max().unwrap_or(1);
    let columns = (usize::from(area.width.saturating_sub(2)) / (widest + 1)).max(1);
    let rows = usize::from(area.height.saturating_sub(2));
    let mut lines: Vec<Line<'_>> = groups
        .chunks(columns)
        .map(|row| row.iter().flat_map(|(_, marks)| marks.iter().cloned().chain([" ".into()])).collect())
        .collect();
    if lines.len() > rows {
        let hidden = groups.len().saturating_sub((rows - 1) * columns);
        lines.truncate(rows.saturating_sub(1));
        lines.push(Line::from(format!("and {hidden} more")).dark_gray());
    }
    frame.render_widget(Paragraph::new(lines).block(panel(title)), area);
}

/// The posteriors of the running version test.
pub(super) fn test(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let Some(test) = &view.test else {
        let block = panel(" version test ".into());
        frame.render_widget(Paragraph::new("none is running".dark_gray()).block(block), area);
        return;
    };
    let title = format!(" version test, since step {} ", test.started_step);
    let bars = arms(test, area.width.saturating_sub(24).max(6));
    let better = Line::from(vec![
        "P(new better) ".dark_gray(),
        format!("{:.2}", test.p_new_better).bold(),
        format!("  n = {}", test.n_episodes).dark_gray(),
    ]);
    let lines: Vec<Line<'_>> = bars.into_iter().chain([better]).collect();
    frame.render_widget(Paragraph::new(lines).block(panel(title.into())), area);
}

/// A line for every arm: its 90% band and its mean on one scale, the mean and the episodes in numbers.
fn arms(test: &PosteriorSummary, width: u16) -> Vec<Line<'static>> {
    let bands: Vec<(f64, f64)> = test
        .arms
        .iter()
        .map(|arm| central_interval(Beta { alpha: arm.alpha, beta: arm.beta }, 0.9))
        .collect();
    let low = bands.iter().map(|band| band.0).fold(1.0, f64::min);
    let high = bands.iter().map(|band| band.1).fold(0.0, f64::max).max(low + 1e-3);
    let at = |share: f64| ((share - low) / (high - low) * f64::from(width - 1)).round() as usize;
    test.arms
        .iter()
        .zip(&bands)
        .map(|(arm, band)| {
            let (from, to, mean) = (at(band.0), at(band.1), at(arm.mean));
            let bar: String = (0..usize::from(width))
                .map(|cell| match cell {
                    cell if cell == mean => '\u{25cf}',
                    cell if (from..=to).contains(&cell) => '\u{2501}',
                    _ => ' ',
                })
                .collect();
            let (name, color) = match arm.arm {
                Arm::Incumbent => ("old".to_string(), Color::Gray),
                Arm::Candidate(0) => ("new".to_string(), NEW),
                Arm::Candidate(index) => (format!("new {}", index + 1), NEW),
            };
            Line::from(vec![
                Span::raw(format!("{name:<6}")),
                bar.fg(color),
                Span::raw(format!(" {:>6}", percent(arm.mean))),
                format!(" {:>6}", arm.episodes).dark_gray(),
            ])
        })
        .collect()
}

/// The live skills.
pub(super) fn bank(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let names: &[String] = view.last.as_ref().map_or(&[], |line| &line.bank);
    let title = format!(" skills in the bank: {} ", names.len());
    let body = if names.is_empty() { "empty".dark_gray() } else { names.join(", ").into() };
    frame.render_widget(Paragraph::new(body).wrap(Wrap { trim: true }).block(panel(title.into())), area);
}

/// Tokens a second and seconds a step.
pub(super) fn speed(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let row = |name: &str, rate: Option<f64>, seconds: f64| {
        Line::from(vec![
            format!("{name:<8}").dark_gray(),
            format!("{:>8} tok/s", rate.map_or(NONE.to_string(), short)).into(),
            format!("{seconds:>7.1} s").dark_gray(),
        ])
    };
    let lines = view.last.as_ref().map_or_else(Vec::new, |line| {
        let time = &line.time;
        vec![
            row("rollout", time.rollout_tokens_per_second, time.rollout_seconds),
            row("update", time.update_tokens_per_second, time.update_seconds),
        ]
    });
    frame.render_widget(Paragraph::new(lines).block(panel(" last step ".into())), area);
}
