//! How a test is decided.

use serde::{Deserialize, Serialize};

use crate::version_test::VersionTest;
use crate::version_test::arms::Arm;
use crate::version_test::config::{Rule, VersionTestConfig};
use crate::version_test::decision::{ArmSummary, Decision, Evidence, Reason, Verdict};
use crate::version_test::score::Score;
use crate::version_test::spending::{Look, bounds, quantile_of_tail, upper_tail};

/// What the stratified rule asks of a candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// It must be shown to be better: the usual question for new guidance.
    #[default]
    Better,
    /// It must do at least as well and not be shown to be worse: the question for a bundle that only deletes, since a
    /// shorter bank that does as well is the better one.
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
    level: Option<f64>,
    spent: Option<f64>,
    /// By candidate; empty where the rule has none.
    bounds: Vec<Option<f64>>,
}

impl Finding {
    fn bare(verdict: Verdict, reason: Reason) -> Self {
        let candidate = Arm::Candidate(0);
        Self { verdict, reason, candidate, level: None, spent: None, bounds: Vec::new() }
    }
}

/// The candidate with the highest posterior mean against the incumbent's; a tie rejects, and of equal candidates the
/// first counts.
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

/// Where one candidate stands at a look.
struct Standing {
    arm: Arm,
    z: Option<f64>,
    bound: Option<f64>,
    /// The statistic is beyond the bound: better, or worse, as the claim asks.
    shown: bool,
    /// It will hardly pass.
    futile: bool,
    /// A deletion that will hardly fail.
    settled: bool,
}

/// The stratified rule on each candidate.
///
/// With k candidates each is tested at level / k (Bonferroni), with bounds of its own, so under equal arms the chance
/// that any passes stays below the level, whatever their dependence. Of several that pass the one with the largest
/// statistic is taken. A test goes on while one candidate is still open.
fn stratified(test: &VersionTest, config: &VersionTestConfig, claim: Claim) -> Option<Finding> {
    #[expect(clippy::cast_precision_loss, reason = "at most 256 arms")]
    let level = config.level / (test.n_arms() - 1) as f64;
    let n_steps = test.steps().len();
    let last_step = if config.early_stop { config.horizon() } else { config.min_steps } as usize;
    let is_last = n_steps >= last_step;
    if !is_last && (!config.early_stop || n_steps < config.first_look as usize) {
        return None;
    }
    let fraction = fraction(n_steps, last_step);
    let standings: Vec<Standing> = (1..test.n_arms())
        .map(Arm::from_index)
        .map(|arm| {
            let z = Score::of(test.steps(), arm).z();
            // What counts against equality: better, or worse.
            let against = z.map(|z| if claim == Claim::Better { z } else { -z });
            let bound = z.map(|_| bound_now(test, config, arm, level, last_step));
            let shown = against.zip(bound).is_some_and(|(against, bound)| against > bound);
            // What it must end above to pass.
            let goal = if claim == Claim::Better { quantile_of_tail(level) } else { 0.0 };
            let chance = z.filter(|_| !is_last && !shown).map(|z| conditional_power(z, fraction, goal));
            let futile = chance.is_some_and(|chance| chance < config.futility);
            let settled =
                claim == Claim::NotWorse && chance.is_some_and(|chance| 1.0 - chance < config.futility);
            Standing { arm, z, bound, shown, futile, settled }
        })
        .collect();
    let (verdict, reason, arm) = judge(&standings, claim, is_last)?;
    Some(Finding {
        verdict,
        reason,
        candidate: arm,
        level: Some(level),
        spent: Some(if config.early_stop { config.spending.spent(level, fraction) } else { level }),
        bounds: standings.iter().map(|standing| standing.bound).collect(),
    })
}

/// The verdict at a look, if there is one, and the candidate it is about.
fn judge(standings: &[Standing], claim: Claim, is_last: bool) -> Option<(Verdict, Reason, Arm)> {
    let best = |which: &dyn Fn(&Standing) -> bool| {
        let z = |standing: &Standing| standing.z.unwrap_or(f64::NEG_INFINITY);
        standings
            .iter()
            .filter(|standing| which(standing))
            .reduce(|best, other| if z(other) > z(best) { other } else { best })
    };
    let crossed = if is_last { Reason::FinalBound } else { Reason::EarlyBound };
    let not_crossed = |standing: &Standing| {
        if standing.z.is_some() { Reason::BelowBound } else { Reason::NoInformation }
    };
    let leader = best(&|_| true)?;
    match claim {
        Claim::Better => {
            if let Some(winner) = best(&|standing| standing.shown) {
                Some((Verdict::Accept, crossed, winner.arm))
            } else if is_last {
                Some((Verdict::Reject, not_crossed(leader), leader.arm))
            } else if standings.iter().all(|standing| standing.futile) {
                Some((Verdict::Reject, Reason::Futility, leader.arm))
            } else {
                None
            }
        }
        Claim::NotWorse => {
            let Some(left) = best(&|standing| !standing.shown) else {
                return Some((Verdict::Reject, crossed, leader.arm));
            };
            if is_last {
                // Without any information the shorter bank is as good.
                let as_good = left.z.is_none_or(|z| z >= 0.0);
                let verdict = if as_good { Verdict::Accept } else { Verdict::Reject };
                Some((verdict, not_crossed(left), left.arm))
            } else if left.settled {
                Some((Verdict::Accept, Reason::Futility, left.arm))
            } else if standings.iter().all(|standing| standing.shown || standing.futile) {
                Some((Verdict::Reject, Reason::Futility, left.arm))
            } else {
                None
            }
        }
    }
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
        return quantile_of_tail(level);
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
            let spent = config.spending.spent(level, fraction(n_steps, last_step));
            looks.push(Look { variance: total.variance, spent });
        }
    }
    bounds(&looks).last().copied().unwrap_or_else(|| quantile_of_tail(level))
}

#[expect(clippy::cast_precision_loss, reason = "counts of steps are small")]
fn fraction(n_steps: usize, last_step: usize) -> f64 {
    n_steps as f64 / last_step as f64
}

/// Probability that the statistic ends above `goal` if the trend seen so far goes on.
fn conditional_power(z: f64, fraction: f64, goal: f64) -> f64 {
    // Brownian motion at time t: B = z sqrt(t), drift B / t, so the mean at time 1 is B / t, the variance 1 - t.
    let mean_at_end = z / fraction.sqrt();
    upper_tail((goal - mean_at_end) / (1.0 - fraction).sqrt())
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
    let evidence: Vec<Evidence> =
        (1..test.n_arms()).map(|index| evidence(test, claim, &finding, index)).collect();
    let chosen = finding.candidate.index().checked_sub(1).and_then(|index| evidence.get(index));
    let tested = finding.level.and(chosen);
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
        p_new_better: chosen.map_or(0.5, |chosen| chosen.p_better),
        z: tested.and_then(|tested| tested.z),
        level: finding.level,
        bound: tested.and_then(|tested| tested.bound),
        spent: finding.spent,
        evidence,
        counts: test.steps().to_vec(),
    }
}

fn evidence(test: &VersionTest, claim: Claim, finding: &Finding, index: usize) -> Evidence {
    let arm = Arm::from_index(index);
    let score = Score::of(test.steps(), arm);
    let z = score.z();
    Evidence {
        arm,
        score,
        z,
        p_value: z.map(|z| upper_tail(if claim == Claim::Better { z } else { -z })),
        bound: finding.bounds.get(index - 1).copied().flatten(),
        p_better: test.p_better()[index - 1],
        p_best: test.p_best()[index],
    }
}
