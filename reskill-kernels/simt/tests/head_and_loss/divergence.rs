//! The full divergence and its gradients equal their definition.

use reskill_kernels::ops::{Distribution, linear_kl_backward, linear_kl_forward};
use reskill_kernels::{DType, Device, Tensor};

use crate::head::{Case, Products};
use crate::support::{STORED, assert_close, assert_within, bits, column, device, poisoned, tensor, values};

/// A policy and a reference of another width over the same rows, sets and tokens.
fn cases(n: usize, c: usize, ref_c: usize, vocab: usize, mixed: bool) -> [Case; 2] {
    let policy = Case::random(n, c, vocab, mixed, 2.0);
    let mut reference = Case::random(n, ref_c, vocab, mixed, 2.0);
    (reference.hidden, reference.head) = (values(11, n * ref_c, 1.0), values(12, vocab * ref_c, 2.0));
    [policy, reference]
}

struct Placed {
    hidden: Tensor,
    head: Tensor,
    lse: Tensor,
}

impl Placed {
    fn new(case: &Case, device: &Device, dtype: DType) -> Placed {
        let [_, _, lse] = case.forward(device, dtype);
        Placed { hidden: case.hidden_on(device, dtype), head: case.head_on(device, dtype), lse }
    }

    fn distribution(&self) -> Distribution<'_> {
        Distribution { hidden: &self.hidden, head: &self.head, lse: &self.lse }
    }
}

fn forward([policy, reference]: &[Case; 2], device: &Device, dtype: DType) -> Tensor {
    let (p, q) = (Placed::new(policy, device, dtype), Placed::new(reference, device, dtype));
    let mut kl = poisoned(device, DType::F32, &[policy.n()]);
    linear_kl_forward(&mut kl, p.distribution(), q.distribution(), &policy.allowed(), policy.temperature)
        .unwrap();
    kl
}

/// Gradients, added to twos and ones.
fn backward(
    [policy, reference]: &[Case; 2],
    device: &Device,
    dtype: DType,
    d_kl: &[f32],
    kl: &Tensor,
) -> [Tensor; 2] {
    let (p, q) = (Placed::new(policy, device, dtype), Placed::new(reference, device, dtype));
    let mut d_hidden = tensor(device, dtype, p.hidden.shape(), &vec![2.0; p.hidden.len()]);
    let mut d_head = tensor(device, DType::F32, p.head.shape(), &vec![1.0; p.head.len()]);
    let d_kl = column(device, d_kl);
    let (p, q) = (p.distribution(), q.distribution());
    linear_kl_backward(&mut d_hidden, &mut d_head, &d_kl, kl, p, q, &policy.allowed(), policy.temperature)
        .unwrap();
    [d_hidden, d_head]
}

fn check(n: usize, c: usize, ref_c: usize, vocab: usize, mixed: bool) {
    let device = device();
    for dtype in STORED {
        let cases = cases(n, c, ref_c, vocab, mixed);
        let (p, q) = (cases[0].exact(&device, dtype), cases[1].exact(&device, dtype));
        let of_row =
            |(p, q): (&Vec<f64>, &Vec<f64>)| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        let want: Vec<f64> = p.iter().zip(&q).map(of_row).collect();
        let kl = forward(&cases, &device, dtype);
        let what = format!("{dtype} {n} {c} {ref_c} {vocab} {mixed}");
        // Logits of both are off by some 1e-6 each.
        assert_close(&kl, &want, 1e-5, &format!("kl {what}"));
        let d_kl = values(7, n, 1.0);
        let [d_hidden, d_head] = backward(&cases, &device, dtype, &d_kl, &kl);
        let products = Products::of(&cases[0], &device, dtype, |n, i, logprobs| {
            f64::from(d_kl[n]) * logprobs[i].exp() * (logprobs[i] - q[n][i] - want[n])
        });
        // bf16: the slab is rounded, and the sum with the two. f32: `log p - log q - kl` carries some 1e-5.
        let (rounding, last) = if dtype == DType::Bf16 { (1.0 / 256.0, 1.0 / 128.0) } else { (1e-4, 2e-5) };
        let plus = |x: f64, to: &[f64]| -> Vec<f64> { to.iter().map(|d| d + x).collect() };
        let (want_hidden, want_head) = (plus(2.0, &products.d_hidden), plus(1.0, &products.d_head));
        assert_within(
            &d_hidden,
            &want_hidden,
            |i| rounding * products.d_hidden_size[i] + last * (1.0 + want_hidden[i].abs()),
            &format!("d_hidden {what}"),
        );
        assert_within(
            &d_head,
            &want_head,
            |i| rounding * products.d_head_size[i] + 2e-5,
            &format!("d_head {what}"),
        );
    }
}

#[test]
fn odd_sizes_equal_the_f64_version() {
    for (n, c, ref_c, vocab) in
        [(1, 3, 5, 7), (37, 24, 24, 70), (70, 33, 17, 300), (5, 40, 72, 513), (257, 24, 40, 300)]
    {
        check(n, c, ref_c, vocab, false);
        check(n, c, ref_c, vocab, true);
    }
}

#[test]
fn a_policy_does_not_diverge_from_itself() {
    let device = device();
    for dtype in STORED {
        let [policy, _] = cases(37, 24, 24, 300, true);
        let pair = [policy.clone(), policy];
        let kl = forward(&pair, &device, dtype);
        assert_eq!(bits(&kl), vec![0; 37]);
        let [d_hidden, d_head] = backward(&pair, &device, dtype, &[1.0; 37], &kl);
        assert!(d_hidden.to_vec().unwrap().iter().all(|&d| d == 2.0));
        assert!(d_head.to_vec().unwrap().iter().all(|&d| d == 1.0));
    }
}

#[test]
fn results_are_the_same_bits_in_every_order_of_threads() {
    let device = device();
    for dtype in STORED {
        let cases = cases(20, 24, 16, 300, true);
        let mut first: Option<Vec<Vec<u32>>> = None;
        reskill_simt::with_each_order(|order| {
            let kl = forward(&cases, &device, dtype);
            let [d_hidden, d_head] = backward(&cases, &device, dtype, &[0.4; 20], &kl);
            let all: Vec<Vec<u32>> = [&kl, &d_hidden, &d_head].into_iter().map(bits).collect();
            assert_eq!(*first.get_or_insert_with(|| all.clone()), all, "{order:?}");
        });
    }
}
