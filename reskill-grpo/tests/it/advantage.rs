use std::f32::consts::FRAC_1_SQRT_2;

use reskill_grpo::{AdvantageConfig, Baseline, Singleton, StdNorm, group_advantages, turn_advantages};

use crate::support::{token, trajectory};

fn check(returns: &[f32], groups: &[u64], config: &AdvantageConfig, want: &[f32]) {
    let got = group_advantages(returns, groups, config).unwrap();
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        // The 1e-6 beside the standard deviation moves advantages by a few 1e-6.
        assert!((got - want).abs() < 5e-6, "{got} for {want}");
    }
}

fn group() -> AdvantageConfig {
    AdvantageConfig::default()
}

#[test]
fn group_advantages_match_hand_computed_groups() {
    check(&[1.0, 0.0], &[0, 0], &group(), &[FRAC_1_SQRT_2, -FRAC_1_SQRT_2]);
    // Mean 2, variance (1 + 1 + 4) / 2 = 3.
    check(&[1.0, 1.0, 4.0], &[5, 5, 5], &group(), &[-0.577_350_3, -0.577_350_3, 1.154_700_5]);
    // Two groups, mixed.
    check(&[1.0, 10.0, 0.0, 10.0], &[0, 1, 0, 1], &group(), &[FRAC_1_SQRT_2, 0.0, -FRAC_1_SQRT_2, 0.0]);
}

#[test]
fn group_advantages_of_a_singleton_are_zero_or_raw() {
    check(&[5.0, 1.0, 0.0], &[9, 0, 0], &group(), &[0.0, FRAC_1_SQRT_2, -FRAC_1_SQRT_2]);
    let raw = AdvantageConfig { singleton: Singleton::Raw, ..group() };
    check(&[5.0, 1.0, 0.0], &[9, 0, 0], &raw, &[5.0, FRAC_1_SQRT_2, -FRAC_1_SQRT_2]);
}

#[test]
fn group_advantages_of_equal_returns_are_exactly_zero() {
    for value in [0.95, 0.1, -3.3, 1e6] {
        for n in [2, 3, 5, 7, 8, 13] {
            let advantages = group_advantages(&vec![value; n], &vec![0; n], &group()).unwrap();
            assert!(
                advantages.iter().all(|&advantage| advantage == 0.0),
                "{n} times {value}: {advantages:?}"
            );
        }
    }
}

#[test]
fn group_advantages_without_division_only_take_off_the_mean() {
    let dr_grpo = AdvantageConfig { std_norm: StdNorm::None, ..group() };
    check(&[1.0, 1.0, 4.0], &[0, 0, 0], &dr_grpo, &[-1.0, -1.0, 2.0]);
}

#[test]
fn group_advantages_do_not_depend_on_member_order() {
    let returns = [0.1, 0.7, 0.3, 0.1, 0.9, 0.2, 0.55];
    let straight = group_advantages(&returns, &[0; 7], &group()).unwrap();
    for shift in 1..7 {
        let turned: Vec<f32> = (0..7).map(|i| returns[(i + shift) % 7]).collect();
        let advantages = group_advantages(&turned, &[0; 7], &group()).unwrap();
        for i in 0..7 {
            assert_eq!(advantages[i].to_bits(), straight[(i + shift) % 7].to_bits());
        }
    }
}

