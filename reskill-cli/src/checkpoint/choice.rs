//! Which checkpoint of a run is meant: the value of `--from`.

use std::fmt;
use std::str::FromStr;

/// Which checkpoint of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CheckpointChoice {
    /// The newest; an error if it is damaged.
    #[default]
    Latest,
    /// The newest that is whole.
    LastGood,
    /// That with the best validation success.
    Best,
    /// That after this step; 0: after the warm start.
    Step(u64),
}

impl FromStr for CheckpointChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "latest" => Ok(CheckpointChoice::Latest),
            "last-good" => Ok(CheckpointChoice::LastGood),
            "best" => Ok(CheckpointChoice::Best),
            _ => text
                .parse()
                .map(CheckpointChoice::Step)
                .map_err(|_| "expected latest, last-good, best, or the number of a step".into()),
        }
    }
}

impl fmt::Display for CheckpointChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointChoice::Latest => f.write_str("latest"),
            CheckpointChoice::LastGood => f.write_str("last-good"),
            CheckpointChoice::Best => f.write_str("best"),
            CheckpointChoice::Step(step) => write!(f, "{step}"),
        }
    }
}
