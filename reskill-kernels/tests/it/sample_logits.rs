use reskill_kernels::Tensor;
use reskill_kernels::ops::{SampledToken, SamplingFilter, sample_logits};

use crate::support::{message, random, tensor};

const PLAIN: SamplingFilter = SamplingFilter { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0 };

fn sample(logits: &[f32], filter: SamplingFilter, uniform: f32) -> SampledToken {
    sample_logits(&tensor(&[1, logits.len()], logits), &[filter], &[uniform]).unwrap()[0]
}

/// Logits of the probabilities 4/16, 1/16, 8/16, 1/16, 2/16.
fn logits() -> Vec<f32> {
    [4.0_f32, 1.0, 8.0, 1.0, 2.0].iter().map(|p| (p / 16.0).ln()).collect()
}

/// The distribution as it is defined, in f64: probabilities of all tokens.
fn distribution(logits: &[f32], filter: &SamplingFilter) -> Vec<f64> {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut p: Vec<f64> =
        logits.iter().map(|&z| (f64::from(z - top) / f64::from(filter.temperature)).exp()).collect();
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if filter.top_k > 0 {
        order.iter().skip(filter.top_k).for_each(|&index| p[index] = 0.0);
    }
    let total: f64 = p.iter().sum();
    let mut before = 0.0;
    for &index in &order {
        let here = p[index] / total;
        // The likeliest token always stays.
        if (before > 0.0 && before >= f64::from(filter.top_p)) || p[index] < f64::from(filter.min_p) {
            p[index] = 0.0;
        }
        before += here;
    }
    let total: f64 = p.iter().sum();
    p.iter().map(|p| p / total).collect()
}

#[test]
fn sample_logits_inverts_the_cumulative_distribution() {
    for (uniform, token) in
        [(0.0, 0), (0.24, 0), (0.26, 1), (0.32, 2), (0.80, 2), (0.82, 3), (0.88, 4), (0.999, 4)]
    {
        assert_eq!(sample(&logits(), PLAIN, uniform).token, token, "at {uniform}");
    }
}

#[test]
fn sample_logits_at_temperature_zero_takes_the_likeliest_and_the_first_of_equals() {
    let filter = SamplingFilter { temperature: 0.0, ..PLAIN };
    let token = sample(&logits(), filter, 0.99);
    assert_eq!((token.token, token.sampling_logprob), (2, 0.0));
    assert!((token.logprob - 0.5_f32.ln()).abs() < 1e-6);
    assert_eq!(sample(&[1.0, 3.0, 3.0], filter, 0.99).token, 1);
}

#[test]
fn sample_logits_reports_both_log_probabilities() {
    // At temperature 1/2 probabilities are squared: 16, 1, 64, 1, 4; the two likeliest are 64 and 16.
    let filter = SamplingFilter { temperature: 0.5, top_k: 2, ..PLAIN };
    let token = sample(&logits(), filter, 0.9);
    assert_eq!(token.token, 0);
    assert!((token.logprob - 0.25_f32.ln()).abs() < 1e-6);
    assert!((token.sampling_logprob - (16.0_f32 / 80.0).ln()).abs() < 1e-6);
}

#[test]
fn sample_logits_keeps_exactly_the_tokens_that_the_filters_define() {
    let cases = [
        SamplingFilter { top_k: 1, ..PLAIN },
        SamplingFilter { top_k: 3, ..PLAIN },
        SamplingFilter { top_p: 0.5, ..PLAIN },
        SamplingFilter { top_p: 0.51, ..PLAIN },
        SamplingFilter { top_p: 0.0, ..PLAIN },
        SamplingFilter { min_p: 0.25, ..PLAIN },
        SamplingFilter { min_p: 1.0, ..PLAIN },
        SamplingFilter { temperature: 2.0, top_k: 4, top_p: 0.8, min_p: 0.3 },
    ];
    // A long flat row, in which the set of `top_p` is longer than what is sorted at first.
    let long: Vec<f32> = random(&[1, 3000], 5).as_slice().iter().map(|x| x * 0.2).collect();
    let long_cases = [
        SamplingFilter { top_p: 0.9, ..PLAIN },
        SamplingFilter { top_k: 700, top_p: 0.7, ..PLAIN },
        SamplingFilter { top_p: 0.95, min_p: 0.75, ..PLAIN },
    ];
    let short = cases.iter().map(|filter| (logits(), *filter));
    for (logits, filter) in short.chain(long_cases.iter().map(|filter| (long.clone(), *filter))) {
        let want = distribution(&logits, &filter);
        let mut seen = vec![false; logits.len()];
        let n = 20 * logits.len();
        for i in 0..n {
            let token = sample(&logits, filter, (i as f32 + 0.5) / n as f32);
            let p = want[token.token as usize];
            assert!(p > 0.0, "{filter:?} drew token {} of probability 0", token.token);
            assert!(
                (f64::from(token.sampling_logprob) - p.ln()).abs() < 1e-5,
                "{filter:?}: {token:?}, p = {p}"
            );
            seen[token.token as usize] = true;
        }
        for (token, p) in want.iter().enumerate() {
            // A token of this probability holds a point of the grid.
            assert!(
                *p < 1.0 / n as f64 || seen[token],
                "{filter:?} never drew token {token} of probability {p}"
            );
        }
    }
}

