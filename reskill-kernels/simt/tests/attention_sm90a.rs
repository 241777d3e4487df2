//! Attention over a packed batch by the kernels for compute capability 9.0. In a program of its own, since the device's
//! capability holds for the process.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod attention_support;

use attention_support::*;
use reskill_kernels::ops::{
    AttentionShape, PackedSegment, PackedSegments, attention_backward, attention_forward,
};
use reskill_kernels::{DType, Device, Tensor};
use reskill_simt::{counters, with_each_order};

fn device() -> Device {
    reskill_simt::set_capability(90);
    reskill_simt::device()
}

/// out, lse and d_qkv of these queries, keys, values and d_out.
fn attention(qkv: &Tensor, d_out: &Tensor, segments: &PackedSegments, shape: AttentionShape) -> [Tensor; 3] {
    let (device, n) = (qkv.device(), qkv.rows());
    let mut out = poisoned(&device, DType::Bf16, &[n, shape.out_width()]);
    let mut lse = poisoned(&device, DType::F32, &[n, shape.n_heads]);
    attention_forward(&mut out, &mut lse, qkv, segments, shape).unwrap();
    let mut d_qkv = poisoned(&device, DType::Bf16, qkv.shape());
    attention_backward(&mut d_qkv, d_out, &out, &lse, qkv, segments, shape).unwrap();
    [out, lse, d_qkv]
}

fn check((segments, n): &(PackedSegments, usize), shape: AttentionShape) {
    let device = device();
    let (qkv, held) = random(&device, DType::Bf16, &[*n, shape.qkv_width()], 1, 1.0);
    let (d_out, held_d_out) = random(&device, DType::Bf16, &[*n, shape.out_width()], 2, 1.0);
    let [out, lse, d_qkv] = attention(&qkv, &d_out, segments, shape);
    let seen = visible(segments);
    // As in the tests of the forward and of the backward pass.
    let (want, want_lse) = reference(&held, &seen, shape);
    assert_rounded(&wide(&out), &want, DType::Bf16, 1.0, 4e-6, &format!("out of {shape:?}"));
    assert_close(&wide(&lse), &want_lse, 4e-6, &format!("lse of {shape:?}"));
    let want = reference_gradient(&held, &held_d_out, &seen, shape);
    assert_rounded(&wide(&d_qkv), &want, DType::Bf16, 1.5, 3e-5, &format!("d_qkv of {shape:?}"));
}

#[test]
fn attention_on_warpgroups_equals_the_f64_version() {
    for shape in [shape(1, 1, 64), shape(6, 2, 64), shape(7, 1, 64), shape(2, 1, 128), shape(3, 1, 128)] {
        check(&odd_batch(), shape);
        check(&packed(&[(1, &[])]), shape);
    }
}

#[test]
fn attention_on_warpgroups_of_a_long_trunk_and_its_branches_equals_the_f64_version() {
    let batch = packed(&[(257, &[(256, 70), (64, 1), (65, 129), (257, 64)]), (37, &[])]);
    check(&batch, shape(2, 1, 64));
    check(&batch, shape(1, 1, 128));
    // More tiles of keys than there are stages, and a trunk so much seen that its gradients are sums of slots.
    check(&packed(&[(700, &[])]), shape(1, 1, 128));
    let branches: Vec<(usize, usize)> = (0..12).map(|index| (100 + 5 * index, 40)).collect();
    check(&packed(&[(170, &branches)]), shape(2, 1, 64));
}

#[test]
fn attention_on_warpgroups_of_a_branch_of_a_branch_equals_the_f64_version() {
    let (mut segments, n) = packed(&[(20, &[(10, 6)])]);
    segments.push(PackedSegment { start: n, len: 5, prefix_start: 18, prefix_len: 7 });
    check(&(segments, n + 5), shape(2, 1, 128));
}

#[test]
fn attention_on_warpgroups_has_the_same_bits_in_every_order_of_threads() {
    let device = device();
    for shape in [shape(3, 1, 64), shape(2, 1, 128)] {
        let (segments, n) = odd_batch();
        let (qkv, _) = random(&device, DType::Bf16, &[n, shape.qkv_width()], 1, 1.0);
        let (d_out, _) = random(&device, DType::Bf16, &[n, shape.out_width()], 2, 1.0);
        let first = attention(&qkv, &d_out, &segments, shape).map(|tensor| bits(&tensor));
        with_each_order(|order| {
            let again = attention(&qkv, &d_out, &segments, shape).map(|tensor| bits(&tensor));
            assert!(first == again, "{order:?}");
        });
    }
}

#[test]
fn attention_on_warpgroups_multiplies_whole_tiles() {
    let (device, shape) = (device(), shape(1, 1, 64));
    let (qkv, _) = random(&device, DType::Bf16, &[1, shape.qkv_width()], 1, 1.0);
    let (d_out, _) = random(&device, DType::Bf16, &[1, 64], 2, 1.0);
    let (segments, _) = packed(&[(1, &[])]);
    let Some(counters) = counters::count(|| drop(attention(&qkv, &d_out, &segments, shape))) else { return };
    // One warpgroup, 64 rows or keys. Forward and queries' gradients: 2 and 3 products with 128 keys. Keys' and values': 4 with
    // 64 rows, and one of zeros before the first run.
    assert_eq!(counters.multiply_adds, 64 * 64 * (5 * 128 + 5 * 64));
}
