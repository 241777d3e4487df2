//! One update of a policy from trajectories.

mod columns;
mod gathered;
mod guard;
mod metrics;
mod minibatch;
mod reference;
mod token_columns;

use std::path::Path;

use rand::Rng;
use reskill_kernels::Device;
use reskill_kernels::ops::GrpoLossSums;
use reskill_model::{Gradients, ModelConfig, Params, Transformer, Workspace};
use serde::{Deserialize, Serialize};

pub use metrics::{ImitationMetrics, RatioQuantiles, UpdateMetrics};
pub use reference::Reference;

use self::columns::{Columns, Left, Softmax};
use self::gathered::Gathered;
use self::guard::{Guard, SkippedBatch};
use self::metrics::add;
use self::minibatch::{Part, Pick, minibatches};
use self::token_columns::TokenColumns;
use crate::error::{GrpoError, check};
use crate::loss::{BatchTotals, LossConfig, OldLogprobs, SequenceUnit};
use crate::optimizer::Optimizer;
use crate::packing::Packing;
use crate::trajectory::TokenTrajectory;

/// What is never cut between mini-batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MinibatchSplit {
    /// A whole trajectory.
    #[default]
    Trajectory,
    /// A turn.
    Turn,
}

/// How an update goes through its trajectories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct LearnerConfig {
    /// Turns in one mini-batch (one optimizer step), >= 1. A rest of less than half of it joins the mini-batch before.
    pub minibatch_turns: usize,
    /// What is never cut between mini-batches: `trajectory` (whole ones are added until the count is reached, so that a trunk
    /// is run once) or `turn` (exactly the count, drawn from all trajectories, as published; a trunk is run again for every
    /// mini-batch that has turns of it).
    pub minibatch_split: MinibatchSplit,
    /// Packed tokens that are run at once, >= 1: bounds memory, does not change the result beyond rounding.
    pub max_tokens: usize,
    /// Passes over the trajectories of a step, >= 1.
    pub epochs: usize,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        LearnerConfig {
            minibatch_turns: 64,
            minibatch_split: MinibatchSplit::Trajectory,
            max_tokens: 4096,
            epochs: 1,
        }
    }
}

impl LearnerConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn validate(&self) -> Result<(), GrpoError> {
        check(self.minibatch_turns > 0, "learner.minibatch_turns", self.minibatch_turns, "at least 1")?;
        check(self.max_tokens > 0, "learner.max_tokens", self.max_tokens, "at least 1")?;
        check(self.epochs > 0, "learner.epochs", self.epochs, "at least 1")
    }

    /// Refuses what does not go together with a loss.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn check_with(&self, loss: &LossConfig) -> Result<(), GrpoError> {
        check(
            self.minibatch_split == MinibatchSplit::Trajectory || loss.sequence == SequenceUnit::Turn,
            "learner.minibatch_split",
            "turn",
            "`trajectory` where loss.sequence is `episode`: a sequence is not cut",
        )
    }
}

/// Turns trajectories into updates. Holds the memory of the passes and the gradient.
#[derive(Debug)]
pub struct Learner {
    config: LearnerConfig,
    workspace: Workspace,
    grads: Gradients,
    guard: Guard,
}

/// What one mini-batch is computed with.
struct Batch<'a> {
    members: Vec<&'a TokenTrajectory>,
    advantages: Vec<&'a [f32]>,
    /// Recomputed log-probabilities by trajectory, if they replace the sampler's.
    old: Option<Vec<&'a [f32]>>,
    loss: &'a LossConfig,
    temperature: f32,
    reference: Option<&'a Transformer>,
}

