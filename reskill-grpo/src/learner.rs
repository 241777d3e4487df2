//! One update of a policy from trajectories.

use rand::{Rng, RngExt};
use reskill_kernels::ops::{self, GrpoLossInputs, GrpoLossSums};
use reskill_kernels::{Device, Tensor};
use reskill_model::{ModelConfig, Params, Transformer, Workspace};
use serde::{Deserialize, Serialize};

use crate::error::{GrpoError, check};
use crate::loss::{BatchTotals, LossConfig};
use crate::optimizer::Optimizer;
use crate::packing::Packing;
use crate::trajectory::TokenTrajectory;

/// How an update goes through its trajectories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LearnerConfig {
    /// Turns in one mini-batch (one optimizer step), >= 1: whole trajectories are added until the count is reached. A
    /// rest of less than half of it joins the mini-batch before.
    pub minibatch_turns: usize,
    /// Packed tokens that are run at once, >= 1: bounds memory, does not change the result beyond rounding.
    pub max_tokens: usize,
    /// Passes over the trajectories of a step, >= 1.
    pub epochs: usize,
}

impl Default for LearnerConfig {
    fn default() -> Self {
        LearnerConfig { minibatch_turns: 64, max_tokens: 4096, epochs: 1 }
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
}

/// What an update did. Means are over trained tokens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct UpdateMetrics {
    /// Loss, mean over mini-batches.
    pub loss: f64,
    /// Gradient norm before clipping, mean over mini-batches.
    pub grad_norm: f64,
    /// Share of tokens whose gradient the clip stopped, above and below.
    pub clip_fraction_high: f64,
    /// See `clip_fraction_high`.
    pub clip_fraction_low: f64,
    /// k3 between sampler and policy during the update.
    pub approx_kl: f64,
    /// k3 against the reference.
    pub ref_kl: f64,
    /// Entropy of the policy, nats a token.
    pub entropy: f64,
    /// Largest difference between the sampler's log-probability and the trainer's, before the first optimizer step:
    /// 0 where both compute the same.
    pub sampler_mismatch: f64,
    /// Optimizer steps.
    pub optimizer_steps: u64,
    /// Packed tokens that went through the network.
    pub packed_tokens: u64,
    /// Tokens with a loss.
    pub trained_tokens: u64,
}

impl UpdateMetrics {
    /// Sums into means: over mini-batches, and over the tokens that `all` counts.
    fn averaged(self, all: GrpoLossSums) -> UpdateMetrics {
        let (steps, tokens) = (self.optimizer_steps.max(1) as f64, all.tokens.max(1) as f64);
        UpdateMetrics {
            loss: all.loss / steps,
            grad_norm: self.grad_norm / steps,
            clip_fraction_high: all.clipped_high as f64 / tokens,
            clip_fraction_low: all.clipped_low as f64 / tokens,
            approx_kl: all.approx_kl / tokens,
            ref_kl: all.ref_kl / tokens,
            entropy: all.entropy / tokens,
            trained_tokens: all.tokens,
            ..self
        }
    }
}

/// What a pass of imitation did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImitationMetrics {
    /// Cross-entropy, nats a token.
    pub loss: f64,
    /// Gradient norm before clipping, mean over mini-batches.
    pub grad_norm: f64,
    /// Packed tokens that went through the network.
    pub packed_tokens: u64,
    /// Tokens with a loss.
    pub trained_tokens: u64,
}

/// Turns trajectories into updates. Holds the memory of the passes and the gradient.
#[derive(Debug)]
pub struct Learner {
    config: LearnerConfig,
    workspace: Workspace,
    grads: Params,
}

