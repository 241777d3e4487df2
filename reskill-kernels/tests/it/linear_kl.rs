//! The full divergence against an f64 version, by values and by finite differences.

use reskill_kernels::Tensor;
use reskill_kernels::ops::{
    Distribution, TokenSets, linear_kl_backward, linear_kl_forward, linear_logprob_forward,
};

use crate::support::{
    assert_close, assert_thread_count_does_not_matter, ids, inner, message, numerical_gradient, random, wide,
    zeros,
};

const TEMPERATURE: f32 = 0.8;

struct Case {
    hidden: Tensor,
    head: Tensor,
    ref_hidden: Tensor,
    ref_head: Tensor,
    sets: Vec<Vec<u32>>,
}

fn case(n: usize, c: usize, vocab: usize, mixed: bool) -> Case {
    let set = |row: usize| {
        let some = |i: usize| ((row * 5 + i * 3) % vocab) as u32;
        if mixed && !row.is_multiple_of(3) { (0..1 + row % 4).map(some).collect() } else { vec![] }
    };
    Case {
        hidden: random(&[n, c], 1),
        head: random(&[vocab, c], 2),
        // The reference may have another width.
        ref_hidden: random(&[n, c + 1], 3),
        ref_head: random(&[vocab, c + 1], 4),
        sets: (0..n).map(set).collect(),
    }
}

fn allowed(case: &Case) -> TokenSets {
    let mut allowed = TokenSets::new();
    case.sets.iter().for_each(|set| allowed.push(set));
    allowed
}

fn lse(hidden: &Tensor, head: &Tensor, case: &Case) -> Tensor {
    let n = hidden.rows();
    let targets: Vec<u32> = case.sets.iter().map(|set| set.first().copied().unwrap_or(0)).collect();
    let mut lse = zeros(&[n]);
    let (mut logprobs, mut entropy) = (zeros(&[n]), zeros(&[n]));
    linear_logprob_forward(
        &mut logprobs,
        &mut entropy,
        &mut lse,
        hidden,
        head,
        &ids(&targets),
        &allowed(case),
        TEMPERATURE,
    )
    .unwrap();
    lse
}

/// Divergences, and the gradients by hidden states and head for these gradients from above.
fn run(case: &Case, d_kl: &Tensor) -> [Tensor; 3] {
    let (lse, ref_lse) = (lse(&case.hidden, &case.head, case), lse(&case.ref_hidden, &case.ref_head, case));
    let policy = Distribution { hidden: &case.hidden, head: &case.head, lse: &lse };
    let reference = Distribution { hidden: &case.ref_hidden, head: &case.ref_head, lse: &ref_lse };
    let mut kl = zeros(&[case.hidden.rows()]);
    linear_kl_forward(&mut kl, policy, reference, &allowed(case), TEMPERATURE).unwrap();
    let (mut d_hidden, mut d_head) = (zeros(case.hidden.shape()), zeros(case.head.shape()));
    linear_kl_backward(&mut d_hidden, &mut d_head, d_kl, &kl, policy, reference, &allowed(case), TEMPERATURE)
        .unwrap();
    [kl, d_hidden, d_head]
}

fn formula(case: &Case, hidden: &[f64], head: &[f64]) -> Vec<f64> {
    let logprobs = |hidden: &[f64], head: &[f64], c: usize, n: usize| -> Vec<f64> {
        let vocab = head.len() / c;
        let tokens: Vec<u32> =
            if case.sets[n].is_empty() { (0..vocab as u32).collect() } else { case.sets[n].clone() };
        let z: Vec<f64> = tokens
            .iter()
            .map(|&v| inner(&hidden[n * c..][..c], &head[v as usize * c..][..c]) / f64::from(TEMPERATURE))
            .collect();
        let lse = z.iter().map(|z| z.exp()).sum::<f64>().ln();
        z.iter().map(|z| z - lse).collect()
    };
    let c = case.hidden.row_len();
    let (ref_hidden, ref_head) = (wide(&case.ref_hidden), wide(&case.ref_head));
    (0..case.hidden.rows())
        .map(|n| {
            let p = logprobs(hidden, head, c, n);
            let q = logprobs(&ref_hidden, &ref_head, c + 1, n);
            p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
        })
        .collect()
}

