//! Properties of version tests that hold for every input, on inputs drawn by proptest.

use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reskill_skills::version_test::{
    Assignment, Beta, Claim, Counts, Discount, Sampling, Score, assign, p_best, p_greater, shares,
};
use reskill_skills::{Arm, Decision, VersionTest, VersionTestConfig};

fn counts() -> impl Strategy<Value = Counts> {
    (0u64..500)
        .prop_flat_map(|episodes| (0..=episodes).prop_map(move |successes| Counts { episodes, successes }))
}

fn beta() -> impl Strategy<Value = Beta> {
    (-6.0..5.0f64, -6.0..5.0f64).prop_map(|(a, b)| Beta { alpha: 10f64.powf(a), beta: 10f64.powf(b) })
}

/// Steps of outcomes: (group, arm, success) with up to `n_arms` arms.
fn steps(n_arms: usize) -> impl Strategy<Value = Vec<Vec<(u64, Arm, bool)>>> {
    let outcome = (0u64..12, 0..n_arms, any::<bool>())
        .prop_map(|(group, arm, success)| (group, Arm::from_index(arm), success));
    prop::collection::vec(prop::collection::vec(outcome, 0..80), 1..7)
}

fn played(n_arms: usize, steps: &[Vec<(u64, Arm, bool)>], retention: Option<u32>) -> VersionTest {
    let mut test = VersionTest::new(u8::try_from(n_arms - 1).unwrap());
    for (step, outcomes) in steps.iter().enumerate() {
        test.record(step as u64, outcomes.iter().copied(), Discount::Dynamic, retention);
    }
    test
}

