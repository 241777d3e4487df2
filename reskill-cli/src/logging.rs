//! The log of `tracing`, and whether lines for people are printed, as the flags of the command line ask.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::output::{LogWriter, be_quiet};

/// Once, before anything else. `verbose` counts how often the flag was given; a filter in `RESKILL_LOG` goes before both.
pub fn start_logging(quiet: bool, verbose: u8) {
    if quiet {
        be_quiet();
    }
    let level = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_env("RESKILL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // The end of a span tells how long its stage took.
    let spans = if verbose > 0 { FmtSpan::CLOSE } else { FmtSpan::NONE };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_span_events(spans);
    log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_writer(LogWriter).init();
}
