//! Operating characteristics of the decision rules, simulated.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_skills::version_test::{Claim, Reason, assign, shares};
use reskill_skills::{Arm, Decision, Verdict, VersionTest, VersionTestConfig};

/// 16 tasks x 8 rollouts a step; difficulty q of a task is drawn from {0.05, 0.5, 0.95}; the incumbent succeeds with
/// 0.9 q, the candidate with 0.9 q + delta.
fn simulate(config: &VersionTestConfig, delta: f64, claim: Claim, rng: &mut ChaCha8Rng) -> Decision {
    let mut test = VersionTest::new(1);
    for step in 0..40u64 {
        let shares = shares(config, test.p_best());
        let mut outcomes = Vec::new();
        for group in 0..16 {
            let q = 0.9 * [0.05, 0.5, 0.95][rng.random_range(0..3)];
            for arm in assign(&shares, 8, config.sampling, rng) {
                let p: f64 = if arm == Arm::Incumbent { q } else { q + delta };
                outcomes.push((step * 16 + group, arm, rng.random_bool(p.clamp(0.0, 1.0))));
            }
        }
        test.record(step, outcomes, config.discount, None);
        if let Some(decision) = test.decide(config, claim) {
            return decision;
        }
    }
    panic!("no decision after 40 steps");
}

/// Share accepted and mean episodes.
fn rates(config: &VersionTestConfig, delta: f64, claim: Claim, n: u32) -> (f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let (mut accepted, mut episodes) = (0u32, 0u64);
    for _ in 0..n {
        let decision = simulate(config, delta, claim, &mut rng);
        accepted += u32::from(decision.verdict == Verdict::Accept);
        episodes += decision.n_episodes;
    }
    (f64::from(accepted) / f64::from(n), episodes as f64 / f64::from(n))
}

#[test]
fn stratified_rule_holds_its_level_and_finds_a_tenth() {
    let config = VersionTestConfig::default();
    let (false_accepts, spent_at_null) = rates(&config, 0.0, Claim::Better, 400);
    let (power, spent) = rates(&config, 0.10, Claim::Better, 300);
    // Level 0.10 plus 4 standard deviations of a share of 400.
    assert!(false_accepts < 0.16, "{false_accepts}");
    assert!(power > 0.88, "{power}");
    // The paper rule always spends 640.
    assert!(spent_at_null < 512.0 && spent < 512.0, "{spent_at_null} {spent}");
}

#[test]
fn without_early_stops_the_test_ends_at_the_minimum() {
    let config = VersionTestConfig { early_stop: false, ..VersionTestConfig::default() };
    let (false_accepts, spent) = rates(&config, 0.0, Claim::Better, 400);
    let (power, _) = rates(&config, 0.10, Claim::Better, 300);
    assert!(false_accepts < 0.16 && power > 0.92, "{false_accepts} {power}");
    assert!((spent - 640.0).abs() < 1e-9);
}

#[test]
fn paper_rule_accepts_about_every_second_useless_candidate() {
    let (false_accepts, spent) = rates(&VersionTestConfig::paper(), 0.0, Claim::Better, 300);
    assert!((0.38..0.62).contains(&false_accepts), "{false_accepts}");
    assert!((spent - 640.0).abs() < 1e-9);
}

#[test]
fn a_deletion_passes_if_it_does_at_least_as_well() {
    let config = VersionTestConfig::default();
    let accepted = |delta| rates(&config, delta, Claim::NotWorse, 300).0;
    // Of deletions that change nothing every second one passes, 4 standard deviations of a share of 300 around a half; what is
    // kept has another test after its cool-down. A loss of 5 points, which 640 episodes can hardly show (standard error 4), passes one
    // time in six, one of 15 never.
    let (helpful, harmless, harmful, ruinous) =
        (accepted(0.10), accepted(0.0), accepted(-0.05), accepted(-0.15));
    assert!(helpful > 0.9 && (0.38..0.62).contains(&harmless), "{helpful} {harmless}");
    assert!(harmful < 0.25 && ruinous < 0.02, "{harmful} {ruinous}");
}

#[test]
fn a_decision_explains_itself() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let config = VersionTestConfig::default();
    let decision = simulate(&config, 0.4, Claim::Better, &mut rng);
    assert_eq!((decision.verdict, decision.reason), (Verdict::Accept, Reason::EarlyBound));
    assert!(decision.z.unwrap() > decision.bound.unwrap());
    assert_eq!(decision.counts.len(), decision.n_steps);
    assert_eq!(decision.arms.iter().map(|arm| arm.episodes).sum::<u64>(), decision.n_episodes);
    let json = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision);
}

#[test]
fn groups_without_contrast_end_in_a_rejection_for_lack_of_information() {
    let config = VersionTestConfig::default();
    let mut test = VersionTest::new(1);
    for step in 0..5 {
        assert!(test.decide(&config, Claim::Better).is_none());
        let outcomes = (0..20).map(|i| (step, Arm::from_index(i % 2), true));
        test.record(step, outcomes, config.discount, None);
    }
    let decision = test.decide(&config, Claim::Better).unwrap();
    assert_eq!((decision.verdict, decision.reason), (Verdict::Reject, Reason::NoInformation));
}

#[test]
fn the_best_of_several_candidates_is_the_one_accepted() {
    let config = VersionTestConfig { early_stop: false, ..VersionTestConfig::default() };
    let mut test = VersionTest::new(2);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for step in 0..5u64 {
        let shares = shares(&config, test.p_best());
        let mut outcomes = Vec::new();
        for group in 0..16 {
            for arm in assign(&shares, 9, config.sampling, &mut rng) {
                let p = if arm == Arm::Candidate(1) { 0.8 } else { 0.4 };
                outcomes.push((step * 16 + group, arm, rng.random_bool(p)));
            }
        }
        test.record(step, outcomes, config.discount, None);
    }
    let decision = test.decide(&config, Claim::Better).unwrap();
    assert_eq!((decision.verdict, decision.candidate), (Verdict::Accept, Arm::Candidate(1)));
    assert_eq!(decision.level, Some(0.05));
}
