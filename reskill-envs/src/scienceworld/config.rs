//! Settings of the simulator.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::EnvError;

/// How ScienceWorld is run, and which of its tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ScienceWorldOptions {
    /// Tasks to train on: their train variations are the split `train`, their test variations `valid_seen`, their dev
    /// variations `valid_train`. Default: the published two. Empty: all tasks.
    pub train_tasks: Vec<String>,
    /// Tasks never trained on: their test variations are the split `valid_unseen`.
    pub unseen_tasks: Vec<String>,
    /// What the simulator makes easier, comma-separated: `easy` (published), or some of `teleportAction`, `openDoors`,
    /// `openContainers`, `selfWateringFlowerPots`, `noElectricalAction`; empty for nothing.
    pub simplification: String,
    /// Whether observations list all valid actions (some 100 to 1,000, at 20 to 45 ms a step). Small policies need it.
    pub valid_actions: bool,
    /// Whether observations name the objects in sight (1 to 3 ms a step), for prompts without a list of actions.
    pub objects: bool,
    /// The Java program: a name that is on the path, or an absolute path. Default `java`.
    pub java: PathBuf,
    /// Heap of one Java machine, MiB, >= 64.
    pub memory_mib: usize,
    /// Simulators in one Java machine, >= 1. Each adds some 80 MiB. A single one is started as the original package does
    /// it, without the host for several.
    pub environments_per_jvm: usize,
    /// Gives all Java objects the same identity hash. The simulator iterates over sets of objects, so that without this
    /// the order of doors and things in a text, and with it what chance decides, differ from run to run, in the original
    /// as well. On by default: an episode with the same commands reads the same.
    pub reproducible: bool,
    /// Java machines at most, >= 1. Times `environments_per_jvm`: episodes that run at once.
    pub jvms: usize,
    /// Longest wait for an answer of the simulator, seconds, > 0. Then the episode is given up.
    pub timeout_secs: f64,
    /// Longest wait for a Java machine or a simulator in it to start, seconds, > 0.
    pub start_timeout_secs: f64,
}

impl Default for ScienceWorldOptions {
    fn default() -> Self {
        let names = |names: [&str; 2]| names.map(String::from).to_vec();
        ScienceWorldOptions {
            train_tasks: names(["power-component", "test-conductivity"]),
            unseen_tasks: names([
                "power-component-renewable-vs-nonrenewable-energy",
                "test-conductivity-of-unknown-substances",
            ]),
            simplification: "easy".into(),
            valid_actions: false,
            objects: true,
            java: "java".into(),
            memory_mib: 640,
            environments_per_jvm: 4,
            reproducible: true,
            jvms: 4,
            timeout_secs: 60.0,
            start_timeout_secs: 120.0,
        }
    }
}

/// What the simulator can make easier.
const SIMPLIFICATIONS: [&str; 6] =
    ["easy", "teleportAction", "openDoors", "openContainers", "selfWateringFlowerPots", "noElectricalAction"];

impl ScienceWorldOptions {
    /// Every variation of every task.
    #[must_use]
    pub fn all_tasks() -> ScienceWorldOptions {
        ScienceWorldOptions { train_tasks: Vec::new(), unseen_tasks: Vec::new(), ..Self::default() }
    }

    /// Episodes that can run at once.
    #[must_use]
    pub fn max_running(&self) -> usize {
        self.jvms.saturating_mul(self.environments_per_jvm)
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`EnvError::Config`].
    pub fn validate(&self) -> Result<(), EnvError> {
        let refuse = |key, value: String, expected| Err(EnvError::Config { key, value, expected });
        for (key, value, least, expected) in [
            ("memory_mib", self.memory_mib, 64, "at least 64"),
            ("environments_per_jvm", self.environments_per_jvm, 1, "at least 1"),
            ("jvms", self.jvms, 1, "at least 1"),
        ] {
            if value < least {
                return refuse(key, value.to_string(), expected);
            }
        }
        for (key, value) in
            [("timeout_secs", self.timeout_secs), ("start_timeout_secs", self.start_timeout_secs)]
        {
            if !(value > 0.0 && value <= 86_400.0) {
                return refuse(key, value.to_string(), "seconds in (0, 86400]");
            }
        }
        let mut simplifications = self.simplification.split(',').filter(|name| !name.is_empty());
        if let Some(unknown) = simplifications.find(|name| !SIMPLIFICATIONS.contains(name)) {
            return refuse(
                "simplification",
                unknown.to_string(),
                "some of easy, teleportAction, openDoors, openContainers, selfWateringFlowerPots, noElectricalAction, \
                 comma-separated",
            );
        }
        Ok(())
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_secs)
    }

    pub(super) fn start_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.start_timeout_secs)
    }
}
