//! The live view of a run: curves, groups in flight, the running test, the bank, throughput. For terminals of 80x24 and up,
//! also over ssh.
//!
//! A thread draws; the trainer knows nothing of it and goes on as it would without. News comes through [`crate::output`].

mod view;
mod draw;
mod panels;

#[cfg(test)]
mod tests;

use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{EnterAlternateScreen, enable_raw_mode};

pub use self::view::Plan;
use self::view::View;
use crate::output::{Shown, attach_screen, detach_screen};

/// Time between two drawings.
const FRAME: Duration = Duration::from_millis(200);
/// Exit code of a person who does not wait for the checkpoint.
const AT_ONCE: i32 = 130;

/// The live view on its own thread.
#[derive(Debug)]
pub struct Screen {
    thread: JoinHandle<()>,
}

impl Screen {
    /// Takes the terminal; `None` if standard output is none. `metrics` holds what the run did before. `stop` is set when
    /// the person asks for it; asked again, the process ends at once.
    ///
    /// # Errors
    /// If the terminal cannot be put into its raw mode.
    pub fn start(plan: Plan, metrics: &Path, stop: Arc<AtomicBool>) -> Result<Option<Screen>> {
        if !stdout().is_terminal() {
            return Ok(None);
        }
        let mut view = View::new(plan);
        // Whatever cannot be read is not shown; the trainer will tell if it matters.
        for line in std::fs::read_to_string(metrics).unwrap_or_default().lines() {
            if let Ok(record) = serde_json::from_str(line) {
                view.update(Shown::Record(Box::new(record)));
            }
        }
        enable_raw_mode().context("--tui: the terminal cannot be taken")?;
        IS_TAKEN.store(true, Ordering::SeqCst);
        restore_on_panic();
        let mut terminal = take_terminal().inspect_err(|_| give_back())?;
        let (sender, news) = channel();
        attach_screen(sender);
        let thread = std::thread::spawn(move || {
            let end = watch(&mut terminal, &mut view, &news, &stop);
            give_back();
            if let Err(error) = end {
                tracing::warn!(%error, "the live view has ended; the run goes on");
            }
        });
        Ok(Some(Screen { thread }))
    }

    /// Gives the terminal back.
    pub fn finish(self) {
        // Without a sender the thread ends.
        detach_screen();
        // A thread that panicked has given the terminal back before it said so.
        let _ = self.thread.join();
    }
}

/// Puts the terminal into its usual state again, if a live view has it.
pub fn give_back() {
    if IS_TAKEN.swap(false, Ordering::SeqCst) {
        ratatui::restore();
    }
}

/// Whether the terminal is a live view's.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

type Stdout = Terminal<CrosstermBackend<std::io::Stdout>>;

fn take_terminal() -> Result<Stdout> {
    execute!(stdout(), EnterAlternateScreen).context("--tui: the terminal cannot be taken")?;
    Terminal::new(CrosstermBackend::new(stdout())).context("--tui: the terminal cannot be drawn on")
}

/// A panic in any thread is printed on a terminal in its usual state. The hook stays when the view has ended; it does
/// nothing then but what was done before.
fn restore_on_panic() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if IS_TAKEN.load(Ordering::SeqCst) {
            PANICKED.store(true, Ordering::SeqCst);
            // A drawing that has begun would come after the restoration.
            std::thread::sleep(FRAME / 2);
            give_back();
        }
        before(info);
    }));
}

/// Whether some thread has panicked: nothing is drawn any more.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// Draws until nobody sends news any more.
fn watch(
    terminal: &mut Stdout,
    view: &mut View,
    news: &Receiver<Shown>,
    stop: &AtomicBool,
) -> std::io::Result<()> {
    let begin = Instant::now();
    loop {
        loop {
            match news.try_recv() {
                Ok(shown) => view.update(shown),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        if PANICKED.load(Ordering::SeqCst) {
            return Ok(());
        }
        view.is_stopping = stop.load(Ordering::SeqCst);
        terminal.draw(|frame| draw::screen(frame, view, begin.elapsed()))?;
        let next = Instant::now() + FRAME;
        while event::poll(next.saturating_duration_since(Instant::now()))? {
            if let Event::Key(key) = event::read()?
                && asks_to_stop(key)
                && stop.swap(true, Ordering::SeqCst)
            {
                give_back();
                #[expect(clippy::exit, reason = "the person insists; the last checkpoint stays")]
                std::process::exit(AT_ONCE);
            }
        }
    }
}

fn asks_to_stop(key: KeyEvent) -> bool {
    let is_control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (key.code == KeyCode::Char('q') || is_control_c)
}
