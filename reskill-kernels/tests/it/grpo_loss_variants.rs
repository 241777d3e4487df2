//! Every variant of the loss: the code itself in f64 against its formula and against finite differences, and in f32
//! against f64.

use reskill_kernels::ops::{
    GrpoLossInputs, GrpoLossParams, GrpoLossSums, KlEstimator, RatioLevel, Real, Surrogate, grpo_loss,
};
use reskill_kernels::{Device, Tensor};

use crate::support::{ids, random};

/// The columns of a batch in f64.
#[derive(Clone)]
struct Batch {
    logprobs: Vec<f64>,
    old: Vec<f64>,
    sampler: Vec<f64>,
    reference: Vec<f64>,
    entropy: Vec<f64>,
    advantages: Vec<f64>,
    weights: Vec<f64>,
    sequences: Vec<u32>,
}

/// Tokens of sequences that are interleaved, a fifth of them masked, ratios on both sides of every clip.
fn batch(n: usize, seed: u64) -> Batch {
    let columns = random(&[7, n], seed);
    let column = |row: usize| -> Vec<f64> {
        columns.as_slice()[row * n..(row + 1) * n].iter().map(|&x| f64::from(x)).collect()
    };
    let shifted = |row: usize, by: f64| -> Vec<f64> { column(row).into_iter().map(|x| x + by).collect() };
    Batch {
        logprobs: shifted(0, -2.0),
        old: shifted(1, -2.0),
        sampler: column(6).iter().zip(shifted(1, -2.0)).map(|(noise, old)| old + 0.5 * noise).collect(),
        reference: shifted(2, -2.0),
        entropy: shifted(3, 1.0),
        advantages: column(4).into_iter().map(|x| 2.0 * x).collect(),
        weights: (0..n).map(|i| if i % 5 == 3 { 0.0 } else { 0.5 + column(5)[i].abs() }).collect(),
        sequences: (0..n as u32).map(|i| 700 - 100 * (i % 4)).collect(),
    }
}