#[test]
fn sample_logits_over_several_tiles_inverts_the_cumulative_distribution() {
    let mut logits: Vec<f32> = random(&[1, 3000], 5).as_slice().iter().map(|x| 3.0 * x).collect();
    // A tile, and a bit more, of tokens that cannot be drawn.
    logits[1000..2100].fill(f32::NEG_INFINITY);
    for temperature in [1.0, 0.3, 4.0] {
        let filter = SamplingFilter { temperature, ..PLAIN };
        let p = distribution(&logits, &filter);
        let mut cumulative: Vec<f64> = vec![0.0];
        p.iter().for_each(|p| cumulative.push(cumulative.last().unwrap() + p));
        for i in 0..2000 {
            let uniform = i as f32 / 2000.0;
            let drawn = sample(&logits, filter, uniform);
            let token = drawn.token as usize;
            assert!((f64::from(drawn.sampling_logprob) - p[token].ln()).abs() < 1e-5, "{drawn:?}");
            // Probabilities in f32: 2^-24 of each, and as much of the log-sum-exp.
            let (low, high) = (cumulative[token] - 1e-5, cumulative[token + 1] + 1e-5);
            assert!((low..high).contains(&f64::from(uniform)), "{uniform} is not in {low}..{high}");
        }
    }
    // So small a temperature leaves one token.
    let cold = SamplingFilter { temperature: 1e-30, ..PLAIN };
    let best = (0..3000).fold(0, |best, index| if logits[index] > logits[best] { index } else { best });
    let drawn = sample(&logits, cold, 0.999);
    assert_eq!((drawn.token as usize, drawn.sampling_logprob), (best, 0.0));
}

#[test]
fn sample_logits_of_a_row_does_not_depend_on_the_rows_beside_it() {
    let logits = random(&[9, 400], 1);
    let filters: Vec<SamplingFilter> = (0..9)
        .map(|row| SamplingFilter { top_k: row * 20, top_p: 1.0 - 0.1 * row as f32, ..PLAIN })
        .collect();
    let uniforms: Vec<f32> = (0..9).map(|row| row as f32 / 9.0).collect();
    let all = sample_logits(&logits, &filters, &uniforms).unwrap();
    for row in 0..9 {
        let alone = sample(&logits.as_slice()[row * 400..(row + 1) * 400], filters[row], uniforms[row]);
        assert_eq!(all[row], alone);
    }
}

#[test]
fn sample_logits_leaves_out_tokens_at_minus_infinity() {
    let row = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    for uniform in [0.0, 0.5, 0.999_999] {
        assert_eq!(sample(&row, PLAIN, uniform).token, 1);
        assert_eq!(sample(&row, SamplingFilter { top_k: 2, ..PLAIN }, uniform).token, 1);
    }
}

#[test]
fn sample_logits_refuses_odd_filters_and_rows() {
    let run = |logits: &[f32], filter: SamplingFilter| {
        message(sample_logits(&tensor(&[1, logits.len()], logits), &[filter], &[0.5]))
    };
    let two = [0.0, 1.0];
    assert_eq!(
        run(&two, SamplingFilter { temperature: -1.0, ..PLAIN }),
        "sample_logits: `temperature` = -1, expected >= 0 and finite"
    );
    assert_eq!(
        run(&two, SamplingFilter { top_p: 1.5, ..PLAIN }),
        "sample_logits: `top_p` = 1.5, expected 0 to 1"
    );
    assert_eq!(
        run(&two, SamplingFilter { min_p: f32::NAN, ..PLAIN }),
        "sample_logits: `min_p` = NaN, expected 0 to 1"
    );
    for odd in [f32::NAN, f32::INFINITY] {
        assert!(run(&[0.0, odd], PLAIN).contains("expected a finite number"));
    }
    assert!(run(&[f32::NEG_INFINITY], PLAIN).contains("expected a finite number"));
    let empty = Tensor::from_vec(&[0, 5], Vec::new()).unwrap();
    assert!(sample_logits(&empty, &[], &[]).unwrap().is_empty());
}
