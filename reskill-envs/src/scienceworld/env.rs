//! One running episode of the simulator.

use std::sync::Arc;

use super::config::ScienceWorldOptions;
use super::expert::{GoldPath, GoldPaths};
use super::gateway::Gateway;
use super::pool::{Lease, Pool};
use super::tasks;
use super::wire::Argument;
use crate::action::ActionVocabulary;
use crate::error::EnvError;
use crate::fault::Fault;
use crate::suite::{Observation, Step, Task, TextEnv};

/// The first command of every episode; it takes no time.
const FIRST: &str = "look around";

/// An episode counts as a success if it ends above this score, of 100.
const SUCCESS_ABOVE: i32 = 70;

/// An episode. It borrows a simulator from its start to its end.
pub(super) struct ScienceWorldEnv {
    pub(super) task: Arc<Task>,
    pub(super) pool: Arc<Pool>,
    pub(super) options: Arc<ScienceWorldOptions>,
    pub(super) gold_paths: Arc<GoldPaths>,
    pub(super) vocabulary: Arc<ActionVocabulary>,
    lease: Option<Lease>,
    /// Commands played so far.
    played: Vec<String>,
    /// The commands that were listed last.
    admissible: Vec<String>,
    gold: Option<GoldPath>,
}

impl ScienceWorldEnv {
    pub(super) fn new(
        task: Arc<Task>,
        pool: Arc<Pool>,
        options: Arc<ScienceWorldOptions>,
        gold_paths: Arc<GoldPaths>,
        vocabulary: Arc<ActionVocabulary>,
    ) -> ScienceWorldEnv {
        let (played, admissible) = (Vec::new(), Vec::new());
        ScienceWorldEnv {
            task,
            pool,
            options,
            gold_paths,
            vocabulary,
            lease: None,
            played,
            admissible,
            gold: None,
        }
    }

    /// Loads the task into the simulator; the text that an episode begins with.
    fn load(&mut self) -> Result<Observation, EnvError> {
        let mut lease = match self.lease.take() {
            Some(lease) => lease,
            None => self.pool.borrow()?,
        };
        let (task, options) = (&self.task, &self.options);
        let (now, goal) = lease.with(|gateway| {
            start(gateway, task, options, false)?;
            let text = gateway.text("step", &[Argument::Text(FIRST)])?;
            Ok((observe(gateway, text, options)?, gateway.text("getTaskDescription", &[])?))
        })?;
        if goal != self.task.goal {
            return Err(EnvError::Game {
                path: self.task.id.0.clone().into(),
                field: "goal",
                reason: format!(
                    "the simulator says `{goal}`, version 1.2.3 says `{}`; use the scienceworld.jar of the package \
                     scienceworld 1.2.3",
                    self.task.goal
                ),
            });
        }
        self.lease = Some(lease);
        Ok(now)
    }

    /// The commands that the simulator itself would play. It forgets the episode over that, so they are played again.
    fn gold_path(&mut self) -> Result<Arc<[String]>, EnvError> {
        if let Some(path) = self.gold_paths.get(&self.task.id) {
            return Ok(path);
        }
        if self.lease.is_none() {
            self.load()?;
        }
        let (task, options, played) = (&self.task, &self.options, &self.played);
        let Some(lease) = &mut self.lease else { return Ok(Arc::new([])) };
        let path = lease.with(|gateway| {
            start(gateway, task, options, true)?;
            let path = gateway.list("getGoldActionSequence")?;
            start(gateway, task, options, false)?;
            for command in std::iter::once(FIRST).chain(played.iter().map(String::as_str)) {
                gateway.text("step", &[Argument::Text(command)])?;
            }
            Ok(path)
        })?;
        Ok(self.gold_paths.insert(&self.task.id, path))
    }
}

impl TextEnv for ScienceWorldEnv {
    fn reset(&mut self) -> Result<Observation, EnvError> {
        self.played.clear();
        self.gold = None;
        let now = match self.load() {
            // Nothing is lost yet: the next simulator may do.
            Err(error) if error.is_fault() => self.load()?,
            loaded => loaded?,
        };
        self.admissible.clone_from(&now.admissible);
        Ok(now)
    }

    fn step(&mut self, action: &str) -> Result<Step, EnvError> {
        if self.lease.is_none() {
            self.reset()?;
        }
        let options = &self.options;
        let Some(lease) = &mut self.lease else { return Err(EnvError::Unsupported { what: "simulator" }) };
        let (observation, score, completed) = lease.with(|gateway| {
            let text = gateway.text("step", &[Argument::Text(action)])?;
            let score = gateway.double("getScore")?;
            let completed = gateway.bool("getCompleted")?;
            Ok((observe(gateway, text, options)?, score, completed))
        })?;
        self.played.push(action.to_string());
        if let Some(gold) = &mut self.gold {
            gold.played(action);
        }
        self.admissible.clone_from(&observation.admissible);
        // The score that is published is a whole number of hundredths.
        let percent = (100.0 * score).round() as i32;
        Ok(Step {
            observation,
            score: percent as f32 / 100.0,
            done: completed || percent < 0,
            won: percent > SUCCESS_ABOVE,
        })
    }

    /// What is left of the simulator's own way to the goal. It is known from the start of the task only: commands that
    /// were played beside it are taken to do no harm. If valid actions are listed, the first command is one of them.
    fn expert(&mut self) -> Result<Vec<String>, EnvError> {
        let path = self.gold_path()?;
        let played = &self.played;
        let gold = self.gold.get_or_insert_with(|| {
            let mut gold = GoldPath::new(path);
            played.iter().for_each(|action| gold.played(action));
            gold
        });
        Ok(gold.rest(&self.admissible, &self.vocabulary))
    }
}

/// Loads a task, with or without the commands that solve it.
fn start(
    gateway: &mut Gateway,
    task: &Task,
    options: &ScienceWorldOptions,
    with_gold: bool,
) -> Result<(), Fault> {
    let refused = |reason: String| Fault::Refused { request: "load".into(), reason };
    let (name, variation) =
        tasks::parts(&task.id).ok_or_else(|| refused(format!("no such task: {}", task.id)))?;
    let simplification = simplification(name, &options.simplification);
    let arguments = [
        Argument::Text(name),
        Argument::Int(variation),
        Argument::Text(&simplification),
        Argument::Bool(with_gold),
    ];
    match gateway.text("load", &arguments)? {
        problem if problem.is_empty() => Ok(()),
        problem => Err(refused(problem)),
    }
}

/// Tasks about electricity cannot do without it.
fn simplification(task: &str, wanted: &str) -> String {
    let is_electrical = task.contains("power-component") || task.contains("conductivity");
    let kept = wanted.split(',').filter(|name| !(is_electrical && *name == "noElectricalAction"));
    kept.collect::<Vec<_>>().join(",")
}

/// What the agent sees: the text, and what the options ask for beside it.
fn observe(gateway: &mut Gateway, text: String, options: &ScienceWorldOptions) -> Result<Observation, Fault> {
    let admissible = match options.valid_actions {
        true => sorted(gateway.list("getValidActionObjectCombinations")?),
        false => Vec::new(),
    };
    let objects = match options.objects {
        true => sorted(gateway.list("getPossibleObjects")?),
        false => Vec::new(),
    };
    Ok(Observation { text, admissible, objects })
}

/// In code-point order, each once: the simulator's own order is not the same every time.
fn sorted(mut items: Vec<String>) -> Vec<String> {
    items.sort_unstable();
    items.dedup();
    items
}
