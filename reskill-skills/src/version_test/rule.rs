//! How a test is decided.

use serde::{Deserialize, Serialize};

use crate::version_test::VersionTest;
use crate::version_test::arms::Arm;
use crate::version_test::config::{Rule, VersionTestConfig};
use crate::version_test::decision::{ArmSummary, Decision, Reason, Verdict};
use crate::version_test::score::Score;
use crate::version_test::spending::{Look, bounds, quantile, upper_tail};

/// What the stratified rule asks of a candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// It must be shown to be better: the usual question for new guidance.
    #[default]
    Better,
    /// It must not be shown to be worse: the question for a bundle that only deletes, since a shorter bank that does as
    /// well is the better one.
    NotWorse,
}

/// The decision of a test, if it is due.
pub(crate) fn decide(test: &VersionTest, config: &VersionTestConfig, claim: Claim) -> Option<Decision> {
    let n_steps = test.steps().len();
    let enough_episodes = test.n_episodes() >= config.min_episodes;
    match config.rule {
        Rule::AutoAccept => {
            Some(conclude(test, config, claim, Finding::bare(Verdict::Accept, Reason::AutoAccept)))
        }
        Rule::Paper => (n_steps >= config.min_steps as usize && enough_episodes)
            .then(|| conclude(test, config, claim, paper(test))),
        Rule::Stratified => {
            if !enough_episodes || n_steps == 0 {
                return None;
            }
            stratified(test, config, claim).map(|finding| conclude(test, config, claim, finding))
        }
    }
}

/// A verdict with the numbers behind it.
struct Finding {
    verdict: Verdict,
    reason: Reason,
    candidate: Arm,
    z: Option<f64>,
    level: Option<f64>,
    bound: Option<f64>,
}

impl Finding {
    fn bare(verdict: Verdict, reason: Reason) -> Self {
        Self { verdict, reason, candidate: Arm::Candidate(0), z: None, level: None, bound: None }
    }
}

/// The candidate with the highest posterior mean against the incumbent's; a tie rejects.
fn paper(test: &VersionTest) -> Finding {
    let means: Vec<f64> = test.posteriors().iter().map(|posterior| posterior.mean()).collect();
    let mut best = 1;
    for index in 2..means.len() {
        if means[index] > means[best] {
            best = index;
        }
    }
    let (verdict, reason) = if means[best] > means[0] {
        (Verdict::Accept, Reason::HigherMean)
    } else {
        (Verdict::Reject, Reason::NotHigherMean)
    };
    Finding { candidate: Arm::from_index(best), ..Finding::bare(verdict, reason) }
}

/// The stratified rule on each candidate; with several, the level is divided among them (Bonferroni) and the one with
/// the largest statistic stands for all.
fn stratified(test: &VersionTest, config: &VersionTestConfig, claim: Claim) -> Option<Finding> {
    #[expect(clippy::cast_precision_loss, reason = "at most 256 arms")]
    let level = config.level / (test.n_arms() - 1) as f64;
    let candidate = (1..test.n_arms())
        .map(Arm::from_index)
        .map(|arm| (arm, Score::of(test.steps(), arm).z().unwrap_or(f64::NEG_INFINITY)))
        .reduce(|best, other| if other.1 > best.1 { other } else { best })?
        .0;
    let n_steps = test.steps().len();
    let last_step = if config.early_stop { config.horizon() } else { config.min_steps } as usize;
    let is_last = n_steps >= last_step;
    if !is_last && (!config.early_stop || n_steps < config.first_look as usize) {
        return None;
    }
    // What counts against equality: better, or worse.
    let sign = match claim {
        Claim::Better => 1.0,
        Claim::NotWorse => -1.0,
    };
    let (shown, not_shown) = match claim {
        Claim::Better => (Verdict::Accept, Verdict::Reject),
        Claim::NotWorse => (Verdict::Reject, Verdict::Accept),
    };
    let total = Score::of(test.steps(), candidate);
    let finding = |verdict, reason, bound| {
        Some(Finding { verdict, reason, candidate, z: total.z(), level: Some(level), bound })
    };
    let Some(z) = total.z() else {
        return if is_last { finding(not_shown, Reason::NoInformation, None) } else { None };
    };
    let bound = bound_now(test, config, candidate, level, last_step);
    if sign * z > bound {
        let reason = if is_last { Reason::FinalBound } else { Reason::EarlyBound };
        return finding(shown, reason, Some(bound));
    }
    if is_last {
        return finding(not_shown, Reason::BelowBound, Some(bound));
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of steps are small")]
    let fraction = n_steps as f64 / last_step as f64;
    if conditional_power(sign * z, fraction, level) < config.futility {
        return finding(not_shown, Reason::Futility, Some(bound));
    }
    None
}

/// The bound at the present look. All looks so far are retraced: they are what has been spent.
fn bound_now(
    test: &VersionTest,
    config: &VersionTestConfig,
    candidate: Arm,
    level: f64,
    last_step: usize,
) -> f64 {
    if !config.early_stop {
        return quantile(1.0 - level);
    }
    let mut looks: Vec<Look> = Vec::new();
    let mut total = Score::default();
    let mut episodes = 0;
    for (index, step) in test.steps().iter().enumerate() {
        let added = Score::of(std::slice::from_ref(step), candidate);
        total = Score { score: total.score + added.score, variance: total.variance + added.variance };
        episodes +=
            step.groups.iter().flat_map(|group| &group.arms).map(|counts| counts.episodes).sum::<u64>();
        let n_steps = index + 1;
        let looked =
            n_steps >= (config.first_look as usize).min(last_step) && episodes >= config.min_episodes;
        if looked && total.variance > 0.0 {
            #[expect(clippy::cast_precision_loss, reason = "counts of steps are small")]
            let fraction = n_steps as f64 / last_step as f64;
            looks.push(Look { variance: total.variance, spent: config.spending.spent(level, fraction) });
        }
    }
    bounds(&looks).last().copied().unwrap_or_else(|| quantile(1.0 - level))
}

/// Probability that the statistic ends above the fixed-sample bound if the trend seen so far goes on.
fn conditional_power(z: f64, fraction: f64, level: f64) -> f64 {
    // Brownian motion at time t: B = z sqrt(t), drift B / t, so the mean at time 1 is B / t, the variance 1 - t.
    let mean_at_end = z / fraction.sqrt();
    upper_tail((quantile(1.0 - level) - mean_at_end) / (1.0 - fraction).sqrt())
}

fn conclude(test: &VersionTest, config: &VersionTestConfig, claim: Claim, finding: Finding) -> Decision {
    let arms = test
        .posteriors()
        .iter()
        .enumerate()
        .map(|(index, posterior)| {
            let arm = Arm::from_index(index);
            let totals = test.totals(arm);
            ArmSummary {
                arm,
                episodes: totals.episodes,
                successes: totals.successes,
                alpha: posterior.alpha,
                beta: posterior.beta,
                mean: posterior.mean(),
            }
        })
        .collect();
    Decision {
        step: test.steps().last().map_or(0, |step| step.step),
        verdict: finding.verdict,
        candidate: finding.candidate,
        rule: config.rule,
        claim,
        reason: finding.reason,
        n_steps: test.steps().len(),
        n_episodes: test.n_episodes(),
        arms,
        p_new_better: finding.candidate.index().checked_sub(1).map_or(0.5, |index| test.p_better()[index]),
        z: finding.z,
        level: finding.level,
        bound: finding.bound,
        counts: test.steps().to_vec(),
    }
}
