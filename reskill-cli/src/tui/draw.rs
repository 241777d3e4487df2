//! The layout of the screen, its first and its last lines.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::panels;
use super::view::View;
use crate::report::format::duration;

/// Below this size only lines are shown.
const SMALLEST: (u16, u16) = (60, 20);

/// Draws everything. `elapsed` is the time since this process began with the run.
pub(super) fn screen(frame: &mut Frame<'_>, view: &mut View, elapsed: Duration) {
    let left = view.left(elapsed);
    let area = frame.area();
    let is_small = area.width < SMALLEST.0 || area.height < SMALLEST.1;
    let spare = area.height.saturating_sub(24);
    // A taller terminal gives half of its room to the lines.
    let log_height = if is_small { area.height.saturating_sub(3) } else { 1 + spare / 2 };
    let [title, phase, body, log, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Fill(1),
        Constraint::Length(log_height),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(title_line(view, elapsed, left), title);
    frame.render_widget(phase_line(view, phase.width), phase);
    if !is_small {
        body_panels(frame, view, body);
    }
    frame.render_widget(log_lines(view, log.height), log);
    frame.render_widget(key_line(view), keys);
}

fn body_panels(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Fill(1), Constraint::Length(6), Constraint::Length(4)]).areas(area);
    let halves = |area: Rect| -> [Rect; 2] {
        Layout::horizontal([Constraint::Fill(4), Constraint::Fill(3)]).areas(area)
    };
    let ([success, policy], [groups, test], [bank, speed]) = (halves(top), halves(middle), halves(bottom));
    panels::success(frame, view, success);
    panels::policy(frame, view, policy);
    panels::groups(frame, view, groups);
    panels::test(frame, view, test);
    panels::bank(frame, view, bank);
    panels::speed(frame, view, speed);
}

fn title_line(view: &View, elapsed: Duration, left: Option<Duration>) -> Paragraph<'_> {
    let seconds = elapsed.as_secs_f64();
    let left = left.map_or(String::new(), |left| format!(", about {} left", duration(left.as_secs_f64())));
    Paragraph::new(Line::from(vec![
        Span::styled(" ReSkill ", Style::new().bold().reversed()),
        Span::raw(format!(" {}  ", view.plan.name)),
        Span::styled(format!("step {} of {}", view.step, view.plan.steps), Style::new().bold()),
        Span::raw(format!("  {}{left}", duration(seconds))),
    ]))
}

fn phase_line(view: &View, width: u16) -> Paragraph<'_> {
    let phase = &view.phase;
    if phase.label.is_empty() {
        return Paragraph::new(" getting ready".dark_gray());
    }
    let (bar, count) = match phase.total {
        // How much there is to do is not known.
        0 => (String::new(), phase.done.to_string()),
        total => {
            let room = u64::from(width / 4);
            let filled = (room * phase.done.min(total)).div_ceil(total) as usize;
            let bar = format!("{}{} ", "\u{2501}".repeat(filled), "\u{2500}".repeat(room as usize - filled));
            (bar, format!("{}/{total}", phase.done))
        }
    };
    Paragraph::new(Line::from(vec![
        Span::raw(format!(" {:<11}", phase.label)),
        bar.cyan(),
        Span::raw(format!("{count}  ")),
        phase.message.as_str().dark_gray(),
    ]))
}

fn log_lines(view: &View, height: u16) -> Paragraph<'_> {
    let first = view.lines.len().saturating_sub(usize::from(height));
    let lines: Vec<Line<'_>> =
        view.lines.iter().skip(first).map(|line| Line::from(format!(" {line}")).dark_gray()).collect();
    Paragraph::new(lines)
}

fn key_line(view: &View) -> Paragraph<'_> {
    if view.is_stopping {
        return Paragraph::new(" stopping after this step, with a checkpoint; q again: at once".yellow());
    }
    Paragraph::new(Line::from(vec![
        " q".bold(),
        " or ".dark_gray(),
        "Ctrl-C".bold(),
        "  stop after this step, with a checkpoint; twice: at once".dark_gray(),
    ]))
}
