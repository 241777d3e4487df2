//! Progress for people: a bar with rate and time left on a terminal, plain lines elsewhere, or news for the live view.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::output::{Shown, prints_lines, show};
pub use crate::output::{print_data, print_line};

/// How often a plain line is printed at most.
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Progress of one phase.
pub struct Progress {
    label: String,
    total: u64,
    bar: Option<ProgressBar>,
    last_line: Instant,
    started: Instant,
    quiet: bool,
}

impl Progress {
    /// Progress towards `total`. `plain` prints lines for long phases when there is no terminal; short phases, whose
    /// result is printed anyway, pass `false`.
    #[must_use]
    pub fn new(label: &str, unit: &str, total: u64, plain: bool) -> Progress {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let bar = (is_terminal && prints_lines()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let template = format!(
                "{{prefix:>12}} [{{bar:30}}] {{pos}}/{{len}} {unit}  {{rate:>9}}  {{eta_precise}} left  {{msg}}"
            );
            if let Ok(style) = ProgressStyle::with_template(&template) {
                let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                    // A bar shows what it can: an error of the formatter leaves the rate out.
                    let _ = write!(out, "{:.1}/s", state.per_sec());
                };
                bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
            }
            bar.set_prefix(label.to_string());
            bar
        });
        let now = Instant::now();
        Progress { label: label.to_string(), total, bar, last_line: now, started: now, quiet: !plain }
    }

    /// Begins anew, towards another total.
    pub fn restart(&mut self, total: u64) {
        self.total = total;
        self.started = Instant::now();
        self.last_line = self.started;
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_length(total);
        }
    }

    /// `done` of the total are done.
    pub fn set(&mut self, done: u64, message: &str) {
        let news = || Shown::Progress {
            label: self.label.clone(),
            done,
            total: self.total,
            message: message.to_string(),
        };
        if show(news) {
            return;
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(message.to_string());
            return;
        }
        // A phase of less than ten seconds prints nothing: its result follows at once.
        let is_long = self.started.elapsed() >= PLAIN_EVERY;
        let is_due = self.last_line.elapsed() >= PLAIN_EVERY || (done == self.total && is_long);
        if self.quiet || !is_due {
            return;
        }
        self.last_line = Instant::now();
        let elapsed = self.started.elapsed().as_secs_f64();
        if self.total == 0 {
            // How much there is to do is not known.
            print_line(&format!("{:>12}  {done}  {elapsed:.0} s  {message}", self.label));
            return;
        }
        let left =
            if done == 0 { 0.0 } else { elapsed / done as f64 * (self.total - done.min(self.total)) as f64 };
        print_line(&format!(
            "{:>12}  {done}/{}  {elapsed:.0} s, {left:.0} s left  {message}",
            self.label, self.total
        ));
    }

    /// Ends the bar and leaves nothing behind.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A rate of tokens in few digits: `309`, `1.2k`, `81k`.
#[must_use]
pub fn short_rate(per_second: f64) -> String {
    match per_second {
        x if x < 999.5 => format!("{x:.0}"),
        x if x < 9950.0 => format!("{:.1}k", x / 1e3),
        x => format!("{:.0}k", x / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::short_rate;

    #[test]
    fn slow_models_have_a_rate_too() {
        let rates = [0.0, 83.4, 999.4, 999.6, 1234.0, 9949.0, 9950.0, 81_400.0];
        assert_eq!(rates.map(short_rate), ["0", "83", "999", "1.0k", "1.2k", "9.9k", "10k", "81k"]);
    }
}
