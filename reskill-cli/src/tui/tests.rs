//! The screen at 80x24, from made-up news.

use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::json;

use super::*;
use crate::rollout::{EpisodeState, Flight};

/// What a terminal of this size shows.
fn screen(view: &mut View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::screen(frame, view, Duration::from_secs(95))).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y: u16| -> String { (0..width).map(|x| buffer[(x, y)].symbol()).collect() };
    (0..height).map(|y| row(y).trim_end().to_string() + "\n").collect()
}

fn record(record: serde_json::Value) -> Shown {
    Shown::Record(Box::new(record))
}

fn evaluation(step: u64, split: &str, won: u64) -> Shown {
    record(json!({
        "kind": "evaluation", "step": step, "phase": "during",
        "evaluation": {
            "split": split, "overall": crate::evaluate::Success::new(won, 100), "families": {}, "mean_turns": 9.0,
            "heeded": {"hits": 0, "total": 0}, "unprompted": null,
        },
    }))
}

fn arm(arm: serde_json::Value, alpha: f64, beta: f64) -> serde_json::Value {
    json!({"arm": arm, "episodes": alpha + beta - 2.0, "successes": alpha - 1.0, "alpha": alpha, "beta": beta,
           "mean": alpha / (alpha + beta)})
}

/// A run in the middle of its sixth step.
fn running() -> View {
    let mut view = View::new(Plan { name: "runs/one".into(), steps: 8 });
    view.update(Shown::Line("household: 40 training games\n".into()));
    view.update(evaluation(0, "valid_seen", 31));
    view.update(evaluation(0, "valid_unseen", 22));
    for step in 1..=5_u64 {
        let x = step as f64;
        let mut arms =
            [arm(json!("incumbent"), 8.0 * x, 12.0 * x), arm(json!({"candidate": 0}), 12.0 * x, 8.0 * x)];
        for arm in &mut arms {
            arm["episodes"] = json!(20 * step);
            arm["successes"] = json!(9 * step);
        }
        view.update(record(json!({
            "kind": "step", "step": step, "success": 0.3 + 0.08 * x, "mean_return": 0.3 + 0.08 * x, "episodes": 40,
            "mean_turns": 12.0 - x, "update": {"ref_kl": 0.01 * x * x, "entropy": 1.0 / x, "packed_tokens": 100},
            "posterior": {"started_step": 2, "n_steps": 1, "n_episodes": 40, "arms": arms, "p_new_better": 0.9666,
                          "retention": null},
            "bank": ["open-after-go-to", "start-after-put"],
            "time": {"rollout_seconds": 1.25, "update_seconds": 2.5, "rollout_tokens_per_second": 38_260.0,
                     "update_tokens_per_second": 12_300.0},
        })));
    }
    view.update(evaluation(5, "valid_seen", 64));
    view.update(evaluation(5, "valid_unseen", 57));
    view.update(Shown::Progress {
        label: "rollout".into(),
        done: 7,
        total: 16,
        message: "20 of 32 episodes running".into(),
    });
    let state = |index: u64| match index % 8 {
        0 | 3 => EpisodeState::Won,
        5 => EpisodeState::Ended,
        _ => EpisodeState::Running,
    };
    let episodes = (0..32).map(|index| (index / 8, state(index))).collect();
    view.update(Shown::Flight(Flight { turn_idx: 6, episodes }));
    view.update(Shown::Line("step   5/8  success 0.70".into()));
    view
}

#[test]
fn screen_of_80_by_24_shows_everything_at_once() {
    let got = screen(&mut running(), 80, 24);
    let expected = include_str!("screen-80x24.txt");
    assert_eq!(got, expected, "the screen is now:\n{got}");
}

#[test]
fn every_size_of_terminal_can_be_drawn_on() {
    for mut view in [View::new(Plan::default()), running()] {
        for (width, height) in [(1, 1), (20, 3), (59, 19), (60, 20), (80, 24), (200, 60)] {
            let got = screen(&mut view, width, height);
            assert_eq!(got.lines().count(), usize::from(height));
        }
    }
    // A small terminal shows lines instead of panels.
    let small = screen(&mut running(), 50, 12);
    assert!(small.contains("step   5/8  success 0.70") && !small.contains("groups"), "{small}");
}

#[test]
fn more_groups_than_fit_are_counted() {
    let mut view = running();
    let episodes = (0..8 * 64).map(|index| (index / 8, EpisodeState::Running)).collect();
    view.update(Shown::Flight(Flight { turn_idx: 0, episodes }));
    let got = screen(&mut view, 80, 24);
    // 43 columns hold 4 groups; of 4 rows, 3 show groups.
    assert!(got.contains("and 52 more"), "{got}");
}

#[test]
fn a_stop_that_was_asked_for_is_confirmed() {
    let mut view = running();
    view.is_stopping = true;
    assert!(screen(&mut view, 80, 24).contains("stopping after this step, with a checkpoint"));
}

#[test]
fn the_time_left_is_counted_from_the_first_step_of_this_process() {
    let mut view = running();
    let seconds = Duration::from_secs;
    // Five of eight steps are done; since which time is not known.
    assert_eq!(view.left(seconds(95)), None);
    view.update(record(json!({"kind": "step", "step": 6})));
    view.update(record(json!({"kind": "step", "step": 7})));
    assert_eq!(view.left(seconds(115)), Some(seconds(10)));
    view.update(record(json!({"kind": "step", "step": 8})));
    assert_eq!(view.left(seconds(125)), None);
}

#[test]
fn a_panic_in_any_thread_gives_the_terminal_back_and_ends_the_drawing() {
    IS_TAKEN.store(true, Ordering::SeqCst);
    restore_on_panic();
    let broken: JoinHandle<()> = std::thread::spawn(|| panic!("on purpose"));
    broken.join().unwrap_err();
    assert!(PANICKED.load(Ordering::SeqCst) && !IS_TAKEN.load(Ordering::SeqCst));
}

#[test]
fn q_and_control_c_ask_for_a_stop() {
    let key = |code, modifiers| KeyEvent::new(code, modifiers);
    assert!(asks_to_stop(key(KeyCode::Char('q'), KeyModifiers::NONE)));
    assert!(asks_to_stop(key(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    assert!(!asks_to_stop(key(KeyCode::Char('c'), KeyModifiers::NONE)));
}
