use reskill_grpo::loss::BatchTotals;
use reskill_grpo::{Aggregation, LossConfig, OldLogprobs, SequenceUnit, Surrogate, TokenTrajectory};

use crate::support::random_trajectories;

/// Sum of the weights of all trained tokens, and the largest difference of the sums of two sequences.
fn check(aggregation: Aggregation, constant: f32) -> (f64, f64, BatchTotals) {
    let trajectories = random_trajectories(9, 1);
    let members: Vec<&TokenTrajectory> = trajectories.iter().collect();
    let totals = BatchTotals::of(&members, SequenceUnit::Turn);
    let config = LossConfig { aggregation, constant, ..LossConfig::default() };
    let mut sums: Vec<f64> = Vec::new();
    for turn in trajectories.iter().flat_map(|trajectory| &trajectory.turns) {
        let trained = turn.reply.iter().filter(|token| !token.is_forced()).count();
        if trained > 0 {
            sums.push(trained as f64 * f64::from(config.token_weight(trained, totals)));
        }
    }
    let (low, high) = sums.iter().fold((f64::MAX, 0.0_f64), |(low, high), &x| (low.min(x), high.max(x)));
    (sums.iter().sum(), high - low, totals)
}

#[test]
fn weights_of_a_token_mean_sum_to_one() {
    let (sum, spread, totals) = check(Aggregation::TokenMean, 1.0);
    // f32 weights, 34 of them.
    assert!((sum - 1.0).abs() < 1e-5 && spread > 0.01);
    let trajectories = random_trajectories(9, 1);
    assert_eq!(totals.tokens, trajectories.iter().map(TokenTrajectory::trained_len).sum::<usize>());
    assert_eq!(totals.sequences, trajectories.iter().map(|trajectory| trajectory.turns.len()).sum::<usize>());
}

#[test]
fn weights_of_a_sequence_mean_of_token_means_sum_to_one_equally_over_sequences() {
    let (sum, spread, _) = check(Aggregation::SeqMeanTokenMean, 1.0);
    assert!((sum - 1.0).abs() < 1e-5 && spread < 1e-7);
}

#[test]
fn weights_of_a_sequence_mean_of_token_sums_sum_to_the_mean_length() {
    let (sum, _, totals) = check(Aggregation::SeqMeanTokenSum, 1.0);
    assert!((sum - totals.tokens as f64 / totals.sequences as f64).abs() < 1e-5);
}

#[test]
fn weights_of_a_constant_are_its_inverse_each() {
    let (sum, _, totals) = check(Aggregation::Constant, 64.0);
    assert!((sum - totals.tokens as f64 / 64.0).abs() < 1e-5);
}

#[test]
fn loss_config_refuses_values_out_of_range() {
    let refused = |edit: fn(&mut LossConfig)| {
        let mut odd = LossConfig::default();
        edit(&mut odd);
        odd.validate().unwrap_err().to_string()
    };
    LossConfig::default().validate().unwrap();
    assert_eq!(refused(|c| c.clip_low = 1.5), "`loss.clip_low` = 1.5, expected a number in (0, 1)");
    assert_eq!(refused(|c| c.clip_high = 0.0), "`loss.clip_high` = 0, expected a number > 0");
    assert_eq!(refused(|c| c.dual_clip = Some(1.0)), "`loss.dual_clip` = 1, expected a number > 1");
    assert_eq!(refused(|c| c.k3_clamp = Some(-1.0)), "`loss.k3_clamp` = -1, expected a number > 0");
    assert_eq!(refused(|c| c.kl_coef = f32::NAN), "`loss.kl_coef` = NaN, expected a number >= 0");
    assert_eq!(
        refused(|c| c.gradient_filter = Some(0.0)),
        "`loss.gradient_filter` = 0, expected a number in (0, 1)"
    );
    assert_eq!(
        refused(|c| c.importance_truncation = Some(2.0)),
        "`loss.old_logprobs` = sampler, expected `recompute` where loss.importance_truncation is set"
    );
    let open = LossConfig { surrogate: Surrogate::Cispo, clip_low: 1.0, ..LossConfig::default() };
    open.validate().unwrap();
    let truncated = LossConfig {
        importance_truncation: Some(2.0),
        old_logprobs: OldLogprobs::Recompute,
        ..LossConfig::default()
    };
    truncated.validate().unwrap();
}

#[test]
fn an_episode_as_sequence_counts_its_turns_together() {
    let trajectories = random_trajectories(9, 1);
    let members: Vec<&TokenTrajectory> = trajectories.iter().collect();
    let (turns, episodes) =
        (BatchTotals::of(&members, SequenceUnit::Turn), BatchTotals::of(&members, SequenceUnit::Episode));
    assert_eq!((turns.tokens, episodes.sequences), (episodes.tokens, 9));
    assert!(turns.sequences > episodes.sequences);
}