#[test]
fn group_advantages_sum_to_zero_and_do_not_depend_on_scale() {
    let returns = [0.1, 0.7, 0.3, 0.15, 0.9];
    let tenfold: Vec<f32> = returns.iter().map(|x| 10.0 * x).collect();
    let (a, b) = (
        group_advantages(&returns, &[0; 5], &group()).unwrap(),
        group_advantages(&tenfold, &[0; 5], &group()).unwrap(),
    );
    assert!(a.iter().sum::<f32>().abs() < 1e-5);
    // The 1e-6 weighs less the larger the returns are: 1e-6 of a deviation of 0.35.
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn group_advantages_refuse_nan_and_lists_of_different_length() {
    let refused = |returns: &[f32], groups: &[u64]| {
        group_advantages(returns, groups, &group()).unwrap_err().to_string()
    };
    assert_eq!(refused(&[1.0, f32::NAN], &[0, 0]), "the return of trajectory 1 is NaN");
    assert_eq!(refused(&[f32::INFINITY], &[0]), "the return of trajectory 0 is inf");
    assert_eq!(refused(&[1.0], &[0, 0]), "`returns` has 1 entries, `groups` has 2");
}

#[test]
fn turn_advantages_take_the_penalty_off_invalid_turns_and_leave_the_statistics_alone() {
    let trajectories = [trajectory(0, 1.0, 3, &[1]), trajectory(0, 0.0, 1, &[])];
    let advantages = turn_advantages(&trajectories, &group()).unwrap();
    // Mean 0.5, deviation 0.7071: (1 - 0.1 - 0.5) / 0.7071.
    let want = [vec![FRAC_1_SQRT_2, 0.565_685_4, FRAC_1_SQRT_2], vec![-FRAC_1_SQRT_2]];
    for (got, want) in advantages.concat().iter().zip(want.concat()) {
        assert!((got - want).abs() < 5e-6, "{got} for {want}");
    }
}

#[test]
fn turn_advantages_of_an_invalid_turn_among_equal_returns_are_minus_the_penalty() {
    let trajectories = [trajectory(0, 0.0, 2, &[1]), trajectory(0, 0.0, 1, &[]), trajectory(7, 3.0, 1, &[0])];
    let advantages = turn_advantages(&trajectories, &group()).unwrap();
    assert_eq!(advantages, [vec![0.0, -0.1], vec![0.0], vec![-0.1]]);
}

#[test]
fn turn_advantages_count_an_episode_once_however_many_turns_it_has() {
    let trajectories = [trajectory(0, 1.0, 9, &[]), trajectory(0, 0.0, 1, &[])];
    let advantages = turn_advantages(&trajectories, &group()).unwrap();
    assert!((advantages[0][8] - FRAC_1_SQRT_2).abs() < 5e-6);
    assert!((advantages[1][0] + FRAC_1_SQRT_2).abs() < 5e-6);
}

#[test]
fn double_normalize_gives_zero_mean_and_unit_variance_over_trained_tokens() {
    let mut trajectories: Vec<_> = (0..6)
        .map(|i| trajectory(i / 3, [0.0, 1.0, 0.3][i as usize % 3], 1 + i as usize % 3, &[0]))
        .collect();
    // Replies of different lengths, and a forced token that does not count.
    trajectories[1].turns[0].reply = vec![token(3, -1.0, &[]), token(4, 0.0, &[4]), token(5, -1.0, &[])];
    let config = AdvantageConfig { double_normalize: true, ..group() };
    let advantages = turn_advantages(&trajectories, &config).unwrap();
    let mut tokens: Vec<f64> = Vec::new();
    for (trajectory, advantages) in trajectories.iter().zip(&advantages) {
        for (turn, &advantage) in trajectory.turns.iter().zip(advantages) {
            let trained = turn.reply.iter().filter(|token| !token.is_forced()).count();
            tokens.extend(std::iter::repeat_n(f64::from(advantage), trained));
        }
    }
    let n = tokens.len() as f64;
    let mean = tokens.iter().sum::<f64>() / n;
    let variance = tokens.iter().map(|a| (a - mean) * (a - mean)).sum::<f64>() / n;
    // Advantages are rounded to f32, 6e-8 of their size.
    assert!(mean.abs() < 1e-6 && (variance - 1.0).abs() < 1e-6, "mean {mean}, variance {variance}");
}

#[test]
fn a_negative_penalty_is_refused() {
    let odd = AdvantageConfig { invalid_action_penalty: -0.5, ..group() };
    assert_eq!(
        odd.validate().unwrap_err().to_string(),
        "`advantage.invalid_action_penalty` = -0.5, expected a number >= 0"
    );
}

#[test]
fn leave_one_out_is_the_distance_to_the_mean_of_the_others() {
    let rloo = AdvantageConfig { baseline: Baseline::LeaveOneOut, std_norm: StdNorm::None, ..group() };
    check(&[1.0, 1.0, 4.0], &[0, 0, 0], &rloo, &[-1.5, -1.5, 3.0]);
    check(&[1.0, 0.0, 7.0], &[0, 0, 1], &rloo, &[1.0, -1.0, 0.0]);
    let trajectories = [trajectory(0, 1.0, 2, &[1]), trajectory(0, 0.0, 1, &[])];
    // The penalty of a turn is not stretched.
    assert_eq!(turn_advantages(&trajectories, &rloo).unwrap(), [vec![1.0, 0.9], vec![-1.0]]);
}

#[test]
fn the_baseline_of_an_arm_compares_inside_the_arm() {
    let mut trajectories = [
        trajectory(0, 1.0, 1, &[]),
        trajectory(0, 0.0, 1, &[]),
        trajectory(0, 1.0, 1, &[]),
        trajectory(0, 0.5, 1, &[]),
    ];
    for (index, trajectory) in trajectories.iter_mut().enumerate() {
        trajectory.stratum = u32::from(index >= 2);
    }
    let by_arm = AdvantageConfig { baseline: Baseline::Arm, std_norm: StdNorm::None, ..group() };
    assert_eq!(turn_advantages(&trajectories, &by_arm).unwrap().concat(), [0.5, -0.5, 0.25, -0.25]);
    let whole = AdvantageConfig { baseline: Baseline::Group, ..by_arm };
    assert_eq!(turn_advantages(&trajectories, &whole).unwrap().concat(), [0.375, -0.625, 0.375, -0.125]);
}