#[test]
fn linear_kl_equals_the_formula_over_tiles_and_sets() {
    for (n, c, vocab, mixed) in
        [(1, 3, 1, false), (37, 3, 257, false), (37, 3, 257, true), (130, 5, 2050, false)]
    {
        let case = case(n, c, vocab, mixed);
        let [kl, ..] = run(&case, &zeros(&[n]));
        let want = formula(&case, &wide(&case.hidden), &wide(&case.head));
        // Sums of differences of log-probabilities that carry some 5e-7 each.
        assert_close(&kl, &want, 3e-6, "kl");
        assert!(want.iter().all(|&kl| kl >= -1e-12));
    }
}

#[test]
fn linear_kl_gradients_equal_finite_differences() {
    for (n, c, vocab, mixed) in [(2, 3, 5, false), (7, 2, 30, true), (3, 2, 1100, false)] {
        let case = case(n, c, vocab, mixed);
        let d_kl = random(&[n], 8);
        let [_, d_hidden, d_head] = run(&case, &d_kl);
        let (hidden, head) = (wide(&case.hidden), wide(&case.head));
        let total = |hidden: &[f64], head: &[f64]| inner(&formula(&case, hidden, head), &wide(&d_kl));
        assert_close(&d_hidden, &numerical_gradient(&hidden, |x| total(x, &head)), 3e-6, "d_hidden");
        if vocab < 100 {
            assert_close(&d_head, &numerical_gradient(&head, |x| total(&hidden, x)), 3e-6, "d_head");
        }
    }
}

#[test]
fn linear_kl_of_a_policy_from_itself_is_zero_with_no_gradient() {
    let mut case = case(5, 4, 300, true);
    (case.ref_hidden, case.ref_head) = (case.hidden.clone(), case.head.clone());
    let [kl, d_hidden, d_head] = run(&case, &random(&[5], 8));
    assert!(kl.as_slice().iter().chain(d_hidden.as_slice()).chain(d_head.as_slice()).all(|&x| x == 0.0));
}

#[test]
fn linear_kl_does_not_depend_on_the_number_of_threads() {
    let case = case(300, 4, 1500, false);
    let d_kl = random(&[300], 8);
    assert_thread_count_does_not_matter(|| run(&case, &d_kl).to_vec());
}

#[test]
fn linear_kl_refuses_distributions_that_do_not_fit() {
    let a = case(2, 3, 5, false);
    let column = zeros(&[2]);
    let policy = Distribution { hidden: &a.hidden, head: &a.head, lse: &column };
    let short = random(&[4, 4], 1);
    let reference = Distribution { hidden: &a.ref_hidden, head: &short, lse: &column };
    assert_eq!(
        message(linear_kl_forward(&mut zeros(&[2]), policy, reference, &allowed(&a), 1.0)),
        "linear_kl_forward: `reference.head` has shape [4], expected [5]"
    );
}

#[test]
fn a_frozen_head_leaves_the_gradient_of_the_hidden_states_as_it_is() {
    let case = case(9, 6, 31, true);
    let d_kl = random(&[9], 5);
    let [kl, d_hidden, _] = run(&case, &d_kl);
    let (lse, ref_lse) = (lse(&case.hidden, &case.head, &case), lse(&case.ref_hidden, &case.ref_head, &case));
    let policy = Distribution { hidden: &case.hidden, head: &case.head, lse: &lse };
    let reference = Distribution { hidden: &case.ref_hidden, head: &case.ref_head, lse: &ref_lse };
    let mut frozen = zeros(case.hidden.shape());
    linear_kl_backward(&mut frozen, None, &d_kl, &kl, policy, reference, &allowed(&case), TEMPERATURE)
        .unwrap();
    assert_eq!(frozen, d_hidden);
}
