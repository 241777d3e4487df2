//! `linear_logprob` over vocabularies of several tiles, and its filtered backward pass.

use reskill_kernels::Tensor;
use reskill_kernels::ops::{
    TokenSets, linear_logprob_backward, linear_logprob_backward_filtered, linear_logprob_forward,
    linear_sample,
};

use crate::support::{assert_close, bits, ids, inner, message, random, rows, wide, zeros};

struct Case {
    hidden: Tensor,
    head: Tensor,
    targets: Tensor<u32>,
    allowed: TokenSets,
}

/// Logits are `sharpness` times those of random hidden states and heads.
fn case(n: usize, c: usize, vocab: usize, sharpness: f32) -> Case {
    let mut head = random(&[vocab, c], 2);
    head.as_mut_slice().iter_mut().for_each(|x| *x *= sharpness);
    let mut allowed = TokenSets::new();
    (0..n).for_each(|_| allowed.push(&[]));
    let targets = ids(&(0..n).map(|row| (row * 977 % vocab) as u32).collect::<Vec<_>>());
    Case { hidden: random(&[n, c], 1), head, targets, allowed }
}

const TEMPERATURE: f32 = 0.9;

fn forward(case: &Case) -> [Tensor; 3] {
    let column = || zeros(&[case.hidden.rows()]);
    let [mut logprobs, mut entropy, mut lse] = [column(), column(), column()];
    linear_logprob_forward(
        &mut logprobs,
        &mut entropy,
        &mut lse,
        &case.hidden,
        &case.head,
        &case.targets,
        &case.allowed,
        TEMPERATURE,
    )
    .unwrap();
    [logprobs, entropy, lse]
}

fn backward(case: &Case, filter: Option<f32>) -> (Tensor, Tensor) {
    let [_, entropy, lse] = forward(case);
    let (d_logprobs, d_entropy) = upstream(case);
    let (mut d_hidden, mut d_head) = (random(case.hidden.shape(), 9), zeros(case.head.shape()));
    match filter {
        None => linear_logprob_backward(
            &mut d_hidden,
            &mut d_head,
            &d_logprobs,
            &d_entropy,
            &entropy,
            &lse,
            &case.hidden,
            &case.head,
            &case.targets,
            &case.allowed,
            TEMPERATURE,
        ),
        Some(filter) => linear_logprob_backward_filtered(
            &mut d_hidden,
            &mut d_head,
            &d_logprobs,
            &d_entropy,
            &entropy,
            &lse,
            &case.hidden,
            &case.head,
            &case.targets,
            &case.allowed,
            TEMPERATURE,
            filter,
        ),
    }
    .unwrap();
    (d_hidden, d_head)
}

fn backward_frozen(case: &Case, filter: Option<f32>) -> Tensor {
    let [_, entropy, lse] = forward(case);
    let (d_logprobs, d_entropy) = upstream(case);
    let mut d_hidden = random(case.hidden.shape(), 9);
    let (hidden, head, targets, allowed) = (&case.hidden, &case.head, &case.targets, &case.allowed);
    match filter {
        None => linear_logprob_backward(
            &mut d_hidden,
            None,
            &d_logprobs,
            &d_entropy,
            &entropy,
            &lse,
            hidden,
            head,
            targets,
            allowed,
            TEMPERATURE,
        ),
        Some(filter) => linear_logprob_backward_filtered(
            &mut d_hidden,
            None,
            &d_logprobs,
            &d_entropy,
            &entropy,
            &lse,
            hidden,
            head,
            targets,
            allowed,
            TEMPERATURE,
            filter,
        ),
    }
    .unwrap();
    d_hidden
}

fn upstream(case: &Case) -> (Tensor, Tensor) {
    (random(&[case.hidden.rows()], 5), random(&[case.hidden.rows()], 6))
}

