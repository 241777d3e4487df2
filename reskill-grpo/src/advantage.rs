//! Group-relative advantages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{GrpoError, check};
use crate::step_advantage::StepAdvantageConfig;
use crate::trajectory::TokenTrajectory;

/// What is taken off a return.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// The mean over the group.
    Group,
    /// The mean over the other members of the group (RLOO, arXiv:2402.14740; with `std_norm = "none"`).
    LeaveOneOut,
    /// The mean over the members of the group that played the same version of the skill bank.
    Arm,
}

/// What the advantage is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StdNorm {
    /// The standard deviation of the group's returns.
    Group,
    /// Nothing (Dr. GRPO, arXiv:2503.20783).
    None,
}

/// The advantage in a group of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Singleton {
    /// 0.
    Zero,
    /// The return itself, as in the published implementation.
    Raw,
}

/// How returns become advantages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct AdvantageConfig {
    /// What is taken off a return: `group`, `leave_one_out` or `arm`.
    pub baseline: Baseline,
    /// What the advantage is divided by.
    pub std_norm: StdNorm,
    /// The advantage in a group of one.
    pub singleton: Singleton,
    /// Whitens the advantages once more over all trained tokens of the batch (population variance, eps 1e-8).
    pub double_normalize: bool,
    /// Taken off the return of a turn whose action could not be read or was not admissible, in reward units, >= 0.
    pub invalid_action_penalty: f32,
    /// Added to the standard deviation, >= 0.
    pub eps: f64,
    /// Adds advantages of single turns among turns that met the same state (GiGPO). Absent: none.
    pub step: Option<StepAdvantageConfig>,
}

impl Default for AdvantageConfig {
    fn default() -> Self {
        AdvantageConfig {
            baseline: Baseline::Group,
            std_norm: StdNorm::Group,
            singleton: Singleton::Zero,
            double_normalize: false,
            invalid_action_penalty: 0.1,
            eps: 1e-6,
            step: None,
        }
    }
}

impl AdvantageConfig {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn validate(&self) -> Result<(), GrpoError> {
        let penalty = self.invalid_action_penalty;
        check(
            penalty >= 0.0 && penalty.is_finite(),
            "advantage.invalid_action_penalty",
            penalty,
            "a number >= 0",
        )?;
        check(self.eps >= 0.0 && self.eps.is_finite(), "advantage.eps", self.eps, "a number >= 0")?;
        self.step.as_ref().map_or(Ok(()), StepAdvantageConfig::validate)
    }
}

/// Mean, divisor and size of one group.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GroupStatistics {
    mean: f64,
    divisor: f64,
    /// n / (n - 1) where the baseline leaves the member itself out.
    stretch: f64,
}

impl GroupStatistics {
    /// Advantage of a member with this return, less a penalty that its own baseline does not know of.
    pub(crate) fn advantage(&self, return_: f64, penalty: f64) -> f64 {
        // Penalties stay out of the statistics, so only the distance to the mean is stretched.
        (self.stretch * (return_ - self.mean) - penalty) / self.divisor
    }
}

/// Group-relative advantage of each trajectory.
///
/// `adv[i] = (returns[i] - mean_g) / (std_g + eps)` over the trajectories of group `groups[i]`; `std_g` divides by
/// n - 1, as `torch.std` does. A group of one gets 0 unless `singleton` is `Raw`. Statistics are f64 and returns are
/// summed in ascending order, so the result does not depend on the order of a group, and a group of equal returns gets
/// exactly 0 and not rounding noise divided by 1e-6. With `baseline = LeaveOneOut` the distance to the mean is
/// multiplied by n / (n - 1), which is the distance to the mean of the others. `baseline = Arm` needs arms, which
/// [`turn_advantages`] has; here it is that of the group.
///
/// - `returns`: (B) undiscounted episode returns, unitless
/// - `groups`: (B)
/// - result: (B), in the order of `returns`
///
/// Source: arXiv:2402.03300, section 4.1.2 (outcome supervision).
///
/// # Errors
/// [`GrpoError::LengthMismatch`], [`GrpoError::NonFiniteReturn`].
pub fn group_advantages(
    returns: &[f32],
    groups: &[u64],
    config: &AdvantageConfig,
) -> Result<Vec<f32>, GrpoError> {
    let wide: Vec<f64> = returns.iter().map(|&x| f64::from(x)).collect();
    Ok(group_advantages_f64(&wide, groups, config)?.into_iter().map(|advantage| advantage as f32).collect())
}

/// [`group_advantages`] of f64 returns, in f64.
///
/// # Errors
/// As [`group_advantages`].
pub fn group_advantages_f64(
    returns: &[f64],
    groups: &[u64],
    config: &AdvantageConfig,
) -> Result<Vec<f64>, GrpoError> {
    let keys: Vec<(u64, u32)> = groups.iter().map(|&group| (group, 0)).collect();
    let statistics = group_statistics(returns, &keys, config)?;
    Ok(returns.iter().zip(&keys).map(|(&return_, key)| statistics[key].advantage(return_, 0.0)).collect())
}

