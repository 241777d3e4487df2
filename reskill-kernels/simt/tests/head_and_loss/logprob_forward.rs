//! Log-probabilities and entropies equal their definition.

use reskill_kernels::DType;

use crate::head::{Case, entropy_of};
use crate::support::{STORED, assert_close, bits, device};

fn check(n: usize, c: usize, vocab: usize, mixed: bool, scale: f32) {
    let device = device();
    for dtype in STORED {
        let case = Case::random(n, c, vocab, mixed, scale);
        let [logprobs, entropy, lse] = case.forward(&device, dtype);
        let exact = case.exact(&device, dtype);
        let want: Vec<f64> = exact.iter().enumerate().map(|(n, row)| row[case.target_index(n)]).collect();
        let want_entropy: Vec<f64> = exact.iter().map(|row| entropy_of(row)).collect();
        // Products of bf16 are exact in f32; what is left are f32 sums of C terms below `scale` over 0.7, so logits carry
        // some 1e-7 * C * scale, and exponentials of the device some 1e-6.
        let tolerance = 5e-6 + 3e-7 * c as f64 * f64::from(scale);
        let what = format!("{dtype} {n} {c} {vocab} {mixed}");
        assert_close(&logprobs, &want, tolerance, &format!("logprobs {what}"));
        assert_close(&entropy, &want_entropy, 3.0 * tolerance, &format!("entropy {what}"));
        assert!(lse.to_vec().unwrap().iter().all(|lse| lse.is_finite()));
    }
}

#[test]
fn odd_sizes_equal_the_f64_version() {
    for (n, c, vocab) in
        [(1, 16, 23), (37, 24, 70), (257, 33, 300), (5, 96, 1001), (3, 2, 2), (33, 40, 513), (1, 1, 1)]
    {
        check(n, c, vocab, false, 3.0);
        check(n, c, vocab, true, 3.0);
    }
}

#[test]
fn sets_that_a_device_has_seen_may_grow() {
    let (device, whole) = (device(), Case::random(37, 24, 70, true, 3.0));
    for dtype in STORED {
        let begin = whole.part(0, 20);
        let mut allowed = begin.allowed();
        let (d_logprobs, d_entropy) = (vec![0.3; 37], vec![-0.2; 37]);
        begin.backward_with(&device, dtype, &d_logprobs[..20], &d_entropy[..20], None, &allowed);
        whole.sets[20..].iter().for_each(|set| allowed.push(set));
        assert_eq!(allowed, whole.allowed());
        let got = whole.forward_with(&device, dtype, &allowed);
        let want = whole.forward(&device, dtype);
        assert_eq!(got.each_ref().map(bits), want.each_ref().map(bits));
        let got = whole.backward_with(&device, dtype, &d_logprobs, &d_entropy, None, &allowed);
        let want = whole.backward(&device, dtype, &d_logprobs, &d_entropy, None);
        assert_eq!(got.each_ref().map(bits), want.each_ref().map(bits));
    }
}

#[test]
fn peaked_logits_equal_the_f64_version() {
    check(37, 64, 600, false, 60.0);
    check(37, 64, 600, true, 60.0);
}

#[test]
fn flat_logits_have_the_entropy_of_the_vocabulary() {
    let device = device();
    for dtype in STORED {
        let mut case = Case::random(5, 8, 1031, false, 3.0);
        case.hidden.fill(0.0);
        let [logprobs, entropy, lse] = case.forward(&device, dtype);
        let ln_v = 1031_f64.ln();
        // One rounding of a logarithm near 7.
        assert_close(&entropy, &[ln_v; 5], 2e-7, "entropy");
        assert_close(&lse, &[ln_v; 5], 2e-7, "lse");
        assert_close(&logprobs, &[-ln_v; 5], 2e-7, "logprobs");
    }
}

#[test]
fn a_forced_token_has_log_probability_zero_and_no_entropy() {
    let device = device();
    for dtype in STORED {
        let mut case = Case::random(2, 8, 20, false, 3.0);
        (case.sets, case.targets) = (vec![vec![7], vec![3]], vec![7, 3]);
        let [logprobs, entropy, _] = case.forward(&device, dtype);
        assert_eq!((bits(&logprobs), bits(&entropy)), (vec![0; 2], vec![0; 2]));
        let [d_hidden, _] = case.backward(&device, dtype, &[1.0, -2.0], &[0.5, 0.25], None);
        assert!(d_hidden.to_vec().unwrap().iter().all(|&d| d == 0.0));
    }
}

#[test]
fn f32_agrees_with_the_cpu() {
    let device = device();
    for mixed in [false, true] {
        let case = Case::random(70, 33, 700, mixed, 3.0);
        let ours = case.forward(&device, DType::F32);
        for (ours, cpu) in ours.iter().zip(case.forward(&reskill_kernels::Device::Cpu, DType::F32)) {
            let want: Vec<f64> = cpu.to_vec().unwrap().into_iter().map(f64::from).collect();
            // Two f32 versions, each within 1e-5 of the exact result.
            assert_close(ours, &want, 2e-5, "column");
        }
    }
}

#[test]
fn results_are_the_same_bits_in_every_order_of_threads() {
    let device = device();
    for dtype in STORED {
        let case = Case::random(37, 24, 300, true, 3.0);
        let mut first: Option<Vec<Vec<u32>>> = None;
        reskill_simt::with_each_order(|order| {
            let columns = case.forward(&device, dtype);
            let gradients = case.backward(&device, dtype, &[0.3; 37], &[-0.2; 37], None);
            let all: Vec<Vec<u32>> = columns.iter().chain(&gradients).map(bits).collect();
            assert_eq!(*first.get_or_insert_with(|| all.clone()), all, "{order:?}");
        });
    }
}
