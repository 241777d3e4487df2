//! The loss is computed where the network runs, and comes back in as few copies whatever the number of packs.

use reskill_grpo::{
    Aggregation, KlEstimator, Learner, LearnerConfig, LossConfig, MomentPrecision, OldLogprobs, Optimizer,
    OptimizerConfig, RatioLevel, SequenceUnit, Surrogate, UpdateMetrics,
};
use reskill_kernels::Device;

use crate::support::{advantages, device, difference, model, narrow, rng, trajectories};

/// One optimizer step over nine trajectories in packs of at most `max_tokens`; the metrics, and the tensors of the gradient.
fn step(device: &Device, loss: &LossConfig, max_tokens: usize) -> (UpdateMetrics, Learner) {
    step_with(device, loss, max_tokens, MomentPrecision::F32)
}

fn step_with(
    device: &Device,
    loss: &LossConfig,
    max_tokens: usize,
    moments: MomentPrecision,
) -> (UpdateMetrics, Learner) {
    let mut policy = model(1).to_device(device).unwrap();
    let reference = model(2).to_device(device).unwrap();
    let config = LearnerConfig { minibatch_turns: 1000, max_tokens, epochs: 1, ..LearnerConfig::default() };
    let mut learner = Learner::for_model(&policy, &config).unwrap();
    let mut optimizer =
        Optimizer::for_model(&policy, &OptimizerConfig { moments, ..OptimizerConfig::default() }).unwrap();
    let (trajectories, rng) = (trajectories(9, 3), &mut rng(1));
    let advantages = advantages(&trajectories);
    let metrics = learner
        .update(&mut policy, &mut optimizer, &reference, &trajectories, &advantages, loss, 0.8, rng)
        .unwrap();
    assert_eq!((metrics.optimizer_steps, metrics.skipped_updates), (1, 0), "{metrics:?}");
    (metrics, learner)
}

/// Every number of an update before its optimizer step: sums, clip fractions, quantiles.
fn numbers(metrics: &UpdateMetrics) -> [f64; 13] {
    let ratio = &metrics.ratio;
    [
        metrics.loss,
        metrics.clip_fraction_high,
        metrics.clip_fraction_low,
        metrics.clip_fraction_dual,
        metrics.approx_kl,
        metrics.ref_kl,
        metrics.entropy,
        ratio.min,
        ratio.p01,
        ratio.p50,
        ratio.p99,
        ratio.max,
        metrics.sampler_mismatch,
    ]
}

fn variants() -> Vec<LossConfig> {
    let plain = LossConfig {
        clip_low: 0.1,
        clip_high: 0.15,
        dual_clip: Some(1.2),
        kl_coef: 0.2,
        entropy_coef: 0.05,
        ..LossConfig::default()
    };
    vec![
        plain.clone(),
        LossConfig { surrogate: Surrogate::Cispo, kl: KlEstimator::K1, ..plain.clone() },
        LossConfig { surrogate: Surrogate::Sapo, kl: KlEstimator::K2, ..plain.clone() },
        LossConfig { surrogate: Surrogate::PolicyGradient, kl_coef: 0.0, ..plain.clone() },
        LossConfig { kl: KlEstimator::Full, ..plain.clone() },
        LossConfig {
            ratio: RatioLevel::Sequence,
            sequence: SequenceUnit::Episode,
            aggregation: Aggregation::SeqMeanTokenMean,
            ..plain.clone()
        },
        LossConfig { ratio: RatioLevel::Sequence, ..plain.clone() },
        LossConfig {
            old_logprobs: OldLogprobs::Recompute,
            importance_truncation: Some(1.1),
            log_ratio_clamp: Some(0.8),
            k3_clamp: Some(0.3),
            aggregation: Aggregation::Constant,
            constant: 7.0,
            ..plain
        },
    ]
}

#[test]
fn every_number_of_an_update_on_a_device_is_that_of_the_processor() {
    for loss in variants() {
        for max_tokens in [40, 10_000] {
            let (want, want_learner) = step(&Device::Cpu, &loss, max_tokens);
            let (got, learner) = step(&device(), &loss, max_tokens);
            for (index, (got, want)) in numbers(&got).into_iter().zip(numbers(&want)).enumerate() {
                // Log-probabilities of a two-block network differ by some 1e-6; ratios here reach e^3.
                assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "{index}: {got} {want}: {loss:?}");
            }
            assert_eq!(got.trained_tokens, want.trained_tokens);
            let off = difference(&learner.grads().tensors(), &want_learner.grads().tensors());
            // Sums over some dozens of tokens in another order.
            assert!(off < 1e-3, "{off}: {loss:?}");
        }
    }
}

#[test]
fn clips_and_divergences_of_the_cases_are_not_trivial() {
    // What the comparison above rests on: with these trajectories every clip and every estimator has something to do.
    let (metrics, _) = step(&Device::Cpu, &variants()[0], 10_000);
    assert!(metrics.clip_fraction_high > 0.05 && metrics.clip_fraction_low > 0.05, "{metrics:?}");
    assert!(
        metrics.clip_fraction_dual > 0.0 && metrics.ref_kl > 1e-3 && metrics.approx_kl > 1e-2,
        "{metrics:?}"
    );
}

#[test]
fn the_host_waits_as_often_for_many_packs_as_for_one() {
    let recomputed = LossConfig { old_logprobs: OldLogprobs::Recompute, ..LossConfig::default() };
    // Sums of the loss, log-probabilities, and the norm of the gradient; log-probabilities once more where they are
    // recomputed.
    for (loss, downloads) in [(LossConfig::default(), 3), (recomputed, 4)] {
        for device in [device(), narrow()] {
            for (max_tokens, moments) in [30, 10_000]
                .into_iter()
                .flat_map(|n| [MomentPrecision::F32, MomentPrecision::EightBit].map(|moments| (n, moments)))
            {
                let counted = reskill_simt::counters::count(|| {
                    step_with(&device, &loss, max_tokens, moments);
                });
                // A real driver counts nothing.
                let waits = counted.map_or(downloads, |counted| counted.downloads);
                assert_eq!(waits, downloads, "{max_tokens} tokens a pack, {moments:?}: {loss:?}");
            }
        }
    }
}
