//! One running episode in another program.

use std::sync::Arc;

use super::process::Process;
use super::protocol::{Plan, Request, Seen, Stepped};
use super::suite::Programs;
use crate::error::EnvError;
use crate::fault::Fault;
use crate::suite::{Observation, Step, Task, TextEnv};

/// An episode. It has a process to itself from its start to its end.
pub(super) struct ExternalEnv {
    task: Arc<Task>,
    programs: Arc<Programs>,
    process: Option<Process>,
    has_expert: bool,
}

impl ExternalEnv {
    pub(super) fn new(task: Arc<Task>, programs: Arc<Programs>, has_expert: bool) -> ExternalEnv {
        ExternalEnv { task, programs, process: None, has_expert }
    }

    /// Does something with the process; if that fails, the process is ended.
    fn with<T>(&mut self, act: impl FnOnce(&mut Process) -> Result<T, Fault>) -> Result<T, EnvError> {
        let Some(mut process) = self.process.take() else {
            let reason = "the episode was not begun, or was given up before".to_string();
            return Err(self.programs.error(Fault::Lost { request: "step".into(), reason }));
        };
        match act(&mut process) {
            Ok(value) => {
                self.process = Some(process);
                Ok(value)
            }
            Err(fault) => {
                self.programs.end(process);
                Err(self.programs.error(fault))
            }
        }
    }
}

impl TextEnv for ExternalEnv {
    fn reset(&mut self) -> Result<Observation, EnvError> {
        if self.process.is_none() {
            self.process = Some(self.programs.take()?);
        }
        let task = Arc::clone(&self.task);
        let seen: Seen = self.with(|process| process.ask(&Request::Reset { task: &task.id.0 }))?;
        Ok(seen.into())
    }

    fn step(&mut self, action: &str) -> Result<Step, EnvError> {
        self.with(|process| {
            let stepped: Stepped = process.ask(&Request::Step { action })?;
            stepped.step().map_err(|reason| Fault::Protocol { request: "step".into(), reason })
        })
    }

    fn expert(&mut self) -> Result<Vec<String>, EnvError> {
        if !self.has_expert {
            return Err(EnvError::Unsupported { what: "expert" });
        }
        let plan: Plan = self.with(|process| process.ask(&Request::Expert))?;
        Ok(plan.commands)
    }
}

impl Drop for ExternalEnv {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            self.programs.give_back(process);
        }
    }
}