/// Log-probabilities, entropies and both gradients with all logits in f64.
fn naive(case: &Case) -> (Vec<f64>, Vec<f64>, Vec<f64>, Vec<f64>) {
    let (n, c, vocab) = (case.hidden.rows(), case.hidden.row_len(), case.head.rows());
    let (hidden, head) = (wide(&case.hidden), wide(&case.head));
    let (d_logprobs, d_entropy) = upstream(case);
    let (mut logprobs, mut entropies) = (vec![], vec![]);
    let (mut d_hidden, mut d_head) = (vec![0.0; n * c], vec![0.0; vocab * c]);
    for row in 0..n {
        let h = &hidden[row * c..][..c];
        let z: Vec<f64> =
            (0..vocab).map(|v| inner(h, &head[v * c..][..c]) / f64::from(TEMPERATURE)).collect();
        let top = z.iter().copied().fold(f64::MIN, f64::max);
        let lse = top + z.iter().map(|z| (z - top).exp()).sum::<f64>().ln();
        let entropy = -z.iter().map(|z| (z - lse).exp() * (z - lse)).sum::<f64>();
        let target = case.targets.as_slice()[row] as usize;
        logprobs.push(z[target] - lse);
        entropies.push(entropy);
        let (dl, de) = (f64::from(d_logprobs.as_slice()[row]), f64::from(d_entropy.as_slice()[row]));
        for v in 0..vocab {
            let logprob = z[v] - lse;
            let hit = f64::from(u8::from(v == target));
            let d = (dl * (hit - logprob.exp()) - de * logprob.exp() * (logprob + entropy))
                / f64::from(TEMPERATURE);
            for k in 0..c {
                d_hidden[row * c + k] += d * head[v * c + k];
                d_head[v * c + k] += d * h[k];
            }
        }
    }
    (logprobs, entropies, d_hidden, d_head)
}

/// Around the borders of tiles (1024) and of blocks of rows (128).
#[test]
fn linear_logprob_over_several_tiles_equals_the_naive_version_in_values_and_gradients() {
    for (n, c, vocab) in
        [(37, 3, 257), (1, 5, 1023), (3, 8, 1025), (130, 4, 2049), (2, 40, 9000), (37, 6, 1), (9, 1, 3)]
    {
        let case = case(n, c, vocab, 3.0);
        let [logprobs, entropy, _] = forward(&case);
        let (d_hidden, d_head) = backward(&case, None);
        let (want_logprobs, want_entropy, want_d_hidden, want_d_head) = naive(&case);
        // Logits below 40 are rounded by some 2e-6.
        assert_close(&logprobs, &want_logprobs, 5e-6, "logprobs");
        assert_close(&entropy, &want_entropy, 1e-5, "entropy");
        assert_close(&d_hidden, &want_d_hidden, 1e-5, "d_hidden");
        assert_close(&d_head, &want_d_head, 1e-5, "d_head");
    }
}

#[test]
fn linear_logprob_of_a_row_does_not_depend_on_other_rows_over_several_tiles() {
    let all = case(300, 12, 2500, 2.0);
    let whole = forward(&all);
    let (d_whole, _) = backward(&all, None);
    for (first, n) in [(0, 1), (7, 5), (100, 128), (255, 45), (3, 200)] {
        let mut allowed = TokenSets::new();
        (0..n).for_each(|_| allowed.push(&[]));
        let part = Case {
            hidden: rows(&all.hidden, first, n),
            head: all.head.clone(),
            targets: ids(&all.targets.as_slice()[first..first + n]),
            allowed,
        };
        for (part, whole) in forward(&part).iter().zip(&whole) {
            assert_eq!(bits(part), bits(&rows(whole, first, n)));
        }
        let [_, entropy, lse] = forward(&part);
        let (d_logprobs, d_entropy) = upstream(&all);
        let mut d_hidden = zeros(&[n, 12]);
        linear_logprob_backward(
            &mut d_hidden,
            &mut zeros(all.head.shape()),
            &rows(&d_logprobs, first, n),
            &rows(&d_entropy, first, n),
            &entropy,
            &lse,
            &part.hidden,
            &part.head,
            &part.targets,
            &part.allowed,
            TEMPERATURE,
        )
        .unwrap();
        assert_eq!(bits(&d_hidden), bits(&rows(&d_whole, first, n)));
    }
}

#[test]
fn linear_sample_reports_the_log_probability_of_the_trainer_over_several_tiles() {
    let mut case = case(9, 16, 2300, 3.0);
    let uniforms = random(&[9], 3);
    let uniforms =
        Tensor::from_vec(&[9], uniforms.as_slice().iter().map(|x| x.abs() * 0.99).collect()).unwrap();
    let (mut tokens, mut logprobs) = (ids(&[0; 9]), zeros(&[9]));
    linear_sample(
        &mut tokens,
        &mut logprobs,
        &case.hidden,
        &case.head,
        &case.allowed,
        TEMPERATURE,
        &uniforms,
    )
    .unwrap();
    case.targets = tokens;
    assert_eq!(bits(&forward(&case)[0]), bits(&logprobs));
}