impl Learner {
    /// A learner for models of this size.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn new(model: &ModelConfig, config: &LearnerConfig) -> Result<Learner, GrpoError> {
        config.validate()?;
        Ok(Learner {
            config: config.clone(),
            workspace: Workspace::new(model)?,
            grads: Params::zeros(model)?,
        })
    }

    /// GRPO: mini-batches of whole trajectories in an order drawn from `rng`, gradients accumulated over packs so that
    /// they equal those of the whole mini-batch, one AdamW step each.
    ///
    /// - `advantages`: per trajectory, per turn
    /// - `reference`: the frozen policy of the KL penalty; not run if its coefficient is 0
    ///
    /// # Errors
    /// [`GrpoError::LengthMismatch`], [`GrpoError::EmptyBranch`], [`GrpoError::NonFiniteGradient`].
    #[expect(clippy::too_many_arguments, reason = "the state of training and one batch")]
    pub fn update(
        &mut self,
        model: &mut Transformer,
        optimizer: &mut Optimizer,
        reference: &Transformer,
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
    pub fn update_reporting(
        &mut self,
        model: &mut Transformer,
        optimizer: &mut Optimizer,
        reference: &Transformer,
        trajectories: &[TokenTrajectory],
        advantages: &[Vec<f32>],
        loss: &LossConfig,
        temperature: f32,
        rng: &mut impl Rng,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<UpdateMetrics, GrpoError> {
        check_lengths(trajectories, advantages)?;
        let mut metrics = UpdateMetrics::default();
        let mut all = GrpoLossSums::default();
        let minibatches: Vec<Vec<usize>> =
            (0..self.config.epochs).flat_map(|_| self.minibatches(trajectories, rng)).collect();
        for (index, minibatch) in minibatches.iter().enumerate() {
            progress(index, minibatches.len());
            let members: Vec<&TokenTrajectory> = minibatch.iter().map(|&i| &trajectories[i]).collect();
            let totals = BatchTotals::of(&members);
            if totals.tokens == 0 {
                continue;
            }
            self.grads.clear();
            let mut done = 0;
            for pack in Packing::split(&members, self.config.max_tokens) {
                let packing = Packing::new(&pack)?;
                let advantages: Vec<&[f32]> =
                    minibatch[done..done + pack.len()].iter().map(|&i| advantages[i].as_slice()).collect();
                done += pack.len();
                let weighted = TokenColumns::new(&packing, &pack, &advantages, loss, totals)?;
                let sums = self.accumulate(model, reference, &packing, &weighted, loss, temperature)?;
                if metrics.optimizer_steps == 0 {
                    metrics.sampler_mismatch = metrics.sampler_mismatch.max(sums.max_log_ratio);
                }
                metrics.packed_tokens += packing.batch.len() as u64;
                all = add(all, sums);
            }
            metrics.grad_norm += optimizer.update(model.params_mut(), &self.grads)?;
            metrics.optimizer_steps += 1;
        }
        Ok(metrics.averaged(all))
    }

    /// Imitation of the replies of one mini-batch: cross-entropy, mean over tokens, one AdamW step.
    ///
    /// # Errors
    /// [`GrpoError::NonFiniteGradient`].
    pub fn imitate(
        &mut self,
        model: &mut Transformer,
        optimizer: &mut Optimizer,
        trajectories: &[&TokenTrajectory],
    ) -> Result<ImitationMetrics, GrpoError> {
        let mut metrics = ImitationMetrics::default();
        let totals = BatchTotals::of(trajectories);
        if totals.tokens == 0 {
            return Ok(metrics);
        }
        self.grads.clear();
        for pack in Packing::split(trajectories, self.config.max_tokens) {
            let packing = Packing::new(&pack)?;
            let mut columns = Columns::new(packing.targets.len())?;
            self.forward_logprobs(model, &packing, 1.0, &mut columns)?;
            columns.d_logprobs.fill(-1.0 / totals.tokens as f32);
            metrics.loss -= columns.logprobs.as_slice().iter().map(|&x| f64::from(x)).sum::<f64>();
            self.backward_logprobs(model, &packing, 1.0, &columns)?;
            metrics.packed_tokens += packing.batch.len() as u64;
        }
        metrics.grad_norm = optimizer.update(model.params_mut(), &self.grads)?;
        metrics.trained_tokens = totals.tokens as u64;
        metrics.loss /= totals.tokens as f64;
        Ok(metrics)
    }

    /// The gradient of the last mini-batch, before clipping.
    #[must_use]
    pub fn grads(&self) -> &Params {
        &self.grads
    }

    /// Loss of one packing and its gradient, added to [`Learner::grads`].
    fn accumulate(
        &mut self,
        model: &Transformer,
        reference: &Transformer,
        packing: &Packing,
        tokens: &TokenColumns,
        loss: &LossConfig,
        temperature: f32,
    ) -> Result<GrpoLossSums, GrpoError> {
        let mut columns = Columns::new(packing.targets.len())?;
        let mut ref_logprobs = packing.old_logprobs.clone();
        if loss.kl_coef != 0.0 {
            self.forward_logprobs(reference, packing, temperature, &mut columns)?;
            ref_logprobs.copy_from(&columns.logprobs)?;
        }
        self.forward_logprobs(model, packing, temperature, &mut columns)?;
        let inputs = GrpoLossInputs {
            logprobs: &columns.logprobs,
            old_logprobs: &packing.old_logprobs,
            ref_logprobs: &ref_logprobs,
            entropy: &columns.entropy,
            advantages: &tokens.advantages,
            weights: &tokens.weights,
        };
        let sums = ops::grpo_loss(&mut columns.d_logprobs, &mut columns.d_entropy, &inputs, &loss.params())?;
        self.backward_logprobs(model, packing, temperature, &columns)?;
        Ok(sums)
    }

    /// Log-probabilities and entropies of the trained tokens; keeps the activations.
    fn forward_logprobs(
        &mut self,
        model: &Transformer,
        packing: &Packing,
        temperature: f32,
        columns: &mut Columns,
    ) -> Result<(), GrpoError> {
        let hidden = model.forward(&mut self.workspace, &packing.batch)?;
        let mut selected = Tensor::zeros(&[packing.rows.len(), hidden.row_len()], &Device::Cpu)?;
        ops::embedding_forward(&mut selected, hidden, &packing.rows)?;
        ops::linear_logprob_forward(
            &mut columns.logprobs,
            &mut columns.entropy,
            &mut columns.lse,
            &selected,
            model.params().head(),
            &packing.targets,
            &packing.allowed,
            temperature,
        )?;
        columns.selected = selected;
        Ok(())
    }

    /// Adds the gradient of the weights, from `columns.d_logprobs` and `columns.d_entropy`.
    fn backward_logprobs(
        &mut self,
        model: &Transformer,
        packing: &Packing,
        temperature: f32,
        columns: &Columns,
    ) -> Result<(), GrpoError> {
        let mut d_selected = Tensor::zeros(columns.selected.shape(), &Device::Cpu)?;
        ops::linear_logprob_backward(
            &mut d_selected,
            self.grads.head_mut(),
            &columns.d_logprobs,
            &columns.d_entropy,
            &columns.entropy,
            &columns.lse,
            &columns.selected,
            model.params().head(),
            &packing.targets,
            &packing.allowed,
            temperature,
        )?;
        let mut d_hidden = Tensor::zeros(&[packing.batch.len(), d_selected.row_len()], &Device::Cpu)?;
        ops::embedding_backward(&mut d_hidden, &d_selected, &packing.rows)?;
        model.backward(&mut self.grads, &mut self.workspace, &packing.batch, &d_hidden)?;
        Ok(())
    }

    /// Shuffled indices in runs of at least `minibatch_turns` turns; a rest of less than half of that joins the run
    /// before it.
    fn minibatches(&self, trajectories: &[TokenTrajectory], rng: &mut impl Rng) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..trajectories.len()).collect();
        for last in (1..order.len()).rev() {
            order.swap(last, rng.random_range(0..=last));
        }
        let mut batches = Vec::new();
        let mut current = Vec::new();
        let mut turns = 0;
        for index in order {
            current.push(index);
            turns += trajectories[index].turns.len();
            if turns >= self.config.minibatch_turns {
                batches.push(std::mem::take(&mut current));
                turns = 0;
            }
        }
        match batches.last_mut() {
            Some(before) if turns * 2 < self.config.minibatch_turns => before.append(&mut current),
            _ if !current.is_empty() => batches.push(current),
            _ => {}
        }
        batches
    }
}

