//! Where words for people go: lines on stderr, nowhere, or the live view. stdout is for data.

use std::io::Write;
use std::sync::mpsc::Sender;
use std::sync::{PoisonError, RwLock};

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use crate::rollout::Flight;

/// What the process does with words for people.
#[derive(Debug)]
enum Output {
    /// Lines on stderr.
    Lines,
    /// Nothing but errors.
    Quiet,
    /// The live view takes them.
    Screen(Sender<Shown>),
}

/// One piece of news for the live view.
#[derive(Debug, Clone)]
pub enum Shown {
    /// A line.
    Line(String),
    /// A record of `metrics.jsonl`.
    Record(Box<Value>),
    /// How far a phase is.
    Progress {
        /// The phase.
        label: String,
        /// Done so far.
        done: u64,
        /// Of how many; 0 if that is not known.
        total: u64,
        /// More words.
        message: String,
    },
    /// The episodes of a rollout.
    Flight(Flight),
}

/// A process has one terminal, so this is one for the process.
static OUTPUT: RwLock<Output> = RwLock::new(Output::Lines);

fn set(output: Output) {
    *OUTPUT.write().unwrap_or_else(PoisonError::into_inner) = output;
}

/// From now on nothing but errors is printed.
pub fn be_quiet() {
    set(Output::Quiet);
}

/// From now on the live view gets everything.
pub fn attach_screen(screen: Sender<Shown>) {
    set(Output::Screen(screen));
}

/// From now on lines go to stderr again.
pub fn detach_screen() {
    set(Output::Lines);
}

/// Whether lines on stderr are wanted.
#[must_use]
pub fn prints_lines() -> bool {
    matches!(&*OUTPUT.read().unwrap_or_else(PoisonError::into_inner), Output::Lines)
}

/// Hands news to the live view, if there is one; `false` if there is none.
pub fn show(news: impl FnOnce() -> Shown) -> bool {
    match &*OUTPUT.read().unwrap_or_else(PoisonError::into_inner) {
        // A view that has ended reads nothing, and nobody misses it.
        Output::Screen(screen) => screen.send(news()).is_ok(),
        Output::Lines | Output::Quiet => false,
    }
}

/// A line for the person at the terminal.
pub fn print_line(line: &str) {
    let is_quiet = matches!(&*OUTPUT.read().unwrap_or_else(PoisonError::into_inner), Output::Quiet);
    // Of a view that broke down, the lines are still worth reading.
    if !is_quiet && !show(|| Shown::Line(line.to_string())) {
        print_error(line);
    }
}

/// A line that even a quiet process prints.
#[expect(clippy::print_stderr, reason = "the one place that writes to the terminal")]
pub fn print_error(line: &str) {
    eprintln!("{line}");
}

/// Writes data to standard output; `false` if nobody reads it any more.
///
/// # Errors
/// If it cannot be written for another reason.
pub fn print_data(data: &[u8]) -> std::io::Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the lines of `tracing`: to the live view if there is one, else to stderr.
#[derive(Debug, Clone, Copy)]
pub struct LogWriter;

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogWriter;

    fn make_writer(&'a self) -> LogWriter {
        LogWriter
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let line = || Shown::Line(String::from_utf8_lossy(bytes).trim_end().to_string());
        if !show(line) {
            std::io::stderr().write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
