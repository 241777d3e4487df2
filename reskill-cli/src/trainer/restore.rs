//! A run as a checkpoint left it: what goes on with training, and what is only played.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reskill_envs::Suite;
use reskill_grpo::Optimizer;
use reskill_model::{Gradients, Params, Transformer};
use reskill_skills::SkillBank;

use super::{Stage, TrainState, base_model, untrained};
use crate::base_model::BaseModel;
use crate::checkpoint::{self, Checkpoint};
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
    /// The frozen reference, if it is a copy.
    pub(super) reference: Option<Transformer>,
    pub(super) optimizer: Optimizer,
    pub(super) base: Option<BaseModel>,
    pub(super) state: TrainState,
}

impl Restored {
    /// From the latest checkpoint. Who only plays gets no reference, and the optimizer as it was read.
    pub(super) fn latest(config: &TrainConfig, run: &RunDir, purpose: Purpose) -> Result<Restored> {
        let (suite, mut policy) = untrained(config, purpose)?;
        let Checkpoint { trained, reference, mut optimizer, base: began, state } =
            checkpoint::load_latest(&run.checkpoints(), &policy.model, &config.grpo.optimizer)?;
        let base = base_model(config)?;
        if let (Some(base), Some(began)) = (&base, &began) {
            base.check_same(began)?;
        }
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
        let reference = match reference.filter(|_| learns) {
            Some(weights) => Some(Transformer::new(policy.model.config(), placed(weights)?)?),
            None => None,
        };
        Ok(Restored { suite, policy, reference, optimizer, base, state })
    }
}

/// A trained policy with its bank and its environment.
pub struct Trained {
    /// The configuration of the run.
    pub config: TrainConfig,
    /// Its environment.
    pub suite: Box<dyn Suite>,
    /// The policy of the latest checkpoint.
    pub policy: Policy,
    /// The live bank: the incumbent, never a candidate.
    pub bank: SkillBank,
}

impl Trained {
    /// The run in `path`, to be played where `device` says, or else where it was trained, `slots` episodes at once or as many
    /// as its evaluations. `overrides` replace values of `env`, `eval` and `rollout`: other games, other lengths. The policy
    /// keeps the words it was trained with.
    ///
    /// # Errors
    /// If it is no run, another section is overridden, the checkpoint is missing or damaged, or the device is not there or
    /// too small.
    pub fn open(
        path: &Path,
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
        let purpose = Purpose::Playing(slots);
        let Restored { mut suite, mut policy, state, .. } = Restored::latest(&trained_with, &run, purpose)?;
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
        Ok(Trained { bank: state.lifecycle.incumbent().clone(), config, suite, policy })
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
