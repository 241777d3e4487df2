//! Group-relative advantages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{GrpoError, check};
use crate::trajectory::TokenTrajectory;

/// What the advantage is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdNorm {
    /// The standard deviation of the group's returns.
    Group,
    /// Nothing (Dr. GRPO, arXiv:2503.20783).
    None,
}

/// The advantage in a group of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Singleton {
    /// 0.
    Zero,
    /// The return itself, as in the published implementation.
    Raw,
}

/// How returns become advantages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdvantageConfig {
    /// What the advantage is divided by.
    pub std_norm: StdNorm,
    /// The advantage in a group of one.
    pub singleton: Singleton,
    /// Whitens the advantages once more over all trained tokens of the batch (population variance, eps 1e-8).
    pub double_normalize: bool,
    /// Taken off the return of a turn whose action could not be read or was not admissible, in reward units, >= 0.
    pub invalid_action_penalty: f32,
}

impl Default for AdvantageConfig {
    fn default() -> Self {
        AdvantageConfig {
            std_norm: StdNorm::Group,
            singleton: Singleton::Zero,
            double_normalize: false,
            invalid_action_penalty: 0.1,
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
        )
    }
}

/// Added to the standard deviation.
const EPS: f64 = 1e-6;

/// Mean and divisor of one group.
#[derive(Debug, Clone, Copy, Default)]
struct GroupStatistics {
    mean: f64,
    divisor: f64,
}

/// Group-relative advantage of each trajectory.
///
/// `adv[i] = (returns[i] - mean_g) / (std_g + 1e-6)` over the trajectories of group `groups[i]`; `std_g` divides by
/// n - 1, as `torch.std` does. A group of one gets 0 unless `singleton` is `Raw`. Statistics are f64 and returns are
/// summed in ascending order, so the result does not depend on the order of a group, and a group of equal returns gets
/// exactly 0 and not rounding noise divided by 1e-6.
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
    let statistics = group_statistics(returns, groups, config)?;
    Ok(returns
        .iter()
        .zip(groups)
        .map(|(&return_, group)| {
            ((f64::from(return_) - statistics[group].mean) / statistics[group].divisor) as f32
        })
        .collect())
}

/// Advantage of every turn: `(return - penalty * invalid - mean_g) / (std_g + 1e-6)`, with the group's statistics taken
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
    let returns: Vec<f32> = trajectories.iter().map(|trajectory| trajectory.return_).collect();
    let groups: Vec<u64> = trajectories.iter().map(|trajectory| trajectory.group).collect();
    let statistics = group_statistics(&returns, &groups, config)?;
    let mut advantages: Vec<Vec<f32>> = trajectories
        .iter()
        .map(|trajectory| {
            let GroupStatistics { mean, divisor } = statistics[&trajectory.group];
            let of_turn = |invalid: bool| {
                let penalty = if invalid { f64::from(config.invalid_action_penalty) } else { 0.0 };
                ((f64::from(trajectory.return_) - penalty - mean) / divisor) as f32
            };
            trajectory.turns.iter().map(|turn| of_turn(turn.invalid)).collect()
        })
        .collect();
    if config.double_normalize {
        whiten(&mut advantages, trajectories);
    }
    Ok(advantages)
}

fn group_statistics(
    returns: &[f32],
    groups: &[u64],
    config: &AdvantageConfig,
) -> Result<BTreeMap<u64, GroupStatistics>, GrpoError> {
    if returns.len() != groups.len() {
        return Err(GrpoError::LengthMismatch {
            left: "returns",
            left_len: returns.len(),
            right: "groups",
            right_len: groups.len(),
        });
    }
    let mut members: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (index, (&value, &group)) in returns.iter().zip(groups).enumerate() {
        if !value.is_finite() {
            return Err(GrpoError::NonFiniteReturn { index, value });
        }
        members.entry(group).or_default().push(f64::from(value));
    }
    Ok(members.into_iter().map(|(group, returns)| (group, statistics_of(returns, config))).collect())
}

fn statistics_of(mut returns: Vec<f64>, config: &AdvantageConfig) -> GroupStatistics {
    let n = returns.len() as f64;
    if returns.len() == 1 {
        let mean = if config.singleton == Singleton::Raw { 0.0 } else { returns[0] };
        return GroupStatistics { mean, divisor: 1.0 };
    }
    returns.sort_by(f64::total_cmp);
    let mean = returns.iter().sum::<f64>() / n;
    let variance = returns.iter().map(|r| (r - mean) * (r - mean)).sum::<f64>() / (n - 1.0);
    let divided = config.std_norm == StdNorm::Group && variance > 0.0;
    let divisor = if divided { variance.sqrt() + EPS } else { 1.0 };
    GroupStatistics { mean, divisor }
}

/// Subtracts the mean and divides by the standard deviation over all trained tokens.
fn whiten(advantages: &mut [Vec<f32>], trajectories: &[TokenTrajectory]) {
    let mut weighted: Vec<(f64, f64)> = Vec::new();
    for (advantages, trajectory) in advantages.iter().zip(trajectories) {
        for (&advantage, turn) in advantages.iter().zip(&trajectory.turns) {
            let n = turn.reply.iter().filter(|token| !token.is_forced()).count();
            weighted.push((f64::from(advantage), n as f64));
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
