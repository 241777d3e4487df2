//! Version tests on simulated rollouts: 16 tasks of 8 rollouts a step, five steps.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use reskill_skills::version_test::spending::quantile_of_tail;
use reskill_skills::version_test::{Assignment, Claim, Rule, assign, shares};
use reskill_skills::{Arm, Verdict, VersionTest, VersionTestConfig};

const TASKS: u64 = 16;
const GROUP_SIZE: usize = 8;
const STEPS: u64 = 5;
const LEVEL: f64 = 0.10;

/// How the difficulty q of a task is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Difficulty {
    /// q = 0.5.
    Equal,
    /// q ~ Beta(0.3, 0.2): most tasks are nearly always won or nearly always lost, as in agent benchmarks.
    Mixed,
}

impl Difficulty {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Difficulty::Equal => "equal",
            Difficulty::Mixed => "mixed",
        }
    }

    fn draw(self, rng: &mut ChaCha8Rng) -> f64 {
        match self {
            Difficulty::Equal => 0.5,
            Difficulty::Mixed => beta_variate(0.3, 0.2, rng),
        }
    }
}

/// The world that a test is run in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scenario {
    pub(crate) difficulty: Difficulty,
    /// The incumbent succeeds with probability `(0.9 - drift * steps left) q`.
    pub(crate) drift: f64,
    /// What the candidate adds to that.
    pub(crate) delta: f64,
    pub(crate) assignment: Assignment,
}

/// The rules that are compared, in the order of a replication's results.
pub(crate) const RULES: [&str; 5] = ["paper", "pooled", "stratified", "stratified_early", "auto_accept"];

/// What a rule did, summed over replications.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) accepted: f64,
    pub(crate) episodes: f64,
    pub(crate) regret: f64,
}

impl Tally {
    fn plus(self, other: Tally) -> Tally {
        Tally {
            accepted: self.accepted + other.accepted,
            episodes: self.episodes + other.episodes,
            regret: self.regret + other.regret,
        }
    }
}

/// All rules on the same simulated rollouts, by rule.
pub(crate) fn simulate(scenario: &Scenario, stream: u64, seed: u64, replications: u64) -> [Tally; 5] {
    (0..replications)
        .into_par_iter()
        .map(|index| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream((stream << 32) | index);
            replicate(scenario, &mut rng)
        })
        // Replications are summed in their order, so the result does not depend on the number of threads.
        .collect::<Vec<_>>()
        .into_iter()
        .fold([Tally::default(); 5], |sum, one| std::array::from_fn(|rule| sum[rule].plus(one[rule])))
}

/// A decision: accepted or not, after so many episodes, with so many lost successes before it.
struct Ending {
    accepted: bool,
    episodes: u64,
    lost: f64,
}

/// One path of five steps. What was played does not depend on the rule, but for where it stops.
fn replicate(scenario: &Scenario, rng: &mut ChaCha8Rng) -> [Tally; 5] {
    let config = |rule, early_stop| VersionTestConfig {
        assignment: scenario.assignment,
        rule,
        early_stop,
        level: LEVEL,
        ..VersionTestConfig::default()
    };
    let configs =
        [config(Rule::Paper, false), config(Rule::Stratified, false), config(Rule::Stratified, true)];
    let mut endings: [Option<Ending>; 3] = [None, None, None];
    let mut test = VersionTest::new(1);
    let (mut episodes, mut lost) = (0, 0.0);
    for step in 0..STEPS {
        play_step(scenario, step, &configs[0], &mut test, rng);
        let of = |arm| test.steps().last().map_or(0, |step| step.totals(arm).episodes);
        let (old, new) = (of(Arm::Incumbent), of(Arm::Candidate(0)));
        episodes += old + new;
        lost += scenario.delta.max(0.0) * old as f64 + (-scenario.delta).max(0.0) * new as f64;
        for (config, ending) in configs.iter().zip(&mut endings) {
            if ending.is_none() {
                *ending = test.decide(config, Claim::Better).map(|decision| Ending {
                    accepted: decision.verdict == Verdict::Accept,
                    episodes: decision.n_episodes,
                    lost,
                });
            }
        }
    }
    let [paper, fixed, early] = endings;
    let pooled = Ending { accepted: pooled_accepts(&test), episodes, lost };
    let at_once = Ending { accepted: true, episodes: 0, lost: 0.0 };
    [paper, Some(pooled), fixed, early, Some(at_once)].map(|ending| {
        // Every rule decides after five steps at the latest; a path without a decision would count as a rejection.
        let ending = ending.unwrap_or(Ending { accepted: false, episodes, lost });
        let worse = if ending.accepted { -scenario.delta } else { scenario.delta };
        let after = worse.max(0.0) * (episodes - ending.episodes) as f64;
        Tally {
            accepted: f64::from(u8::from(ending.accepted)),
            episodes: ending.episodes as f64,
            regret: ending.lost + after,
        }
    })
}

fn play_step(
    scenario: &Scenario,
    step: u64,
    config: &VersionTestConfig,
    test: &mut VersionTest,
    rng: &mut ChaCha8Rng,
) {
    let shares = shares(config, test.p_best());
    let ability = 0.9 - scenario.drift * (STEPS - 1 - step) as f64;
    let mut outcomes = Vec::with_capacity(TASKS as usize * GROUP_SIZE);
    for group in step * TASKS..(step + 1) * TASKS {
        let old_rate = ability * scenario.difficulty.draw(rng);
        let new_rate = (old_rate + scenario.delta).clamp(0.0, 1.0);
        for arm in assign(&shares, GROUP_SIZE, config.sampling, rng) {
            let rate = if arm == Arm::Incumbent { old_rate } else { new_rate };
            outcomes.push((group, arm, rng.random_bool(rate)));
        }
    }
    // In a first test M is unknown: nothing is discounted.
    test.record(step, outcomes, config.discount, None);
}

/// Two proportions, pooled variance, one-sided at the level: what the groups' structure adds is seen against this.
fn pooled_accepts(test: &VersionTest) -> bool {
    let (old, new) = (test.totals(Arm::Incumbent), test.totals(Arm::Candidate(0)));
    let (n0, n1) = (old.episodes as f64, new.episodes as f64);
    let rate = (old.successes + new.successes) as f64 / (n0 + n1);
    let variance = rate * (1.0 - rate) * (1.0 / n0 + 1.0 / n1);
    let difference = new.successes as f64 / n1 - old.successes as f64 / n0;
    variance > 0.0 && difference / variance.sqrt() > quantile_of_tail(LEVEL)
}

/// Beta(a, b) for a, b <= 1, by Johnk's rejection.
fn beta_variate(a: f64, b: f64, rng: &mut ChaCha8Rng) -> f64 {
    loop {
        let x = rng.random::<f64>().powf(1.0 / a);
        let y = rng.random::<f64>().powf(1.0 / b);
        if x + y <= 1.0 && x + y > 0.0 {
            return x / (x + y);
        }
    }
}
