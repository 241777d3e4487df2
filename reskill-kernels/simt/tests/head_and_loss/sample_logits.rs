//! Tokens drawn from logits on the device are those that the CPU draws.

use reskill_kernels::ops::{SampledToken, SamplingFilter, sample_logits};
use reskill_kernels::{DType, Device};

use crate::support::{message, tensor, uniforms, values};

fn assert_same(logits: &[f32], vocab: usize, filters: &[SamplingFilter], u: &[f32], dtype: DType) {
    let device = reskill_simt::device();
    let shape = [filters.len(), vocab];
    let placed = tensor(&device, dtype, &shape, logits);
    let rounded = placed.to_device_as(&Device::Cpu, DType::F32).unwrap();
    let ours = sample_logits(&placed, filters, u).unwrap();
    let cpu = sample_logits(&rounded, filters, u).unwrap();
    for (n, (ours, cpu)) in ours.iter().zip(&cpu).enumerate() {
        let (SampledToken { token, logprob, sampling_logprob }, want) = (*ours, *cpu);
        assert_eq!(token, want.token, "row {n} of {vocab}, {:?}, uniform {}", filters[n], u[n]);
        // Two f32 log-sum-exps; sums in f64 or as integers of 44 bits and more.
        assert!(
            (logprob - want.logprob).abs() <= 3e-6 * (1.0 + want.logprob.abs()),
            "{logprob} {}",
            want.logprob
        );
        let off = (sampling_logprob - want.sampling_logprob).abs();
        assert!(
            off <= 1e-6 * (1.0 + want.sampling_logprob.abs()),
            "{sampling_logprob} {}",
            want.sampling_logprob
        );
    }
}

/// Filters of all kinds by turns.
fn filters(n: usize, vocab: usize) -> Vec<SamplingFilter> {
    let of_row = |row: usize| {
        let temperature = [1.0, 0.7, 1.5, 0.0, 0.2][row % 5];
        let top_k = [0, 1, 5, vocab, 40][row / 2 % 5];
        let top_p = [1.0, 0.9, 0.5, 1.0, 0.0][row / 3 % 5];
        let min_p = [0.0, 0.05, 0.0, 0.3][row / 5 % 4];
        SamplingFilter { temperature, top_k, top_p, min_p }
    };
    (0..n).map(of_row).collect()
}

#[test]
fn every_filter_draws_what_the_cpu_draws() {
    for dtype in [DType::F32, DType::Bf16] {
        for vocab in [1, 2, 37, 257, 3000] {
            for scale in [0.01, 3.0, 40.0] {
                let n = 60;
                assert_same(&values(3, n * vocab, scale), vocab, &filters(n, vocab), &uniforms(4, n), dtype);
            }
        }
    }
}

#[test]
fn equal_logits_are_told_apart_by_their_tokens() {
    // 5000 equal logits do not fit a list: the selection goes down to the digits of the tokens.
    let vocab = 5000;
    let filters = [
        SamplingFilter { top_k: 2500, ..SamplingFilter::default() },
        SamplingFilter { top_p: 0.3, ..SamplingFilter::default() },
        SamplingFilter { min_p: 1.0, ..SamplingFilter::default() },
        SamplingFilter::default(),
    ];
    assert_same(&vec![1.5; 4 * vocab], vocab, &filters, &[0.999, 0.61, 0.25, 0.75], DType::F32);
}

#[test]
fn masked_tokens_are_never_drawn() {
    let vocab = 600;
    let mut logits = values(3, 20 * vocab, 3.0);
    for (i, z) in logits.iter_mut().enumerate() {
        if i % 3 > 0 {
            *z = f32::NEG_INFINITY;
        }
    }
    assert_same(&logits, vocab, &filters(20, vocab), &uniforms(8, 20), DType::F32);
}

#[test]
fn numbers_at_both_ends_mean_the_first_and_the_last_token() {
    let vocab = 300;
    let filters =
        [SamplingFilter { top_k: 7, ..SamplingFilter::default() }, SamplingFilter::default()].repeat(2);
    assert_same(
        &values(3, 4 * vocab, 2.0),
        vocab,
        &filters,
        &[0.0, 0.0, 0.999_999_94, 0.999_999_94],
        DType::F32,
    );
}

#[test]
fn the_smallest_temperatures_and_bounds_draw_what_the_cpu_draws() {
    // The reciprocal of 1e-40 is no f32; a bound of 1e-25 lies 57.6 nats below the likeliest.
    let cold = SamplingFilter { temperature: 1e-40, ..SamplingFilter::default() };
    assert_same(&[0.0, -1e-41, -2e-41, -1.0].repeat(3), 4, &[cold; 3], &[0.2, 0.5, 0.9], DType::F32);
    let vocab = 400;
    let descending: Vec<f32> = (0..vocab).map(|v| -0.25 * v as f32).collect();
    let filters = [1e-25, 1e-12, 1e-44].map(|min_p| SamplingFilter { min_p, ..SamplingFilter::default() });
    assert_same(&descending.repeat(3), vocab, &filters, &[0.3, 0.9, 0.999_999], DType::F32);
}

#[test]
fn a_real_vocabulary_is_drawn_from() {
    let vocab = 151_936;
    let filters = [
        SamplingFilter { top_k: 20, top_p: 0.95, ..SamplingFilter::default() },
        SamplingFilter { temperature: 0.6, ..SamplingFilter::default() },
    ];
    assert_same(&values(3, 2 * vocab, 9.0), vocab, &filters, &[0.37, 0.81], DType::Bf16);
}

#[test]
fn rows_without_a_distribution_are_refused() {
    let device = reskill_simt::device();
    for bad in [f32::NAN, f32::INFINITY] {
        let mut logits = values(3, 3 * 40, 2.0);
        logits[50] = bad;
        let placed = tensor(&device, DType::F32, &[3, 40], &logits);
        let got = message(sample_logits(
            &placed,
            &[SamplingFilter { top_k: 3, ..Default::default() }; 3],
            &[0.5; 3],
        ));
        assert!(got.starts_with("sample_logits: `log-sum-exp of a row of logits` ="), "{got}");
    }
    let none = tensor(&device, DType::F32, &[1, 40], &[f32::NEG_INFINITY; 40]);
    let got = message(sample_logits(&none, &[SamplingFilter::default()], &[0.5]));
    assert!(got.ends_with("expected a finite number"), "{got}");
}

#[test]
fn tokens_are_the_same_in_every_order_of_threads() {
    let device = reskill_simt::device();
    let logits = tensor(&device, DType::F32, &[12, 900], &values(3, 12 * 900, 3.0));
    let mut first = None;
    reskill_simt::with_each_order(|order| {
        let drawn = sample_logits(&logits, &filters(12, 900), &uniforms(4, 12)).unwrap();
        assert_eq!(*first.get_or_insert_with(|| drawn.clone()), drawn, "{order:?}");
    });
}