impl Learner {
    /// A learner of all weights of models of this size.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn new(model: &ModelConfig, config: &LearnerConfig) -> Result<Learner, GrpoError> {
        Learner::with_grads(&Device::Cpu, model, Gradients::Full(Params::zeros(model)?), config)
    }

    /// A learner of what `model` trains, on its device: its adapter, or else all its weights.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn for_model(model: &Transformer, config: &LearnerConfig) -> Result<Learner, GrpoError> {
        Learner::with_grads(&model.device(), model.config(), Gradients::zeros(model)?, config)
    }

    fn with_grads(
        device: &Device,
        model: &ModelConfig,
        grads: Gradients,
        config: &LearnerConfig,
    ) -> Result<Learner, GrpoError> {
        config.validate()?;
        let workspace = Workspace::on(device, model)?;
        Ok(Learner { config: config.clone(), workspace, grads, guard: Guard::default() })
    }

    /// Keeps of a forward pass the residual stream alone, and computes the rest again in the backward pass: a fraction of
    /// the memory for a third of the time more, the same result to the bit.
    ///
    /// # Errors
    /// [`GrpoError::Model`].
    pub fn recomputing(mut self, model: &ModelConfig) -> Result<Learner, GrpoError> {
        self.workspace = Workspace::recomputing_on(&self.workspace.device(), model)?;
        Ok(self)
    }

    /// Batches whose update is skipped because loss or gradient is not finite are written to `dir` as JSON, eight at
    /// most.
    #[must_use]
    pub fn dumping_to(mut self, dir: &Path) -> Learner {
        self.guard.set_dir(dir);
        self
    }

    /// GRPO: mini-batches of whole trajectories, or of turns, in an order drawn from `rng`, gradients accumulated over packs so that
    /// they equal those of the whole mini-batch, one AdamW step each. A mini-batch whose loss or gradient is not finite
    /// changes nothing but the count of skipped updates.
    ///
    /// - `advantages`: per trajectory, per turn
    /// - `reference`: the frozen policy of the KL penalty; not run if its coefficient is 0
    ///
    /// # Errors
    /// [`GrpoError::LengthMismatch`], [`GrpoError::EmptyBranch`], [`GrpoError::NoReference`], [`GrpoError::Config`],
    /// [`GrpoError::Dump`].
    #[expect(clippy::too_many_arguments, reason = "the state of training and one batch")]
    pub fn update<'r>(
        &mut self,
        model: &mut Transformer,
        optimizer: &mut Optimizer,
        reference: impl Into<Reference<'r>>,
        trajectories: &[TokenTrajectory],
        advantages: &[Vec<f32>],
        loss: &LossConfig,
        temperature: f32,
        rng: &mut impl Rng,
    ) -> Result<UpdateMetrics, GrpoError> {
        self.update_reporting(
            model,
            optimizer,
            reference,
            trajectories,
            advantages,
            loss,
            temperature,
            rng,
            &mut |_, _| {},
        )
    }

    /// [`Learner::update`], with `progress(done, total)` called before each mini-batch.
    ///
    /// # Errors
    /// As [`Learner::update`].
    #[expect(clippy::too_many_arguments, reason = "the state of training and one batch")]
    pub fn update_reporting<'r>(
        &mut self,
        model: &mut Transformer,
        optimizer: &mut Optimizer,
        reference: impl Into<Reference<'r>>,
        trajectories: &[TokenTrajectory],
        advantages: &[Vec<f32>],
        loss: &LossConfig,
        temperature: f32,
        rng: &mut impl Rng,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<UpdateMetrics, GrpoError> {
        check_lengths(trajectories, advantages)?;
        loss.validate()?;
        self.config.check_with(loss)?;
        let reference = reference.into().model(loss.kl_coef)?;
        let mut metrics = UpdateMetrics::default();
        let mut all = GrpoLossSums::default();
        let mut log_ratios = Vec::new();
        let recomputed = match loss.old_logprobs {
            OldLogprobs::Sampler => None,
            OldLogprobs::Recompute => {
                let all: Vec<&TokenTrajectory> = trajectories.iter().collect();
                Some(self.logprobs(model, &all, temperature, &mut metrics)?)
            }
        };
        let orders: Vec<Vec<Pick>> =
            (0..self.config.epochs).flat_map(|_| minibatches(trajectories, &self.config, rng)).collect();
        for (index, minibatch) in orders.iter().enumerate() {
            progress(index, orders.len());
            let parts: Vec<Part<'_>> = minibatch
                .iter()
                .map(|pick| pick.part(trajectories, advantages, recomputed.as_deref()))
                .collect();
            let batch = Batch {
                members: parts.iter().map(|part| part.trajectory.as_ref()).collect(),
                advantages: parts.iter().map(|part| part.advantages.as_ref()).collect(),
                old: recomputed.as_ref().map(|_| parts.iter().map(|part| part.old.as_ref()).collect()),
                loss,
                temperature,
                reference,
            };
            if BatchTotals::of(&batch.members, loss.sequence).tokens == 0 {
                continue;
            }
            let (sums, moved) = self.gradient(model, &batch, &mut metrics)?;
            let applied = if sums.loss.is_finite() {
                optimizer.update_model(model, &self.grads)
            } else {
                Err(GrpoError::NonFiniteLoss { value: sums.loss })
            };
            match applied {
                Ok(norm) => {
                    if metrics.optimizer_steps == 0 && loss.old_logprobs == OldLogprobs::Sampler {
                        metrics.sampler_mismatch = sums.max_log_ratio;
                    }
                    metrics.grad_norm += norm;
                    metrics.learning_rate = f64::from(optimizer.learning_rate());
                    metrics.optimizer_steps += 1;
                    all = add(all, sums);
                    log_ratios.extend(moved);
                }
                // Decided by the person who trains: one broken batch should not end a run of days, but be seen.
                Err(error) => {
                    metrics.skipped_updates += 1;
                    self.guard.keep(&SkippedBatch {
                        optimizer_steps: optimizer.steps(),
                        loss: sums.loss,
                        grad_norm: skipped_norm(error)?,
                        config: Some(loss),
                        advantages: batch.advantages,
                        trajectories: &batch.members,
                    })?;
                }
            }
        }
        Ok(metrics.averaged(all, log_ratios))
    }

    /// Imitation of the replies of one mini-batch: cross-entropy, mean over tokens, one AdamW step. As in
    /// [`Learner::update`], a batch that is not finite is skipped.
    ///
    /// # Errors
    /// [`GrpoError::EmptyBranch`], [`GrpoError::Dump`].
    pub fn imitate(
        &mut self,
        model: &mut Transformer,
        optimizer: &mut Optimizer,
        trajectories: &[&TokenTrajectory],
    ) -> Result<ImitationMetrics, GrpoError> {
        let mut metrics = ImitationMetrics::default();
        let totals = BatchTotals::of(trajectories, SequenceUnit::Turn);
        if totals.tokens == 0 {
            return Ok(metrics);
        }
        let softmax = Softmax { temperature: 1.0, filter: None };
        self.grads.clear()?;
        let mut logprobs = Gathered::<f32>::new(&model.device(), totals.tokens)?;
        for pack in Packing::split(trajectories, self.config.max_tokens) {
            let packing = Packing::new(&pack)?.to_device(&model.device())?;
            let mut columns = Columns::forward(&mut self.workspace, model, &packing, softmax)?;
            columns.d_logprobs.fill(-1.0 / totals.tokens as f32)?;
            logprobs.push(&columns.logprobs)?;
            columns.backward(&mut self.grads, &mut self.workspace, model, None, &packing, softmax)?;
            metrics.packed_tokens += packing.batch.len() as u64;
        }
        for pack in logprobs.read()? {
            metrics.loss -= pack.into_iter().map(f64::from).sum::<f64>();
        }
        let applied = if metrics.loss.is_finite() {
            optimizer.update_model(model, &self.grads)
        } else {
            Err(GrpoError::NonFiniteLoss { value: metrics.loss })
        };
        metrics.trained_tokens = totals.tokens as u64;
        metrics.loss /= totals.tokens as f64;
        match applied {
            Ok(norm) => metrics.grad_norm = norm,
            Err(error) => {
                metrics.skipped_updates = 1;
                self.guard.keep(&SkippedBatch {
                    optimizer_steps: optimizer.steps(),
                    loss: metrics.loss,
                    grad_norm: skipped_norm(error)?,
                    config: None,
                    advantages: Vec::new(),
                    trajectories,
                })?;
            }
        }
        Ok(metrics)
    }

    /// The gradient of the last mini-batch, before clipping.
    #[must_use]
    pub fn grads(&self) -> &Gradients {
        &self.grads
    }

    /// Log-probabilities of the trained tokens under `model`, by trajectory; notes how far the sampler's are off.
    fn logprobs(
        &mut self,
        model: &Transformer,
        trajectories: &[&TokenTrajectory],
        temperature: f32,
        metrics: &mut UpdateMetrics,
    ) -> Result<Vec<Vec<f32>>, GrpoError> {
        let softmax = Softmax { temperature, filter: None };
        let packs = Packing::split(trajectories, self.config.max_tokens);
        let n_tokens = trajectories.iter().map(|trajectory| trajectory.trained_len()).sum();
        let mut logprobs = Gathered::<f32>::new(&model.device(), n_tokens)?;
        let mut sampled = Vec::with_capacity(packs.len());
        for pack in &packs {
            let packing = Packing::new(pack)?.to_device(&model.device())?;
            let columns = Columns::forward(&mut self.workspace, model, &packing, softmax)?;
            metrics.packed_tokens += packing.batch.len() as u64;
            logprobs.push(&columns.logprobs)?;
            sampled.push(packing.old_logprobs);
        }
        let mut all = Vec::with_capacity(trajectories.len());
        for ((pack, logprobs), sampled) in packs.iter().zip(logprobs.read()?).zip(&sampled) {
            for (now, sampled) in logprobs.iter().zip(sampled.host()?) {
                metrics.sampler_mismatch = metrics.sampler_mismatch.max(f64::from((now - sampled).abs()));
            }
            let mut rest = logprobs.as_slice();
            for trajectory in pack {
                let (own, after) = rest.split_at(trajectory.trained_len());
                all.push(own.to_vec());
                rest = after;
            }
        }
        Ok(all)
    }

    /// Loss and gradient of one mini-batch, pack by pack, and the log-ratio of each of its tokens. A device is waited for
    /// once, after the last pack: the sums of all packs come in one copy, the log-probabilities in another.
    fn gradient(
        &mut self,
        model: &Transformer,
        batch: &Batch<'_>,
        metrics: &mut UpdateMetrics,
    ) -> Result<(GrpoLossSums, Vec<f32>), GrpoError> {
        let (totals, device) = (BatchTotals::of(&batch.members, batch.loss.sequence), model.device());
        let packs = Packing::split(&batch.members, self.config.max_tokens);
        let mut left = Left {
            sums: Gathered::new(&device, packs.len() * GrpoLossSums::LEN)?,
            logprobs: Gathered::new(&device, totals.tokens)?,
        };
        let mut old_logprobs = Vec::with_capacity(packs.len());
        let mut done = 0;
        self.grads.clear()?;
        for pack in &packs {
            let members = done..done + pack.len();
            done = members.end;
            let packing = Packing::new(pack)?.to_device(&device)?;
            let old = match &batch.old {
                None => packing.old_logprobs.host()?.to_vec(),
                Some(old) => old[members.clone()].concat(),
            };
            let advantages = &batch.advantages[members];
            let tokens = TokenColumns::new(&packing, pack, advantages, &old, batch.loss, totals)?;
            self.accumulate(model, batch, &packing, &tokens.to_device(&device)?, &mut left)?;
            metrics.packed_tokens += packing.batch.len() as u64;
            old_logprobs.push(old);
        }
        let mut sums = GrpoLossSums::default();
        for pack in left.sums.read()? {
            sums = add(sums, GrpoLossSums::from_slice(&pack)?);
        }
        let pairs = left.logprobs.read()?.into_iter().flatten().zip(old_logprobs.into_iter().flatten());
        Ok((sums, pairs.map(|(now, old)| now - old).collect()))
    }

    /// Loss of one packing, left in `left`, and its gradient, added to [`Learner::grads`]. Nothing is waited for.
    fn accumulate(
        &mut self,
        model: &Transformer,
        batch: &Batch<'_>,
        packing: &Packing,
        tokens: &TokenColumns,
        left: &mut Left,
    ) -> Result<(), GrpoError> {
        let softmax = Softmax { temperature: batch.temperature, filter: batch.loss.gradient_filter };
        let mut other = None;
        if let Some(reference) = batch.reference {
            other = Some((Columns::forward(&mut self.workspace, reference, packing, softmax)?, reference));
        }
        let mut columns = Columns::forward(&mut self.workspace, model, packing, softmax)?;
        let mut ref_logprobs = None;
        match (other, &tokens.d_kl) {
            (Some((other, reference)), Some(d_kl)) => {
                columns.diverge(model, other, reference, d_kl, packing, softmax)?;
            }
            (other, _) => ref_logprobs = other.map(|(other, _)| other.logprobs),
        }
        columns.loss(tokens, ref_logprobs.as_ref(), &batch.loss.params(), left)?;
        columns.backward(&mut self.grads, &mut self.workspace, model, batch.reference, packing, softmax)
    }
}

/// The norm of a gradient that was refused; other errors are passed on.
fn skipped_norm(error: GrpoError) -> Result<Option<f64>, GrpoError> {
    match error {
        GrpoError::NonFiniteGradient { value } => Ok(Some(value)),
        GrpoError::NonFiniteLoss { .. } => Ok(None),
        other => Err(other),
    }
}

/// One list of advantages a trajectory, one advantage a turn.
fn check_lengths(trajectories: &[TokenTrajectory], advantages: &[Vec<f32>]) -> Result<(), GrpoError> {
    let check = |left, left_len, right_len| {
        if left_len == right_len {
            return Ok(());
        }
        Err(GrpoError::LengthMismatch { left, left_len, right: "advantages", right_len })
    };
    check("trajectories", trajectories.len(), advantages.len())?;
    for (trajectory, advantages) in trajectories.iter().zip(advantages) {
        check("turns", trajectory.turns.len(), advantages.len())?;
    }
    Ok(())
}
