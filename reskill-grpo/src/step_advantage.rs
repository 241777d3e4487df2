//! Advantages of single turns among turns that met the same state: GiGPO (Feng et al. 2025, arXiv:2505.10978).
//!
//! Rollouts of one task pass through the same states. Turns of a group that stand in the same *anchor state* form a group
//! of their own, and what followed each of them, discounted, is compared inside it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::advantage::{AdvantageConfig, StdNorm, episode_advantages, group_statistics, whiten};
use crate::error::{GrpoError, check};
use crate::trajectory::TokenTrajectory;

/// How turns are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct StepAdvantageConfig {
    /// Weight of a turn's advantage beside its episode's, >= 0.
    pub weight: f64,
    /// Discount of later rewards, in 0..=1.
    pub gamma: f64,
    /// What a turn's advantage is divided by.
    pub std_norm: StdNorm,
}

impl Default for StepAdvantageConfig {
    fn default() -> Self {
        StepAdvantageConfig { weight: 1.0, gamma: 0.95, std_norm: StdNorm::Group }
    }
}

impl StepAdvantageConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn validate(&self) -> Result<(), GrpoError> {
        let weight = self.weight;
        check(weight >= 0.0 && weight.is_finite(), "advantage.step.weight", weight, "a number >= 0")?;
        check((0.0..=1.0).contains(&self.gamma), "advantage.step.gamma", self.gamma, "a number in [0, 1]")
    }
}

/// A state that turns can meet, as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Anchor(pub String);

/// The state that a turn met, and the reward that its action brought.
#[derive(Debug, Clone, PartialEq)]
pub struct StepOutcome {
    /// Turns of a group with equal anchors met the same state.
    pub anchor: Anchor,
    /// Reward of the turn, without penalties.
    pub reward: f32,
}

/// Advantage of every turn: that of [`crate::turn_advantages`] plus `weight` times the turn's own,
/// `(R_t - mean) / (std + eps)` with `R_t = sum_k gamma^(k - t) reward_k`, over the turns of the group that met the same
/// state; a state met once follows `singleton`. Whitening, if configured, comes last. Without `config.step` the steps are
/// not read.
///
/// - `steps`: per trajectory, per turn
///
/// # Errors
/// [`GrpoError::LengthMismatch`], [`GrpoError::NonFiniteReturn`], [`GrpoError::NonFiniteReward`].
pub fn turn_advantages_with_steps(
    trajectories: &[TokenTrajectory],
    steps: &[Vec<StepOutcome>],
    config: &AdvantageConfig,
) -> Result<Vec<Vec<f32>>, GrpoError> {
    let mut advantages = episode_advantages(trajectories, config)?;
    if let Some(step_config) = &config.step {
        let step_advantages = step_advantages(trajectories, steps, step_config, config)?;
        for (advantage, step) in advantages.iter_mut().flatten().zip(step_advantages.into_iter().flatten()) {
            *advantage += (step_config.weight * step) as f32;
        }
    }
    if config.double_normalize {
        whiten(&mut advantages, trajectories);
    }
    Ok(advantages)
}

fn step_advantages(
    trajectories: &[TokenTrajectory],
    steps: &[Vec<StepOutcome>],
    step_config: &StepAdvantageConfig,
    config: &AdvantageConfig,
) -> Result<Vec<Vec<f64>>, GrpoError> {
    let check_len = |left, left_len, right_len| {
        if left_len == right_len {
            return Ok(());
        }
        Err(GrpoError::LengthMismatch { left, left_len, right: "steps", right_len })
    };
    check_len("trajectories", trajectories.len(), steps.len())?;
    // Anchors become numbers, so that keys can be copied.
    let mut numbers: BTreeMap<(u64, &Anchor), usize> = BTreeMap::new();
    let (mut returns, mut keys) = (Vec::new(), Vec::new());
    for (index, (trajectory, steps)) in trajectories.iter().zip(steps).enumerate() {
        check_len("turns", trajectory.turns.len(), steps.len())?;
        returns.extend(discounted(steps, step_config.gamma, index)?);
        for step in steps {
            let next = numbers.len();
            keys.push(*numbers.entry((trajectory.group, &step.anchor)).or_insert(next));
        }
    }
    let config = AdvantageConfig { std_norm: step_config.std_norm, ..config.clone() };
    let statistics = group_statistics(&returns, &keys, &config)?;
    let mut all = returns.iter().zip(&keys).map(|(&return_, key)| statistics[key].advantage(return_, 0.0));
    Ok(steps.iter().map(|steps| all.by_ref().take(steps.len()).collect()).collect())
}

/// What followed each turn.
fn discounted(steps: &[StepOutcome], gamma: f64, trajectory: usize) -> Result<Vec<f64>, GrpoError> {
    let mut returns = vec![0.0; steps.len()];
    let mut after = 0.0;
    for (turn, step) in steps.iter().enumerate().rev() {
        if !step.reward.is_finite() {
            return Err(GrpoError::NonFiniteReward { trajectory, turn, value: step.reward });
        }
        after = f64::from(step.reward) + gamma * after;
        returns[turn] = after;
    }
    Ok(returns)
}
