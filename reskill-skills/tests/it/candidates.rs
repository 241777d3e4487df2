//! Several candidate banks under test at once.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_skills::version_test::{Claim, Reason, assign, shares};
use reskill_skills::{
    Arm, HistoryKind, Lifecycle, LifecycleConfig, Operation, SkillBank, SkillContent, SkillEpisode, Trigger,
    Verdict, VersionTest, VersionTestConfig,
};

use crate::world::{FORGETFUL, play};

fn bundle(name: &str) -> Vec<Operation> {
    vec![Operation::Add(SkillContent {
        name: name.into(),
        when_to_use: "Right after a `go to` command.".into(),
        action: "next open".into(),
        example: None,
        trigger: Trigger::after_action("^go to").unwrap(),
        guidance: Some("next open".parse().unwrap()),
    })]
}

fn lifecycle() -> Lifecycle {
    let mut lifecycle = Lifecycle::new(LifecycleConfig::default(), SkillBank::default()).unwrap();
    lifecycle.start_test(0, vec![bundle("one"), bundle("two"), bundle("three")]).unwrap();
    lifecycle
}

#[test]
fn a_lifecycle_holds_and_tests_several_banks_and_keeps_one_at_most() {
    let mut lifecycle = lifecycle();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut decision = None;
    for step in 1..=5u64 {
        let mut episodes: Vec<SkillEpisode> = Vec::new();
        for group in step * 64..(step + 1) * 64 {
            let arms = lifecycle.assign_arms(8, &mut rng);
            assert!((0..4).all(|index| arms.contains(&Arm::from_index(index))), "{arms:?}");
            for arm in arms {
                assert_eq!(lifecycle.bank(arm).n_active(), usize::from(arm != Arm::Incumbent));
                // Only the second bundle is shown to the policy of this world.
                let shown =
                    if arm == Arm::Candidate(1) { lifecycle.bank(arm) } else { lifecycle.incumbent() };
                episodes.push(play(group, FORGETFUL, shown, arm, group, rng.random()));
            }
        }
        let json = serde_json::to_string(&lifecycle).unwrap();
        lifecycle = serde_json::from_str(&json).unwrap();
        decision = lifecycle.observe(step, &episodes).unwrap();
        if decision.is_some() {
            break;
        }
    }
    let decision = decision.unwrap();
    assert_eq!(
        (decision.verdict, decision.candidate),
        (Verdict::Accept, Arm::Candidate(1)),
        "{:?} {:?}",
        decision.reason,
        decision.arms
    );
    assert_eq!((decision.arms.len(), decision.evidence.len()), (4, 3));
    assert!((decision.level.unwrap() - 0.10 / 3.0).abs() < 1e-15);
    let names: Vec<&str> = lifecycle.incumbent().skills().iter().map(|skill| skill.name()).collect();
    assert_eq!(names, ["two"]);
    let kinds: Vec<HistoryKind> = lifecycle.history().iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [HistoryKind::Rejected, HistoryKind::Rejected, HistoryKind::Accepted]);
}

#[test]
fn a_withdrawn_test_leaves_the_incumbent_and_a_record_of_each_candidate() {
    let mut lifecycle = lifecycle();
    let before = lifecycle.incumbent().skills().to_vec();
    lifecycle.withdraw_test(4, "why");
    assert!(!lifecycle.is_testing());
    assert_eq!(lifecycle.incumbent().skills(), before);
    let records = lifecycle.history();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| {
        record.kind == HistoryKind::Rejected
            && record.step == 4
            && record.reason == "why"
            && record.decision.is_none()
    }));
    let n_history = records.len();
    lifecycle.withdraw_test(5, "nothing is running");
    assert_eq!(lifecycle.history().len(), n_history);
}

/// Five steps of 16 groups of 9; the candidates succeed with these rates, the incumbent with 0.4.
fn decide(
    config: &VersionTestConfig,
    claim: Claim,
    rates: &[f64],
    rng: &mut ChaCha8Rng,
) -> (Verdict, Reason, Arm) {
    let mut test = VersionTest::new(u8::try_from(rates.len()).unwrap());
    for step in 0..5u64 {
        let shares = shares(config, test.p_best());
        let mut outcomes = Vec::new();
        for group in 0..16 {
            for arm in assign(&shares, 9, config.sampling, rng) {
                let rate = arm.index().checked_sub(1).map_or(0.4, |index| rates[index]);
                outcomes.push((step * 16 + group, arm, rng.random_bool(rate)));
            }
        }
        test.record(step, outcomes, config.discount, None);
        if let Some(decision) = test.decide(config, claim) {
            return (decision.verdict, decision.reason, decision.candidate);
        }
    }
    panic!("no decision after five steps");
}

#[test]
fn the_chance_that_any_of_three_useless_candidates_passes_stays_below_the_level() {
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    let config = VersionTestConfig::default();
    let n = 600;
    let accepted =
        (0..n).filter(|_| decide(&config, Claim::Better, &[0.4; 3], &mut rng).0 == Verdict::Accept).count();
    // Level 0.10, and 4 standard deviations of a share of 600.
    assert!((accepted as f64) < 600.0 * (0.10 + 4.0 * (0.09_f64 / 600.0).sqrt()), "{accepted} of {n}");
    assert!(accepted > 10, "the level is hardly used: {accepted} of {n}");
}

#[test]
fn a_good_candidate_is_found_beside_bad_ones_and_all_bad_ones_are_dropped_early() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let config = VersionTestConfig::default();
    for _ in 0..20 {
        let (verdict, _, arm) = decide(&config, Claim::Better, &[0.2, 0.75, 0.3, 0.4], &mut rng);
        assert_eq!((verdict, arm), (Verdict::Accept, Arm::Candidate(1)));
        let (verdict, reason, _) = decide(&config, Claim::Better, &[0.1, 0.1], &mut rng);
        assert_eq!((verdict, reason), (Verdict::Reject, Reason::Futility));
        // Deletions: one that harms and one that helps; the latter is carried out.
        let (verdict, _, arm) = decide(&config, Claim::NotWorse, &[0.05, 0.6], &mut rng);
        assert_eq!((verdict, arm), (Verdict::Accept, Arm::Candidate(1)));
        let (verdict, _, _) = decide(&config, Claim::NotWorse, &[0.05, 0.05], &mut rng);
        assert_eq!(verdict, Verdict::Reject);
    }
}