fn run<F: Real>(batch: &Batch, params: &GrpoLossParams) -> (GrpoLossSums, Vec<f64>, Vec<f64>) {
    let n = batch.logprobs.len();
    let column =
        |xs: &[f64]| Tensor::<F>::from_vec(&[n], xs.iter().map(|&x| F::from_f64(x)).collect()).unwrap();
    let inputs = GrpoLossInputs {
        logprobs: &column(&batch.logprobs),
        old_logprobs: &column(&batch.old),
        sampler_logprobs: &column(&batch.sampler),
        ref_logprobs: &column(&batch.reference),
        entropy: &column(&batch.entropy),
        advantages: &column(&batch.advantages),
        weights: &column(&batch.weights),
        sequences: &ids(&batch.sequences),
    };
    let zeros = || Tensor::<F>::zeros(&[n], &Device::Cpu).unwrap();
    let (mut d_logprobs, mut d_entropy) = (zeros(), zeros());
    let sums = grpo_loss(&mut d_logprobs, &mut d_entropy, &inputs, params).unwrap();
    let wide = |x: Tensor<F>| x.as_slice().iter().map(|x| x.to_f64()).collect();
    (sums, wide(d_logprobs), wide(d_entropy))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The loss from its formulas. `held` are the log-probabilities where a ratio is not differentiated.
fn formula(batch: &Batch, held: &[f64], params: &GrpoLossParams) -> f64 {
    let n = batch.logprobs.len();
    let kept: Vec<usize> = (0..n).filter(|&i| batch.weights[i] != 0.0).collect();
    let log_ratio = |logprobs: &[f64], i: usize| {
        let members: Vec<usize> = match params.ratio {
            RatioLevel::Token => vec![i],
            RatioLevel::Sequence => {
                kept.iter().copied().filter(|&j| batch.sequences[j] == batch.sequences[i]).collect()
            }
        };
        members.iter().map(|&j| logprobs[j] - batch.old[j]).sum::<f64>() / members.len() as f64
    };
    let mut total = 0.0;
    for &i in &kept {
        let (a, logprob) = (batch.advantages[i], batch.logprobs[i]);
        let clip = |r: f64| r.clamp(1.0 - params.clip_low, 1.0 + params.clip_high);
        let r = log_ratio(&batch.logprobs, i).exp();
        let policy = match params.surrogate {
            Surrogate::Clip => {
                let loss = (-r * a).max(-clip(r) * a);
                match params.dual_clip {
                    Some(dual) if a < 0.0 => loss.min(-dual * a),
                    _ => loss,
                }
            }
            Surrogate::Cispo => -clip(log_ratio(held, i).exp()) * a * logprob,
            Surrogate::Sapo => {
                let tau = if a > 0.0 { 1.0 } else { 1.05 };
                -sigmoid(tau * (r - 1.0)) * 4.0 / tau * a
            }
            Surrogate::PolicyGradient => -a * logprob,
        };
        let correction =
            params.importance_truncation.map_or(1.0, |c| (batch.old[i] - batch.sampler[i]).exp().min(c));
        let d = batch.reference[i] - logprob;
        let kl = match params.kl {
            KlEstimator::K1 => -d,
            KlEstimator::K2 => d * d / 2.0,
            KlEstimator::K3 => d.exp() - d - 1.0,
            KlEstimator::Full => batch.reference[i],
        };
        total += batch.weights[i]
            * (correction * policy + params.kl_coef * kl - params.entropy_coef * batch.entropy[i]);
    }
    total
}

/// Value, gradient and the f32 version of one variant.
fn check(params: &GrpoLossParams) {
    for (n, seed) in [(1, 5), (37, 6), (257, 7)] {
        let batch = batch(n, seed);
        let (sums, d_logprobs, d_entropy) = run::<f64>(&batch, params);
        let want = formula(&batch, &batch.logprobs, params);
        assert!(
            (sums.loss - want).abs() < 1e-10 * (1.0 + want.abs()),
            "{params:?}: {} for {want}",
            sums.loss
        );
        let step = 1e-6;
        for i in 0..n {
            let moved = |by: f64| {
                let mut moved = batch.clone();
                moved.logprobs[i] += by;
                formula(&moved, &batch.logprobs, params)
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            // Central differences in f64; none of the seeded tokens lies within 1e-6 of a kink.
            let error = (d_logprobs[i] - slope).abs();
            assert!(
                error < 1e-7 * (1.0 + slope.abs()),
                "{params:?}: token {i}: {} for {slope}",
                d_logprobs[i]
            );
            assert_eq!(d_entropy[i], -params.entropy_coef * batch.weights[i]);
        }
        let (narrow, d_narrow, _) = run::<f32>(&batch, params);
        // f32 keeps seven digits of log-probabilities near 2; ratios below e^3 carry that on.
        assert!((narrow.loss - want).abs() < 2e-6 * n as f64, "{params:?}: f32 {} for {want}", narrow.loss);
        for (got, want) in d_narrow.iter().zip(&d_logprobs) {
            assert!((got - want).abs() < 2e-5 * (1.0 + want.abs()), "{params:?}: f32 {got} for {want}");
        }
    }
}

fn base() -> GrpoLossParams {
    GrpoLossParams { clip_low: 0.2, clip_high: 0.3, ..GrpoLossParams::default() }
}

#[test]
fn every_surrogate_equals_its_formula_and_finite_differences_at_both_ratio_levels() {
    for surrogate in [Surrogate::Clip, Surrogate::Cispo, Surrogate::Sapo, Surrogate::PolicyGradient] {
        for ratio in [RatioLevel::Token, RatioLevel::Sequence] {
            check(&GrpoLossParams { surrogate, ratio, ..base() });
            check(&GrpoLossParams { surrogate, ratio, entropy_coef: 0.1, kl_coef: 0.2, ..base() });
        }
    }
    for ratio in [RatioLevel::Token, RatioLevel::Sequence] {
        check(&GrpoLossParams { ratio, dual_clip: Some(1.5), ..base() });
    }
}

#[test]
fn every_divergence_equals_its_formula_and_finite_differences() {
    for kl in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::Full] {
        check(&GrpoLossParams { kl, kl_coef: 0.7, ..base() });
    }
}

#[test]
fn importance_truncation_weighs_the_policy_term_alone() {
    for surrogate in [Surrogate::Clip, Surrogate::Cispo] {
        check(&GrpoLossParams { surrogate, importance_truncation: Some(1.2), kl_coef: 0.3, ..base() });
    }
    // Where sampler and trainer agree it changes nothing.
    let mut agreed = batch(37, 6);
    agreed.sampler = agreed.old.clone();
    let truncated = GrpoLossParams { importance_truncation: Some(2.0), ..base() };
    assert_eq!(run::<f64>(&agreed, &truncated), run::<f64>(&agreed, &base()));
}

#[test]
fn a_sequence_of_one_token_has_the_tokens_ratio() {
    let mut alone = batch(37, 6);
    alone.sequences = (0..37).collect();
    let by_sequence = GrpoLossParams { ratio: RatioLevel::Sequence, ..base() };
    assert_eq!(run::<f64>(&alone, &by_sequence), run::<f64>(&alone, &base()));
}

#[test]
fn the_order_of_tokens_does_not_change_sequences() {
    let params = GrpoLossParams { ratio: RatioLevel::Sequence, kl_coef: 0.1, ..base() };
    let batch = batch(40, 3);
    let order: Vec<usize> = (0..40).map(|i| (i * 7 + 3) % 40).collect();
    let turned = |xs: &[f64]| -> Vec<f64> { order.iter().map(|&i| xs[i]).collect() };
    let shuffled = Batch {
        logprobs: turned(&batch.logprobs),
        old: turned(&batch.old),
        sampler: turned(&batch.sampler),
        reference: turned(&batch.reference),
        entropy: turned(&batch.entropy),
        advantages: turned(&batch.advantages),
        weights: turned(&batch.weights),
        sequences: order.iter().map(|&i| batch.sequences[i]).collect(),
    };
    let ((a, d_a, _), (b, d_b, _)) = (run::<f64>(&batch, &params), run::<f64>(&shuffled, &params));
    assert!((a.loss - b.loss).abs() < 1e-12);
    assert!(order.iter().zip(&d_b).all(|(&i, d)| (d_a[i] - d).abs() < 1e-12));
}

#[test]
fn extreme_ratios_stay_finite_in_f64_and_are_not_nan_without_an_advantage() {
    let mut extreme = batch(3, 1);
    (extreme.logprobs, extreme.old) = (vec![-0.5, -600.0, -0.5], vec![-600.0, -0.5, -600.0]);
    (extreme.advantages, extreme.weights) = (vec![-1.0, 1.0, 0.0], vec![1.0; 3]);
    let (sums, d_logprobs, _) = run::<f64>(&extreme, &base());
    assert!((sums.loss / 599.5_f64.exp() - 1.0).abs() < 1e-12);
    assert!((d_logprobs[0] / 599.5_f64.exp() - 1.0).abs() < 1e-12);
    assert_eq!(d_logprobs[2], 0.0);
    // In f32 the first overflows; the last is still nothing.
    assert_eq!(run::<f32>(&extreme, &base()).1[2], 0.0);
    // The dual clip bounds it.
    let bounded = run::<f64>(&extreme, &GrpoLossParams { dual_clip: Some(3.0), ..base() });
    assert!((bounded.0.loss - 3.0).abs() < 1e-12 && bounded.0.clipped_dual == 1);
}