fn shares_of(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_update_keeps_a_share_of_the_past_and_all_of_the_present(
        before in beta(), counts in counts(), retention in prop::option::of(1u32..=2000),
    ) {
        let after = Discount::Dynamic.update(before, counts, retention);
        let w = Discount::Dynamic.weight(counts.episodes, retention);
        prop_assert!(w > 0.0 && w <= 1.0 && (retention.is_some() || w == 1.0));
        let (size_before, size_after) = (before.alpha + before.beta, after.alpha + after.beta);
        let expected = w * size_before + counts.episodes as f64;
        prop_assert!((size_after - expected).abs() <= 1e-12 * expected);
        if counts.episodes > 0 {
            // The new mean lies between the old one and what was seen.
            let seen = counts.successes as f64 / counts.episodes as f64;
            let (low, high) = (seen.min(before.mean()), seen.max(before.mean()));
            prop_assert!(after.mean() >= low - 1e-12 && after.mean() <= high + 1e-12);
        } else {
            prop_assert_eq!(after, before);
        }
    }

    #[test]
    fn without_discount_only_the_totals_matter(first in counts(), second in counts()) {
        let none = |posterior, counts| Discount::None.update(posterior, counts, Some(7));
        let both = Counts {
            episodes: first.episodes + second.episodes, successes: first.successes + second.successes,
        };
        prop_assert_eq!(none(none(Beta::UNIFORM, first), second), none(Beta::UNIFORM, both));
    }

    #[test]
    fn p_greater_is_a_probability_that_falls_to_its_complement_and_rises_with_success(
        new in beta(), old in beta(),
    ) {
        let p = p_greater(new, old);
        prop_assert!((0.0..=1.0).contains(&p));
        prop_assert!((p + p_greater(old, new) - 1.0).abs() < 1e-11);
        let luckier = Beta { alpha: 1.5 * new.alpha, ..new };
        prop_assert!(p_greater(luckier, old) >= p - 1e-11);
    }

    #[test]
    fn p_best_goes_with_the_arms_when_they_change_places(arms in prop::collection::vec(beta(), 2..6)) {
        let p = p_best(&arms);
        prop_assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-11);
        let mut turned = arms.clone();
        turned.rotate_left(1);
        let mut expected = p.clone();
        expected.rotate_left(1);
        for (got, expected) in p_best(&turned).iter().zip(&expected) {
            prop_assert!((got - expected).abs() < 1e-11);
        }
    }

    #[test]
    fn tests_and_decisions_read_back_as_they_were_written(
        steps in steps(3), retention in prop::option::of(1u32..=2000),
    ) {
        let test = played(3, &steps, retention);
        let json = serde_json::to_string(&test).unwrap();
        prop_assert_eq!(&serde_json::from_str::<VersionTest>(&json).unwrap(), &test);
        let config = VersionTestConfig { min_episodes: 0, min_steps: 1, ..VersionTestConfig::default() };
        if let Some(decision) = test.decide(&config, Claim::Better) {
            let json = serde_json::to_string(&decision).unwrap();
            prop_assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision);
        }
    }

    #[test]
    fn the_order_of_episodes_does_not_matter_and_names_of_groups_only_for_rounding(
        steps in steps(2), shift in 1u64..12,
    ) {
        let test = played(2, &steps, Some(100));
        let reversed: Vec<Vec<_>> = steps.iter().map(|step| step.iter().rev().copied().collect()).collect();
        prop_assert_eq!(&played(2, &reversed, Some(100)), &test);
        let renamed: Vec<Vec<_>> = steps
            .iter()
            .map(|step| step.iter().map(|(group, arm, won)| ((group + shift) % 12, *arm, *won)).collect())
            .collect();
        let other = played(2, &renamed, Some(100));
        let score = |test: &VersionTest| Score::of(test.steps(), Arm::Candidate(0));
        let (one, two) = (score(&test), score(&other));
        prop_assert!((one.score - two.score).abs() < 1e-12 && (one.variance - two.variance).abs() < 1e-12);
        prop_assert_eq!(test.posteriors(), other.posteriors());
    }

    #[test]
    fn exchanging_the_arms_turns_the_score_around(steps in steps(2)) {
        let exchanged: Vec<Vec<_>> = steps
            .iter()
            .map(|step| step.iter().map(|(group, arm, won)| (*group, Arm::from_index(1 - arm.index()), *won)).collect())
            .collect();
        let score = |steps: &[Vec<_>]| Score::of(played(2, steps, None).steps(), Arm::Candidate(0));
        let (one, two) = (score(&steps), score(&exchanged));
        prop_assert!((one.score + two.score).abs() < 1e-12 && (one.variance - two.variance).abs() < 1e-12);
    }

    #[test]
    fn a_stratified_group_holds_floor_or_ceil_of_every_share_and_every_arm(
        weights in prop::collection::vec(0.01..1.0f64, 2..7), group_size in 2usize..20, seed in any::<u64>(),
    ) {
        let shares = shares_of(&weights);
        let arms = assign(&shares, group_size, Sampling::Stratified, &mut ChaCha8Rng::seed_from_u64(seed));
        prop_assert_eq!(arms.len(), group_size);
        let count = |index: usize| arms.iter().filter(|arm| arm.index() == index).count();
        let everyone = group_size >= shares.len();
        // Arms that would be empty take from the largest: then the others may be off by more than rounding.
        let moved = everyone && shares.iter().any(|share| share * group_size as f64 + 1e-9 < 1.0);
        for (index, share) in shares.iter().enumerate() {
            let expected = share * group_size as f64;
            let n = count(index) as f64;
            prop_assert!(!everyone || n >= 1.0);
            if !moved {
                prop_assert!(n >= (expected - 1e-9).floor() && n <= (expected + 1e-9).ceil(), "{} {}", n, expected);
            }
        }
        if let [_, p] = shares.as_slice() {
            let (low, high) = ((p * group_size as f64).floor(), (p * group_size as f64).ceil());
            let limit = (group_size - 1) as f64;
            let n = count(1) as f64;
            prop_assert!(n >= low.clamp(1.0, limit) && n <= high.clamp(1.0, limit));
        }
    }

    #[test]
    fn shares_stay_within_their_bounds_and_sum_to_one(
        weights in prop::collection::vec(prop_oneof![Just(0.0), 0.0..1.0f64, Just(1e-9)], 2..9),
        p_min in 0.01..0.5f64, p_max in 0.5..0.99f64,
    ) {
        prop_assume!(weights.iter().sum::<f64>() > 0.0);
        let config = VersionTestConfig { p_min, p_max, ..VersionTestConfig::default() };
        let p = shares_of(&weights);
        let shares = shares(&config, &p);
        prop_assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        if let [_, new] = shares.as_slice() {
            prop_assert_eq!(*new, p[1].clamp(p_min, p_max));
        } else {
            let least = 2.0 * p_min / p.len() as f64;
            for share in &shares {
                prop_assert!(*share >= least - 1e-9 && *share <= p_max + 1e-9, "{:?} from {:?}", shares, p);
            }
        }
        for (one, two) in (0..p.len()).zip(1..p.len()) {
            if p.len() > 2 && p[one] <= p[two] {
                prop_assert!(shares[one] <= shares[two] + 1e-12);
            }
        }
    }
}

#[test]
fn stratified_assignment_keeps_every_share_on_average() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    // No share below 1/8, so that no arm has to be filled up.
    for shares in
        [vec![0.37, 0.63], vec![0.85, 0.15], vec![0.2, 0.31, 0.49], vec![0.3, 0.14, 0.19, 0.16, 0.21]]
    {
        let n = 20_000;
        let mut totals = vec![0usize; shares.len()];
        for _ in 0..n {
            for arm in assign(&shares, 8, Sampling::Stratified, &mut rng) {
                totals[arm.index()] += 1;
            }
        }
        for (share, total) in shares.iter().zip(&totals) {
            // A count of a group has a variance of at most 1/4: 5 standard deviations of the mean.
            let mean = *total as f64 / f64::from(n);
            assert!((mean - 8.0 * share).abs() < 5.0 * 0.5 / f64::from(n).sqrt(), "{shares:?} {totals:?}");
        }
    }
}

#[test]
fn uniform_assignment_gives_every_arm_the_same_share() {
    let config = VersionTestConfig { assignment: Assignment::Uniform, ..VersionTestConfig::default() };
    assert_eq!(shares(&config, &[0.1, 0.9]), [0.5, 0.5]);
    assert_eq!(shares(&config, &[0.1, 0.2, 0.3, 0.4]), [0.25; 4]);
}