#[test]
fn the_filter_stays_within_the_error_that_it_states() {
    // The first 700 of 3000 tokens have nearly all the mass, and the targets.
    let mut case = case(200, 16, 3000, 6.0);
    case.hidden.as_mut_slice().chunks_exact_mut(16).for_each(|row| row[0] = 1.0);
    case.head.as_mut_slice().chunks_exact_mut(16).skip(700).for_each(|row| row[0] = -18.0);
    case.targets = ids(&(0..200).map(|row| row * 97 % 700).collect::<Vec<_>>());
    let [logprobs, entropy, lse] = forward(&case);
    let (exact, exact_head) = backward(&case, None);
    let (d_logprobs, d_entropy) = upstream(&case);
    let head = wide(&case.head);
    let longest =
        head.chunks(16).map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt()).fold(0.0, f64::max);
    assert!(logprobs.as_slice().iter().all(|x| x.is_finite()));
    let mut differs = false;
    for filter in [1e-12_f32, 1e-8, 1e-4, 1e-2] {
        let (filtered, filtered_head) = backward(&case, Some(filter));
        differs |= filtered_head != exact_head;
        for row in 0..200 {
            let distance: f64 = (0..16)
                .map(|k| {
                    let at = row * 16 + k;
                    f64::from(exact.as_slice()[at] - filtered.as_slice()[at]).powi(2)
                })
                .sum::<f64>()
                .sqrt();
            let mass = (3000.0 * f64::from(filter)).min(1.0);
            let at = |x: &Tensor| f64::from(x.as_slice()[row]);
            // |ln p| of a skipped token may be large, but p |ln p| is largest at the filter itself.
            let logs = f64::from(filter).ln().abs() + at(&entropy);
            let bound = mass * (at(&d_logprobs).abs() + at(&d_entropy).abs() * logs) * longest
                / f64::from(TEMPERATURE);
            assert!(distance <= bound + 1e-4, "row {row}, filter {filter}: {distance} above {bound}");
        }
    }
    assert!(differs, "nothing was skipped");
    assert!(lse.as_slice().iter().all(|x| x.is_finite()));
}

#[test]
fn a_filter_that_skips_nothing_changes_rounding_only() {
    let case = case(140, 8, 1500, 0.1);
    let (exact, exact_head) = backward(&case, None);
    // Nearly uniform: every probability is above 1e-5.
    let (filtered, filtered_head) = backward(&case, Some(1e-5));
    assert_close(&filtered, &wide(&exact), 1e-6, "d_hidden");
    assert_close(&filtered_head, &wide(&exact_head), 1e-6, "d_head");
}

#[test]
fn a_filter_outside_zero_and_one_is_refused() {
    let case = case(2, 4, 9, 1.0);
    let column = || zeros(&[2]);
    for (filter, shown) in [(0.0, "0"), (1.0, "1"), (f32::NAN, "NaN")] {
        let refused = linear_logprob_backward_filtered(
            &mut zeros(&[2, 4]),
            &mut zeros(&[9, 4]),
            &column(),
            &column(),
            &column(),
            &column(),
            &case.hidden,
            &case.head,
            &case.targets,
            &case.allowed,
            1.0,
            filter,
        );
        assert_eq!(
            message(refused),
            format!("linear_logprob_backward_filtered: `filter` = {shown}, expected a number in (0, 1)")
        );
    }
}

#[test]
fn a_frozen_head_leaves_the_gradient_of_the_hidden_states_as_it_is() {
    let mut mixed = case(40, 8, 1300, 2.0);
    mixed.allowed = TokenSets::new();
    for (row, &target) in mixed.targets.as_slice().iter().enumerate() {
        mixed.allowed.push(if row % 3 == 0 { &[] } else { std::slice::from_ref(&target) });
    }
    for case in [case(140, 8, 1500, 3.0), mixed] {
        for filter in [None, Some(1e-4)] {
            assert_eq!(bits(&backward(&case, filter).0), bits(&backward_frozen(&case, filter)));
        }
    }
}