/// Columns over the trained tokens of one packing, each (R) f32.
struct Columns {
    logprobs: Tensor,
    entropy: Tensor,
    lse: Tensor,
    d_logprobs: Tensor,
    d_entropy: Tensor,
    /// (R, C): hidden states of the rows that predict.
    selected: Tensor,
}

impl Columns {
    fn new(r: usize) -> Result<Columns, GrpoError> {
        let column = || Tensor::zeros(&[r], &Device::Cpu);
        Ok(Columns {
            logprobs: column()?,
            entropy: column()?,
            lse: column()?,
            d_logprobs: column()?,
            d_entropy: column()?,
            selected: Tensor::zeros(&[r, 0], &Device::Cpu)?,
        })
    }
}

/// Advantage and weight of each trained token, each (R) f32.
struct TokenColumns {
    advantages: Tensor,
    weights: Tensor,
}

impl TokenColumns {
    fn new(
        packing: &Packing,
        pack: &[&TokenTrajectory],
        advantages: &[&[f32]],
        loss: &LossConfig,
        totals: BatchTotals,
    ) -> Result<TokenColumns, GrpoError> {
        let r = packing.origins.len();
        let advantage = |&(index, turn): &(usize, usize)| advantages[index][turn];
        let weight = |&(index, turn): &(usize, usize)| {
            let reply = &pack[index].turns[turn].reply;
            loss.token_weight(reply.iter().filter(|token| !token.is_forced()).count(), totals)
        };
        Ok(TokenColumns {
            advantages: Tensor::from_vec(&[r], packing.origins.iter().map(advantage).collect())?,
            weights: Tensor::from_vec(&[r], packing.origins.iter().map(weight).collect())?,
        })
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

fn add(a: GrpoLossSums, b: GrpoLossSums) -> GrpoLossSums {
    GrpoLossSums {
        loss: a.loss + b.loss,
        tokens: a.tokens + b.tokens,
        clipped_high: a.clipped_high + b.clipped_high,
        clipped_low: a.clipped_low + b.clipped_low,
        approx_kl: a.approx_kl + b.approx_kl,
        ref_kl: a.ref_kl + b.ref_kl,
        entropy: a.entropy + b.entropy,
        max_log_ratio: a.max_log_ratio.max(b.max_log_ratio),
    }
}
