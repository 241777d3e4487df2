//! What must not matter: the order of a group, the scale of rewards, how a mini-batch is cut and ordered.

use proptest::prelude::*;
use reskill_grpo::{
    AdvantageConfig, Aggregation, Baseline, Learner, LearnerConfig, LossConfig, Optimizer, OptimizerConfig,
    RatioLevel, SequenceUnit, StdNorm, TokenTrajectory, group_advantages,
};
use reskill_model::Params;

use crate::support::{config, model, random_trajectories, rng};

fn gradient(
    trajectories: &[TokenTrajectory],
    advantages: &[Vec<f32>],
    loss: &LossConfig,
    max_tokens: usize,
    seed: u64,
) -> (f64, Params) {
    let learner_config =
        LearnerConfig { minibatch_turns: 10_000, max_tokens, epochs: 1, ..LearnerConfig::default() };
    let mut learner = Learner::new(&config(), &learner_config).unwrap();
    let mut optimizer = Optimizer::new(&config(), &OptimizerConfig::default()).unwrap();
    let metrics = learner
        .update(&mut model(1), &mut optimizer, &model(2), trajectories, advantages, loss, 1.0, &mut rng(seed))
        .unwrap();
    (metrics.loss, learner.grads().full().unwrap().clone())
}

fn losses() -> impl Strategy<Value = LossConfig> {
    let aggregation = prop_oneof![
        Just(Aggregation::TokenMean),
        Just(Aggregation::SeqMeanTokenSum),
        Just(Aggregation::SeqMeanTokenMean),
        Just(Aggregation::Constant),
    ];
    let ratio = prop_oneof![Just(RatioLevel::Token), Just(RatioLevel::Sequence)];
    let sequence = prop_oneof![Just(SequenceUnit::Turn), Just(SequenceUnit::Episode)];
    (aggregation, ratio, sequence).prop_map(|(aggregation, ratio, sequence)| LossConfig {
        aggregation,
        ratio,
        sequence,
        constant: 30.0,
        entropy_coef: 0.02,
        ..LossConfig::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn the_order_of_a_batch_does_not_change_advantages(
        members in prop::collection::vec((-5.0_f32..5.0, 0_u64..4), 1..20),
        turn in 0_usize..20,
    ) {
        for baseline in [Baseline::Group, Baseline::LeaveOneOut] {
            let config = AdvantageConfig { baseline, ..AdvantageConfig::default() };
            let of = |members: &[(f32, u64)]| {
                let (returns, groups): (Vec<f32>, Vec<u64>) = members.iter().copied().unzip();
                group_advantages(&returns, &groups, &config).unwrap()
            };
            let mut turned = members.clone();
            let by = turn % members.len();
            turned.rotate_left(by);
            let mut want = of(&members);
            want.rotate_left(by);
            prop_assert_eq!(of(&turned), want);
        }
    }

    #[test]
    fn the_scale_of_rewards_does_not_change_advantages_that_are_divided(
        returns in prop::collection::vec(-1.0_f32..1.0, 2..12),
        scale in 0.5_f32..100.0,
        shift in -3.0_f32..3.0,
    ) {
        let spread = returns.iter().copied().fold(f32::MIN, f32::max) - returns.iter().copied().fold(f32::MAX, f32::min);
        prop_assume!(spread > 0.05);
        let config = AdvantageConfig { eps: 0.0, ..AdvantageConfig::default() };
        let of = |returns: &[f32], config: &AdvantageConfig| {
            group_advantages(returns, &vec![0; returns.len()], config).unwrap()
        };
        let moved: Vec<f32> = returns.iter().map(|x| scale * x + shift).collect();
        for (a, b) in of(&returns, &config).iter().zip(of(&moved, &config)) {
            // The moved returns are rounded to f32: 3e-7 of up to 100, beside a spread of 0.05 times the scale.
            prop_assert!((a - b).abs() < 1e-3, "{} against {}", a, b);
        }
        let plain = AdvantageConfig { std_norm: StdNorm::None, ..config };
        for (a, b) in of(&returns, &plain).iter().zip(of(&moved, &plain)) {
            prop_assert!((scale * a - b).abs() < 1e-4 * scale.max(1.0), "{} against {}", a, b);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) })]

    #[test]
    fn cuts_and_order_of_a_minibatch_do_not_change_its_gradient(
        loss in losses(),
        max_tokens in 1_usize..200,
        seed in 0_u64..1000,
    ) {
        let trajectories = random_trajectories(8, seed);
        let advantages: Vec<Vec<f32>> = trajectories
            .iter()
            .enumerate()
            .map(|(i, it)| (0..it.turns.len()).map(|turn| [1.0, -0.7, 0.2][(i + turn) % 3]).collect())
            .collect();
        let (whole, one) = gradient(&trajectories, &advantages, &loss, 100_000, 0);
        let (parts, many) = gradient(&trajectories, &advantages, &loss, max_tokens, seed);
        prop_assert!((whole - parts).abs() < 1e-5 * (1.0 + whole.abs()), "{} against {}", whole, parts);
        for (a, b) in one.tensors().iter().zip(many.tensors()) {
            let largest = a.as_slice().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
            // The same f32 terms in another order.
            let close = a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| (a - b).abs() < 2e-5 * largest);
            prop_assert!(close);
        }
    }
}
