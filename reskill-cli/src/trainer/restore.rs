//! A run as a checkpoint left it: what goes on with training, and what is only played.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reskill_envs::Suite;
use reskill_grpo::Optimizer;
use reskill_model::{Gradients, Params, Transformer};
use reskill_skills::{HistoryRecord, SkillBank};

use super::start::initial_bank;
use super::{Stage, TrainState, base_models, untrained};
use crate::base_model::BaseModel;
use crate::checkpoint::{self, Checkpoint, CheckpointChoice, Learned};
use crate::config::TrainConfig;
use crate::device::DeviceArgs;
use crate::memory::Purpose;
use crate::policy::Policy;
use crate::run_dir::RunDir;
use crate::suites::open_suite;

/// What a checkpoint and the configuration of its run make together.
pub(super) struct Restored {
    pub(super) suite: Box<dyn Suite>,
    /// With the weights of the checkpoint.
    pub(super) policy: Policy,
    /// Optimizer and frozen reference, unless the weights are frozen.
    pub(super) learned: Option<(Optimizer, Option<Transformer>)>,
    pub(super) bases: Vec<BaseModel>,
    pub(super) state: TrainState,
}

impl Restored {
    /// From the checkpoint in `path`. Who only plays gets neither optimizer nor reference.
    pub(super) fn read(config: &TrainConfig, path: &Path, purpose: Purpose) -> Result<Restored> {
        let (suite, mut policy) = untrained(config, purpose)?;
        let Checkpoint { learned, bases: began, state } =
            checkpoint::load(path, &policy.model, &config.grpo.optimizer)?;
        let bases = base_models(config)?;
        for (base, began) in bases.iter().zip(&began) {
            base.check_same(began)?;
        }
        let learned = match learned {
            Some(learned) => place(config, &mut policy, learned, &state, purpose)?,
            None => None,
        };
        Ok(Restored { suite, policy, learned, bases, state })
    }
}

/// Gives the policy its trained weights; returns optimizer and reference, on its device, to who goes on with training.
fn place(
    config: &TrainConfig,
    policy: &mut Policy,
    learned: Learned,
    state: &TrainState,
    purpose: Purpose,
) -> Result<Option<(Optimizer, Option<Transformer>)>> {
    let Learned { trained, reference, mut optimizer } = learned;
    let device = policy.model.device();
    let is_warm_start = matches!(state.stage, Stage::WarmStart { .. });
    let stage = if is_warm_start { &config.sft.optimizer } else { &config.grpo.optimizer };
    let learns = purpose == Purpose::Training;
    if learns && (is_warm_start || !device.is_cpu()) {
        let steps = optimizer.steps();
        let (m, v) = optimizer.moments()?;
        optimizer = match device.is_cpu() {
            true => Optimizer::restore(stage, (m.into_owned(), v.into_owned()), steps)?,
            false => Optimizer::restore_for(&policy.model, stage, (&*m, &*v), &trained, steps)?,
        };
    }
    let placed = |weights: Params| match device.is_cpu() {
        true => Ok(weights),
        false => weights.to_device(&device, device.precision()),
    };
    match trained {
        Gradients::Full(weights) => *policy.model.params_mut() = placed(weights)?,
        Gradients::Adapter(adapter) => policy.model.attach(adapter)?,
    }
    if !learns {
        return Ok(None);
    }
    let reference = match reference {
        Some(weights) => Some(Transformer::new(policy.model.config(), placed(weights)?)?),
        None => None,
    };
    Ok(Some((optimizer, reference)))
}

/// A trained policy with its bank and its environment.
pub struct Trained {
    /// The configuration of the run.
    pub config: TrainConfig,
    /// Its environment.
    pub suite: Box<dyn Suite>,
    /// The policy of the checkpoint.
    pub policy: Policy,
    /// The live bank: the incumbent, never a candidate.
    pub bank: SkillBank,
    /// Everything that happened to the bank up to the checkpoint.
    pub history: Vec<HistoryRecord>,
}

impl Trained {
    /// The bank that the run began with.
    ///
    /// # Errors
    /// If its folder cannot be read any more.
    pub fn first_bank(&self) -> Result<SkillBank> {
        initial_bank(&self.config)
    }

    /// The run in `path` as the checkpoint `from` left it, to be played where `device` says, or else where it was trained,
    /// `slots` episodes at once or as many as its evaluations. `overrides` replace values of `env`, `eval` and `rollout`: other games, other lengths. The policy
    /// keeps the words it was trained with.
    ///
    /// # Errors
    /// If it is no run, another section is overridden, the checkpoint is missing or damaged, or the device is not there or
    /// too small.
    pub fn open(
        path: &Path,
        from: CheckpointChoice,
        overrides: &[String],
        device: &DeviceArgs,
        slots: Option<usize>,
    ) -> Result<Trained> {
        let run = RunDir::open(path)?;
        let mut trained_with = TrainConfig::load(Some(&run.config()), &[])?;
        let trained_on = trained_with.device.name.clone();
        trained_with.device = device.over(&trained_with.device);
        // Held, so that it is not opened a second time below.
        let _device = trained_with.device.open().with_context(|| match device.device {
            None if trained_on != "cpu" => {
                format!("the run was trained on {trained_on}; give --device cpu to play on the processor")
            }
            _ => "the run cannot be played there".to_string(),
        })?;
        let checkpoint = checkpoint::choose(&run.checkpoints(), from)?;
        let Restored { mut suite, mut policy, state, .. } =
            Restored::read(&trained_with, &checkpoint, Purpose::Playing(slots))?;
        pack(&trained_with, &mut policy);
        let mut config = trained_with;
        if !overrides.is_empty() {
            for one in overrides {
                let section = one.split(['.', '=']).next().unwrap_or_default();
                if !["env", "eval", "rollout"].contains(&section) {
                    bail!("--set {one}: a trained run takes other values of env, eval and rollout only");
                }
            }
            let changed = TrainConfig::load(Some(&run.config()), overrides)?.with_absolute_paths()?;
            let changed = TrainConfig { device: config.device.clone(), ..changed };
            if changed.env != config.env {
                suite = open_suite(&changed.env)?;
            }
            config = changed;
        }
        let lifecycle = &state.lifecycle;
        Ok(Trained {
            bank: lifecycle.incumbent().clone(),
            history: lifecycle.history().to_vec(),
            config,
            suite,
            policy,
        })
    }
}

/// Lays the weights out for generation, if that is asked for and they changed since.
pub(super) fn pack(config: &TrainConfig, policy: &mut Policy) {
    if let Some(storage) = config.model.panels()
        && policy.model.packed_bytes().is_none()
    {
        policy.model.pack(storage);
    }
}
