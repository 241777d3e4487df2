//! Gradients of log-probabilities and entropies equal their definition.

use reskill_kernels::ops::linear_logprob_backward;
use reskill_kernels::{DType, Device, Tensor};

use crate::head::{Case, Products};
use crate::support::{STORED, assert_within, bits, column, device, ids, poisoned, values, wide};

fn check(n: usize, c: usize, vocab: usize, mixed: bool, scale: f32) {
    let device = device();
    for dtype in STORED {
        let case = Case::random(n, c, vocab, mixed, scale);
        let (d_logprobs, d_entropy) = (values(5, n, 1.0), values(6, n, 1.0));
        let [d_hidden, d_head] = case.backward(&device, dtype, &d_logprobs, &d_entropy, None);
        let want = Products::of_logprobs(&case, &device, dtype, &d_logprobs, &d_entropy);
        // In bf16 the gradients of the logits are rounded by up to 2^-8 of themselves, and d_hidden once more. Logits are
        // off as in `logprob_forward`, which the entropy's factor (up to ln V) multiplies.
        let rounding = if dtype == DType::Bf16 { 1.0 / 128.0 } else { 0.0 };
        let rounding = rounding + 3e-5 + 1e-6 * c as f64 * f64::from(scale);
        let what = format!("{dtype} {n} {c} {vocab} {mixed}");
        let bound = |size: &[f64], i: usize| rounding * size[i] + 1e-6;
        assert_within(
            &d_hidden,
            &want.d_hidden,
            |i| bound(&want.d_hidden_size, i),
            &format!("d_hidden {what}"),
        );
        let d_head_and_one: Vec<f64> = want.d_head.iter().map(|d| d + 1.0).collect();
        assert_within(&d_head, &d_head_and_one, |i| bound(&want.d_head_size, i), &format!("d_head {what}"));
    }
}

#[test]
fn odd_sizes_equal_the_f64_version() {
    for (n, c, vocab) in [(1, 3, 5), (37, 24, 70), (257, 33, 150), (5, 96, 1001), (1, 1, 1)] {
        check(n, c, vocab, false, 3.0);
        check(n, c, vocab, true, 3.0);
    }
}

#[test]
fn peaked_logits_equal_the_f64_version() {
    check(37, 64, 300, false, 20.0);
}

#[test]
fn a_frozen_head_changes_nothing_else() {
    let device = device();
    for dtype in STORED {
        let case = Case::random(37, 24, 70, true, 3.0);
        let [_, entropy, lse] = case.forward(&device, dtype);
        let (hidden, head) = (case.hidden_on(&device, dtype), case.head_on(&device, dtype));
        let mut d_hidden = poisoned(&device, dtype, &[37, 24]);
        let d = column(&device, &[0.5; 37]);
        let (targets, allowed) = (ids(&device, &case.targets), case.allowed());
        linear_logprob_backward(
            &mut d_hidden,
            None,
            &d,
            &d,
            &entropy,
            &lse,
            &hidden,
            &head,
            &targets,
            &allowed,
            0.7,
        )
        .unwrap();
        let [with_head, _] = case.backward(&device, dtype, &[0.5; 37], &[0.5; 37], None);
        assert_eq!(bits(&d_hidden), bits(&with_head));
    }
}

#[test]
fn a_filter_leaves_out_the_blocks_that_the_cpu_leaves_out() {
    let device = device();
    // Each row has nearly all its mass on its target, the targets of 128 neighbours lie in one tile of 256 tokens.
    let (n, c, vocab) = (150, 32, 700);
    let mut case = Case::random(n, c, vocab, false, 1.0);
    for row in 0..n {
        let target = if row < 128 { 40 + row } else { 400 + row };
        case.targets[row] = target as u32;
        for x in 0..c {
            case.hidden[row * c + x] = 6.0 * case.head[target * c + x];
        }
    }
    let d = values(5, n, 1.0);
    let filter = 1e-4;
    let of = |device: &Device, filter| case.backward(device, DType::F32, &d, &d, filter);
    let [cpu, cpu_head] = of(&Device::Cpu, Some(filter));
    let [exact, exact_head] = of(&device, None);
    let [ours, ours_head] = of(&device, Some(filter));
    // Tiles of the head that nobody added to are as they were.
    let untouched = |d_head: &Tensor| -> Vec<bool> {
        d_head.to_vec().unwrap().chunks(256 * c).map(|tile| tile.iter().all(|&d| d == 1.0)).collect()
    };
    assert_eq!(
        (untouched(&ours_head), untouched(&cpu_head)),
        (vec![false, true, false], vec![false, true, false])
    );
    assert_eq!(untouched(&exact_head), [false; 3]);
    // Two f32 versions; logits near 90 carry some 1e-5 each.
    assert_within(&ours, &wide(&cpu), |_| 3e-4, "d_hidden");
    assert_within(&ours_head, &wide(&cpu_head), |_| 3e-4, "d_head");
    // A filter of nearly 0 leaves out nothing.
    let [all, all_head] = of(&device, Some(1e-30));
    assert_eq!((bits(&all), bits(&all_head)), (bits(&exact), bits(&exact_head)));
}

#[test]
fn a_filter_in_bf16_stays_within_its_bound() {
    let device = device();
    let case = Case::random(40, 32, 700, true, 12.0);
    let d = values(5, 40, 1.0);
    let filter = 1e-4_f32;
    let [exact, _] = case.backward(&device, DType::Bf16, &d, &d, None);
    let [ours, _] = case.backward(&device, DType::Bf16, &d, &d, Some(filter));
    // The bound of the documentation: at most V * filter of the mass is left out; entropy and ln p are below 30, rows of
    // the head shorter than 12 sqrt(32), the temperature is 0.7; and one rounding of a result of magnitude 100.
    let bound = 700.0 * f64::from(filter) * 60.0 * 12.0 * 32_f64.sqrt() / 0.7 + 0.5;
    assert_within(&ours, &wide(&exact), |_| bound, "d_hidden");
}
