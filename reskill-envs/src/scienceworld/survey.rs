//! Asks the simulator for its tasks, their splits and goals: how the table of tasks was made.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::config::ScienceWorldOptions;
use super::gateway::Gateway;
use super::pool::{Lease, Pool};
use super::tasks::TaskFamily;
use super::wire::Argument;
use crate::error::EnvError;
use crate::fault::Fault;

/// A simulator that is asked about its tasks.
#[derive(Debug)]
pub struct Survey {
    lease: Lease,
}

impl Survey {
    /// Starts a simulator.
    ///
    /// # Errors
    /// [`EnvError::Fault`] if it cannot be started.
    pub fn start(jar: &Path, options: &ScienceWorldOptions) -> Result<Survey, EnvError> {
        let pool = Arc::new(Pool::new(jar.to_path_buf(), options.clone()));
        Ok(Survey { lease: pool.borrow()? })
    }

    /// The names of all tasks.
    ///
    /// # Errors
    /// [`EnvError::Fault`].
    pub fn names(&mut self) -> Result<Vec<String>, EnvError> {
        self.lease.with(|gateway| gateway.list("getTaskNames"))
    }

    /// A task with the goals of all its variations, or of every `stride`-th one; the others are empty.
    ///
    /// # Errors
    /// [`EnvError::Fault`].
    pub fn family(&mut self, name: &str, stride: usize) -> Result<TaskFamily, EnvError> {
        self.lease.with(|gateway| {
            gateway.text("load", &load(name, 0))?;
            let [train, dev, test] = ["getVariationsTrain", "getVariationsDev", "getVariationsTest"]
                .map(|method| variations(gateway, method));
            let (train, dev, test) = (train?, dev?, test?);
            let n_variations = train.end.max(dev.end).max(test.end);
            let goals = (0..n_variations)
                .map(|variation| match variation % stride {
                    0 => {
                        // Variations are numbered far below 2^31.
                        gateway.text("load", &load(name, variation as i32))?;
                        gateway.text("getTaskDescription", &[])
                    }
                    _ => Ok(String::new()),
                })
                .collect::<Result<_, Fault>>()?;
            Ok(TaskFamily { name: name.to_string(), train, dev, test, goals })
        })
    }
}

fn load(name: &str, variation: i32) -> [Argument<'_>; 4] {
    [Argument::Text(name), Argument::Int(variation), Argument::Text("easy"), Argument::Bool(false)]
}

/// A list of variations, which is a range in all tasks.
fn variations(gateway: &mut Gateway, method: &str) -> Result<Range<usize>, Fault> {
    let printed = gateway.printed(method)?;
    let nonsense =
        || Fault::Protocol { request: method.into(), reason: format!("expected a range, got {printed}") };
    let inside = printed.trim_start_matches('[').trim_end_matches(']');
    let numbers: Vec<usize> =
        inside.split(", ").map(str::parse).collect::<Result<_, _>>().map_err(|_| nonsense())?;
    match (numbers.first(), numbers.last()) {
        (Some(&first), Some(&last)) if last + 1 - first == numbers.len() => Ok(first..last + 1),
        _ => Err(nonsense()),
    }
}
