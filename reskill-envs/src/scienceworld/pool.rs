//! Simulators to borrow: Java machines are started as episodes need them, and replaced when they fail.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::config::ScienceWorldOptions;
use super::gateway::Gateway;
use super::jvm::{Jvm, lock};
use crate::error::EnvError;
use crate::fault::Fault;

/// The Java machines of a suite.
#[derive(Debug)]
pub(super) struct Pool {
    jar: PathBuf,
    options: ScienceWorldOptions,
    state: Mutex<State>,
    /// A simulator came free, or may be started.
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    machines: Vec<Machine>,
    /// Simulators that nobody uses.
    idle: Vec<Simulator>,
}

#[derive(Debug)]
struct Machine {
    jvm: Arc<Jvm>,
    /// Simulators in it, in use or idle.
    n_simulators: usize,
}

/// One simulator with its connection.
#[derive(Debug)]
struct Simulator {
    gateway: Gateway,
    jvm: Arc<Jvm>,
}

/// A borrowed simulator; it goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Arc<Pool>,
    /// Absent once it failed.
    simulator: Option<Simulator>,
}

impl Pool {
    pub(super) fn new(jar: PathBuf, options: ScienceWorldOptions) -> Pool {
        // The machine runs in a folder of its own.
        let jar = std::path::absolute(&jar).unwrap_or(jar);
        Pool { jar, options, state: Mutex::default(), freed: Condvar::new() }
    }

    /// A simulator that nobody else uses: an idle one, a new one in a machine that has room, one in a new machine, or the
    /// next that comes free.
    pub(super) fn borrow(self: &Arc<Pool>) -> Result<Lease, EnvError> {
        let simulator = self.take().map_err(|fault| self.error(fault))?;
        Ok(Lease { pool: Arc::clone(self), simulator: Some(simulator) })
    }

    /// Process ids of the machines that run.
    pub(super) fn process_ids(&self) -> Vec<u32> {
        lock(&self.state).machines.iter().map(|machine| machine.jvm.id()).collect()
    }

    /// The fault as an error that names the program.
    fn error(&self, fault: Fault) -> EnvError {
        EnvError::Fault { program: self.jar.display().to_string(), fault }
    }

    fn take(&self) -> Result<Simulator, Fault> {
        let deadline = Instant::now() + self.options.start_timeout();
        let mut state = lock(&self.state);
        let jvm = loop {
            state.forget_ended();
            if let Some(simulator) = state.idle.pop() {
                return Ok(simulator);
            }
            let (room, n_machines) = (self.options.environments_per_jvm, state.machines.len());
            if let Some(machine) = state.machines.iter_mut().find(|machine| machine.n_simulators < room) {
                machine.n_simulators += 1;
                break Arc::clone(&machine.jvm);
            }
            if n_machines < self.options.jvms {
                // Others wait for it under the lock, instead of each starting one of its own.
                let jvm = Arc::new(Jvm::start(&self.jar, &self.options)?);
                state.machines.push(Machine { jvm: Arc::clone(&jvm), n_simulators: 1 });
                break jvm;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let n = self.options.max_running();
                let reason = format!("all {n} simulators are in use; raise `jvms` or `environments_per_jvm`");
                return Err(Fault::Start { reason });
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        drop(state);
        match jvm.open(self.options.start_timeout()) {
            Ok(gateway) => Ok(Simulator { gateway, jvm }),
            Err(fault) => {
                lock(&self.state).forget(&jvm);
                self.freed.notify_one();
                Err(fault)
            }
        }
    }
}

impl State {
    /// Forgets the machines whose process has ended.
    fn forget_ended(&mut self) {
        let jvms = self.machines.iter().map(|machine| Arc::clone(&machine.jvm));
        let ended: Vec<Arc<Jvm>> = jvms.filter(|jvm| !jvm.is_running()).collect();
        ended.iter().for_each(|jvm| self.forget(jvm));
    }

    /// Opens nothing in a machine any more: it ends with the last episode that still uses it.
    fn forget(&mut self, jvm: &Arc<Jvm>) {
        self.machines.retain(|machine| !Arc::ptr_eq(&machine.jvm, jvm));
        self.idle.retain(|simulator| !Arc::ptr_eq(&simulator.jvm, jvm));
    }
}

impl Lease {
    /// Does something with the simulator. If that fails, the machine takes no new episodes, and is ended at once if it
    /// does not answer at all; its other episodes go on if they can.
    pub(super) fn with<T>(
        &mut self,
        act: impl FnOnce(&mut Gateway) -> Result<T, Fault>,
    ) -> Result<T, EnvError> {
        let lost = || Fault::Lost { request: "step".into(), reason: "the simulator failed before".into() };
        let Some(simulator) = &mut self.simulator else { return Err(self.pool.error(lost())) };
        let fault = match act(&mut simulator.gateway) {
            Ok(value) => return Ok(value),
            Err(fault) => fault,
        };
        let jvm = Arc::clone(&simulator.jvm);
        self.simulator = None;
        let fault = match fault {
            Fault::Lost { request, reason } => {
                let is_well = jvm.is_well();
                let reason = if is_well { reason } else { jvm.obituary().unwrap_or(reason) };
                Fault::Lost { request, reason }
            }
            fault => fault,
        };
        lock(&self.pool.state).forget(&jvm);
        self.pool.freed.notify_one();
        if !jvm.is_well() {
            jvm.kill();
        }
        Err(self.pool.error(fault))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(simulator) = self.simulator.take() else { return };
        let mut state = lock(&self.pool.state);
        if state.machines.iter().any(|machine| Arc::ptr_eq(&machine.jvm, &simulator.jvm)) {
            state.idle.push(simulator);
            self.pool.freed.notify_one();
        }
    }
}
