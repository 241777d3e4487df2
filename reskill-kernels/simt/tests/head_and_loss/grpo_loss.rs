//! The loss on the device is that of the CPU.

use reskill_kernels::ops::{
    GrpoLossInputs, GrpoLossParams, GrpoLossSums, KlEstimator, RatioLevel, Surrogate, grpo_loss,
    grpo_loss_into,
};
use reskill_kernels::{DType, Device, Tensor};

use crate::support::{assert_close, bits, column, ids, message, poisoned, values, wide};

const SURROGATES: [Surrogate; 4] =
    [Surrogate::Clip, Surrogate::Cispo, Surrogate::Sapo, Surrogate::PolicyGradient];
const ESTIMATORS: [KlEstimator; 4] = [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::Full];

/// Columns of N tokens, a tenth of them masked; nothing of a masked token may be read.
struct Case {
    columns: [Vec<f32>; 7],
    sequences: Vec<u32>,
}

impl Case {
    fn new(n: usize) -> Case {
        let mut columns: [Vec<f32>; 7] =
            [(1, 1.5), (2, 1.5), (3, 1.5), (4, 1.5), (5, 3.0), (6, 2.0), (7, 0.1)]
                .map(|(seed, scale)| values(seed, n, scale));
        columns[4].iter_mut().for_each(|entropy| *entropy = entropy.abs());
        for i in 0..n {
            if i % 10 == 7 {
                columns.iter_mut().for_each(|column| column[i] = f32::NAN);
                columns[6][i] = 0.0;
            }
            if i % 10 == 4 {
                columns[5][i] = 0.0;
            }
        }
        let sequences = (0..n as u32).map(|i| i * 7 % 5 * 1_000_003).collect();
        Case { columns, sequences }
    }

    fn run(&self, device: &Device, params: &GrpoLossParams) -> (Tensor, Tensor, GrpoLossSums) {
        let n = self.sequences.len();
        let [logprobs, old, sampler, reference, entropy, advantages, weights] =
            self.columns.each_ref().map(|data| column(device, data));
        let inputs = GrpoLossInputs {
            logprobs: &logprobs,
            old_logprobs: &old,
            sampler_logprobs: &sampler,
            ref_logprobs: &reference,
            entropy: &entropy,
            advantages: &advantages,
            weights: &weights,
            sequences: &ids(device, &self.sequences),
        };
        let [mut d_logprobs, mut d_entropy] = [(); 2].map(|()| poisoned(device, DType::F32, &[n]));
        let sums = grpo_loss(&mut d_logprobs, &mut d_entropy, &inputs, params).unwrap();
        let mut kept = Tensor::<f64>::zeros(&[9], device).unwrap();
        let [mut again, mut again_entropy] = [(); 2].map(|()| poisoned(device, DType::F32, &[n]));
        grpo_loss_into(&mut again, &mut again_entropy, &mut kept, &inputs, params).unwrap();
        assert_eq!(GrpoLossSums::from_tensor(&kept).unwrap(), sums);
        assert_eq!((bits(&again), bits(&again_entropy)), (bits(&d_logprobs), bits(&d_entropy)));
        (d_logprobs, d_entropy, sums)
    }
}

fn assert_sums_close(got: &GrpoLossSums, want: &GrpoLossSums, what: &str) {
    let counts = |s: &GrpoLossSums| (s.tokens, s.clipped_high, s.clipped_low, s.clipped_dual);
    assert_eq!(counts(got), counts(want), "{what}");
    let numbers = |s: &GrpoLossSums| [s.loss, s.approx_kl, s.ref_kl, s.entropy, s.max_log_ratio];
    for (got, want) in numbers(got).into_iter().zip(numbers(want)) {
        // f32 values of some 1e-7 each, summed in f64 over up to 1000 tokens.
        assert!((got - want).abs() <= 2e-5 * (1.0 + want.abs()), "{what}: {got} {want}");
    }
}

fn check(n: usize, params: &GrpoLossParams) {
    let device = reskill_simt::device();
    let case = Case::new(n);
    let (d_logprobs, d_entropy, sums) = case.run(&device, params);
    let (want, want_entropy, want_sums) = case.run(&Device::Cpu, params);
    let what = format!("{n} {params:?}");
    // The same f32 operations but for exponentials, which differ in the last place; ratios reach e^3.
    assert_close(&d_logprobs, &wide(&want), 1e-5, &what);
    assert_close(&d_entropy, &wide(&want_entropy), 1e-7, &what);
    assert_sums_close(&sums, &want_sums, &what);
}

#[test]
fn all_variants_equal_the_cpu() {
    for n in [1, 37, 257, 1000] {
        for surrogate in SURROGATES {
            for kl in ESTIMATORS {
                for ratio in [RatioLevel::Token, RatioLevel::Sequence] {
                    let plain = GrpoLossParams {
                        surrogate,
                        kl,
                        ratio,
                        clip_low: 0.2,
                        clip_high: 0.3,
                        kl_coef: 0.1,
                        entropy_coef: 0.02,
                        ..GrpoLossParams::default()
                    };
                    check(n, &plain);
                    let bounded = GrpoLossParams {
                        dual_clip: Some(1.5),
                        log_ratio_clamp: Some(1.0),
                        k3_clamp: Some(0.5),
                        importance_truncation: Some(1.2),
                        ..plain
                    };
                    check(n, &bounded);
                }
            }
        }
    }
}

#[test]
fn without_a_coefficient_the_reference_is_not_read() {
    let mut case = Case::new(37);
    case.columns[3].fill(f32::NAN);
    let params = GrpoLossParams { clip_low: 0.2, clip_high: 0.2, ..GrpoLossParams::default() };
    let (d_logprobs, _, sums) = case.run(&reskill_simt::device(), &params);
    assert!(d_logprobs.to_vec().unwrap().iter().all(|d| d.is_finite()));
    assert!(sums.loss.is_finite());
}

#[test]
fn sums_are_the_same_bits_in_every_order_of_threads() {
    let device = reskill_simt::device();
    let params = GrpoLossParams {
        clip_low: 0.2,
        clip_high: 0.2,
        kl_coef: 0.1,
        ratio: RatioLevel::Sequence,
        ..GrpoLossParams::default()
    };
    let mut first = None;
    reskill_simt::with_each_order(|order| {
        let (d_logprobs, _, sums) = Case::new(700).run(&device, &params);
        let all = (bits(&d_logprobs), sums);
        assert_eq!(*first.get_or_insert_with(|| all.clone()), all, "{order:?}");
    });
}

#[test]
fn f64_is_refused_on_the_device() {
    let device = reskill_simt::device();
    let x = Tensor::<f64>::zeros(&[3], &device).unwrap();
    let inputs = GrpoLossInputs {
        logprobs: &x,
        old_logprobs: &x,
        sampler_logprobs: &x,
        ref_logprobs: &x,
        entropy: &x,
        advantages: &x,
        weights: &x,
        sequences: &ids(&device, &[0; 3]),
    };
    let mut d = [(); 2].map(|()| Tensor::<f64>::zeros(&[3], &device).unwrap());
    let [d_logprobs, d_entropy] = &mut d;
    assert_eq!(
        message(grpo_loss(d_logprobs, d_entropy, &inputs, &GrpoLossParams::default())),
        "grpo_loss: cuda:0 does not offer the loss in f64; use f32; sums are f64 all the same"
    );
}
