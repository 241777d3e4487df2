//! Another program as a suite of tasks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::config::ExternalOptions;
use super::env::ExternalEnv;
use super::process::Process;
use super::protocol::Hello;
use crate::action::{ActionTemplate, ActionVocabulary};
use crate::error::EnvError;
use crate::fault::Fault;
use crate::prompt::Manner;
use crate::suite::{Split, Suite, Task, TaskId, TextEnv};

/// The tasks of a program.
#[derive(Debug)]
pub struct External {
    name: String,
    tasks: HashMap<Split, Vec<Arc<Task>>>,
    by_id: HashMap<TaskId, Arc<Task>>,
    vocabulary: ActionVocabulary,
    has_expert: bool,
    full_score: f32,
    instructions: Option<String>,
    programs: Arc<Programs>,
}

/// The processes of a suite.
#[derive(Debug)]
pub(super) struct Programs {
    options: ExternalOptions,
    state: Mutex<State>,
    /// A process came free, or may be started.
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Process>,
    /// Processes, in use or idle.
    n_processes: usize,
}

impl External {
    /// Starts the command and asks it for its tasks.
    ///
    /// # Errors
    /// [`EnvError::Config`]; [`EnvError::Fault`] if it cannot be started or does not say what it has.
    pub fn start(options: &ExternalOptions) -> Result<External, EnvError> {
        options.validate()?;
        let programs =
            Arc::new(Programs { options: options.clone(), state: Mutex::default(), freed: Condvar::new() });
        let (process, hello) = Process::start(options).map_err(|fault| programs.error(fault))?;
        programs.lock().n_processes = 1;
        programs.give_back(process);
        let nonsense = |reason: String| Fault::Protocol { request: "hello".into(), reason };
        External::new(hello, &programs).map_err(|reason| programs.error(nonsense(reason)))
    }

    fn new(hello: Hello, programs: &Arc<Programs>) -> Result<External, String> {
        let Hello { name, tasks: listed, vocabulary, expert, full_score, instructions, .. } = hello;
        let (mut tasks, mut by_id): (HashMap<Split, Vec<Arc<Task>>>, HashMap<_, _>) = Default::default();
        for task in listed {
            let id = TaskId(task.id);
            let task = Task { id: id.clone(), split: task.split, family: task.family, goal: task.goal };
            let task = Arc::new(task);
            if by_id.insert(id, Arc::clone(&task)).is_some() {
                return Err(format!("two tasks have the id `{}`", task.id));
            }
            tasks.entry(task.split).or_default().push(task);
        }
        let mut seen = HashSet::new();
        if let Some(odd) = vocabulary.iter().find(|template| {
            template.starts_with('{') || template.trim().is_empty() || !seen.insert(template.as_str())
        }) {
            return Err(format!(
                "`{odd}` in the vocabulary; expected each kind of command once, with its verb first"
            ));
        }
        if !(full_score.is_finite() && full_score > 0.0) {
            return Err(format!("a full score of {full_score}, expected a number above 0"));
        }
        let template = |template: String| {
            let name = template.split('{').next().unwrap_or_default().trim().to_string();
            ActionTemplate { name, template }
        };
        Ok(External {
            name,
            tasks,
            by_id,
            vocabulary: ActionVocabulary { templates: vocabulary.into_iter().map(template).collect() },
            has_expert: expert,
            full_score,
            instructions,
            programs: Arc::clone(programs),
        })
    }

    /// Process ids of the processes that nobody plays on now.
    #[must_use]
    pub fn idle_process_ids(&self) -> Vec<u32> {
        self.programs.lock().idle.iter().map(Process::id).collect()
    }
}

impl Programs {
    /// A process that nobody else uses; if there may be no more of them, the next that comes free.
    pub(super) fn take(&self) -> Result<Process, EnvError> {
        let deadline = Instant::now() + self.options.start_timeout();
        let mut state = self.lock();
        loop {
            while let Some(process) = state.idle.pop() {
                if process.is_running() {
                    return Ok(process);
                }
                state.n_processes -= 1;
            }
            if state.n_processes < self.options.processes {
                state.n_processes += 1;
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let reason = format!("all {} processes are in use; raise `processes`", state.n_processes);
                return Err(self.error(Fault::Start { reason }));
            }
            state = self.freed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        let started = Process::start(&self.options).map(|(process, _)| process);
        started.map_err(|fault| {
            self.lock().n_processes -= 1;
            self.freed.notify_one();
            self.error(fault)
        })
    }

    /// Takes a process back that is well.
    pub(super) fn give_back(&self, process: Process) {
        self.lock().idle.push(process);
        self.freed.notify_one();
    }

    /// Ends a process that is not.
    pub(super) fn end(&self, mut process: Process) {
        process.kill();
        self.lock().n_processes -= 1;
        self.freed.notify_one();
    }

    /// The fault as an error that names the command.
    pub(super) fn error(&self, fault: Fault) -> EnvError {
        EnvError::Fault { program: self.options.command.join(" "), fault }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever held the lock before left nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Suite for External {
    fn name(&self) -> &str {
        &self.name
    }

    fn tasks(&self, split: Split) -> &[Arc<Task>] {
        self.tasks.get(&split).map_or(&[], Vec::as_slice)
    }

    fn open(&self, id: &TaskId) -> Result<Box<dyn TextEnv>, EnvError> {
        let task = self.by_id.get(id).ok_or_else(|| EnvError::UnknownTask { id: id.to_string() })?;
        Ok(Box::new(ExternalEnv::new(Arc::clone(task), Arc::clone(&self.programs), self.has_expert)))
    }

    fn vocabulary(&self) -> &ActionVocabulary {
        &self.vocabulary
    }

    fn manner(&self) -> Manner {
        let mut manner = Manner::default();
        if let Some(instructions) = &self.instructions {
            manner.system = format!(
                "{instructions} Each turn you read what you see and answer with one short sentence and your action between \
                 <action> and </action>."
            );
            manner.paper_introduction.clone_from(instructions);
        }
        manner
    }

    fn max_running(&self) -> usize {
        self.programs.options.processes
    }

    fn full_score(&self) -> f32 {
        self.full_score
    }
}