/// Advantage of every turn: `(return - penalty * invalid - mean_g) / (std_g + eps)`, with the group's statistics taken
/// over the returns of its episodes, each counted once and without penalties. Where all returns of a group are equal
/// nothing is divided: an invalid turn gets minus the penalty, and not that a million times over, which would drown the
/// rest of the batch.
///
/// - result: per trajectory, per turn
///
/// # Errors
/// [`GrpoError::NonFiniteReturn`].
pub fn turn_advantages(
    trajectories: &[TokenTrajectory],
    config: &AdvantageConfig,
) -> Result<Vec<Vec<f32>>, GrpoError> {
    let mut advantages = episode_advantages(trajectories, config)?;
    if config.double_normalize {
        whiten(&mut advantages, trajectories);
    }
    Ok(advantages)
}

/// [`turn_advantages`] before whitening.
pub(crate) fn episode_advantages(
    trajectories: &[TokenTrajectory],
    config: &AdvantageConfig,
) -> Result<Vec<Vec<f32>>, GrpoError> {
    let returns: Vec<f64> = trajectories.iter().map(|trajectory| f64::from(trajectory.return_)).collect();
    let arm = |trajectory: &TokenTrajectory| match config.baseline {
        Baseline::Arm => trajectory.stratum,
        Baseline::Group | Baseline::LeaveOneOut => 0,
    };
    let keys: Vec<(u64, u32)> = trajectories.iter().map(|it| (it.group, arm(it))).collect();
    let statistics = group_statistics(&returns, &keys, config)?;
    let of_turn = |key: &(u64, u32), return_: f64, invalid: bool| {
        let penalty = if invalid { f64::from(config.invalid_action_penalty) } else { 0.0 };
        if config.baseline == Baseline::LeaveOneOut {
            return statistics[key].advantage(return_, penalty) as f32;
        }
        let GroupStatistics { mean, divisor, .. } = statistics[key];
        ((return_ - penalty - mean) / divisor) as f32
    };
    let per_trajectory = trajectories.iter().zip(&keys).zip(&returns);
    Ok(per_trajectory
        .map(|((it, key), &return_)| {
            it.turns.iter().map(|turn| of_turn(key, return_, turn.invalid)).collect()
        })
        .collect())
}

/// Statistics by group.
pub(crate) fn group_statistics<K: Ord + Copy>(
    returns: &[f64],
    groups: &[K],
    config: &AdvantageConfig,
) -> Result<BTreeMap<K, GroupStatistics>, GrpoError> {
    if returns.len() != groups.len() {
        return Err(GrpoError::LengthMismatch {
            left: "returns",
            left_len: returns.len(),
            right: "groups",
            right_len: groups.len(),
        });
    }
    let mut members: BTreeMap<K, Vec<f64>> = BTreeMap::new();
    for (index, (&value, &group)) in returns.iter().zip(groups).enumerate() {
        if !value.is_finite() {
            return Err(GrpoError::NonFiniteReturn { index, value });
        }
        members.entry(group).or_default().push(value);
    }
    Ok(members.into_iter().map(|(group, returns)| (group, statistics_of(returns, config))).collect())
}

fn statistics_of(mut returns: Vec<f64>, config: &AdvantageConfig) -> GroupStatistics {
    let n = returns.len() as f64;
    if returns.len() == 1 {
        let mean = if config.singleton == Singleton::Raw { 0.0 } else { returns[0] };
        return GroupStatistics { mean, divisor: 1.0, stretch: 1.0 };
    }
    returns.sort_by(f64::total_cmp);
    let equal = returns[0] == returns[returns.len() - 1];
    // The mean of equal returns is that return, whatever the sum rounds to.
    let mean = if equal { returns[0] } else { returns.iter().sum::<f64>() / n };
    let variance = returns.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / (n - 1.0);
    let divided = config.std_norm == StdNorm::Group && variance > 0.0;
    let divisor = if divided { variance.sqrt() + config.eps } else { 1.0 };
    let stretch = if config.baseline == Baseline::LeaveOneOut { n / (n - 1.0) } else { 1.0 };
    GroupStatistics { mean, divisor, stretch }
}

/// Subtracts the mean and divides by the standard deviation over all trained tokens.
pub(crate) fn whiten(advantages: &mut [Vec<f32>], trajectories: &[TokenTrajectory]) {
    let mut weighted: Vec<(f64, f64)> = Vec::new();
    for (advantages, trajectory) in advantages.iter().zip(trajectories) {
        for (&advantage, turn) in advantages.iter().zip(&trajectory.turns) {
            weighted.push((f64::from(advantage), turn.trained_len() as f64));
        }
    }
    let total: f64 = weighted.iter().map(|(_, n)| n).sum();
    if total == 0.0 {
        return;
    }
    let mean = weighted.iter().map(|(a, n)| a * n).sum::<f64>() / total;
    let variance = weighted.iter().map(|(a, n)| n * (a - mean) * (a - mean)).sum::<f64>() / total;
    let scale = 1.0 / (variance + 1e-8).sqrt();
    for advantage in advantages.iter_mut().flatten() {
        *advantage = ((f64::from(*advantage) - mean) * scale) as f32;
    }
}
