//! Attention over a packed batch, forward, on a CUDA device.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod attention_support;

use attention_support::*;
use reskill_kernels::ops::{AttentionShape, PackedSegments, attention_forward};
use reskill_kernels::{DType, Device, Tensor};
use reskill_simt::with_each_order;

fn forward(qkv: &Tensor, segments: &PackedSegments, shape: AttentionShape) -> (Tensor, Tensor) {
    let (device, n) = (qkv.device(), qkv.rows());
    let mut out = poisoned(&device, qkv.dtype(), &[n, shape.out_width()]);
    let mut lse = poisoned(&device, DType::F32, &[n, shape.n_heads]);
    attention_forward(&mut out, &mut lse, qkv, segments, shape).unwrap();
    (out, lse)
}

/// Sums of at most 128 products below 1, and of as many weights, in f32: a few hundred roundings of 6e-8, not all one way.
const F32: f64 = 4e-6;

fn check((segments, n): &(PackedSegments, usize), shape: AttentionShape, dtype: DType) {
    let device = reskill_simt::device();
    let (qkv, held) = random(&device, dtype, &[*n, shape.qkv_width()], 1, 1.0);
    let (out, lse) = forward(&qkv, segments, shape);
    let (want, want_lse) = reference(&held, &visible(segments), shape);
    // Only the weights are rounded; the values are held as they are.
    assert_rounded(&wide(&out), &want, dtype, 1.0, F32, &format!("out of {shape:?} in {dtype}"));
    assert_close(&wide(&lse), &want_lse, F32, &format!("lse of {shape:?} in {dtype}"));
}

#[test]
fn attention_in_f32_of_every_head_size_equals_the_f64_version() {
    for shape in [shape(1, 1, 16), shape(3, 1, 40), shape(7, 1, 64), shape(2, 2, 128), shape(1, 1, 200)] {
        check(&odd_batch(), shape, DType::F32);
        check(&packed(&[(1, &[])]), shape, DType::F32);
    }
    check(&packed(&[(257, &[(200, 37)])]), shape(2, 1, 40), DType::F32);
}

#[test]
fn attention_in_bf16_without_tensor_cores_equals_the_f64_version() {
    for shape in [shape(1, 1, 16), shape(6, 2, 40), shape(2, 1, 96), shape(1, 1, 200)] {
        check(&odd_batch(), shape, DType::Bf16);
    }
}

#[test]
fn attention_on_tensor_cores_equals_the_f64_version() {
    for shape in [shape(1, 1, 64), shape(6, 2, 64), shape(7, 1, 64), shape(1, 1, 128), shape(3, 1, 128)] {
        check(&odd_batch(), shape, DType::Bf16);
        check(&packed(&[(1, &[])]), shape, DType::Bf16);
    }
}

#[test]
fn attention_of_a_long_trunk_and_its_branches_equals_the_f64_version() {
    let batch = packed(&[(257, &[(256, 70), (64, 1), (65, 129), (257, 64)]), (37, &[])]);
    check(&batch, shape(2, 1, 64), DType::Bf16);
    check(&batch, shape(1, 1, 128), DType::Bf16);
}

#[test]
fn attention_of_a_branch_of_a_branch_equals_the_f64_version() {
    // The second branch sees rows of the first, which is in the same tile.
    let (mut segments, n) = packed(&[(20, &[(10, 6)])]);
    segments.push(reskill_kernels::ops::PackedSegment { start: n, len: 5, prefix_start: 18, prefix_len: 7 });
    let batch = (segments, n + 5);
    check(&batch, shape(1, 1, 64), DType::Bf16);
    check(&batch, shape(2, 1, 16), DType::F32);
}

#[test]
fn attention_gives_the_same_bits_in_every_order_of_threads() {
    let device = reskill_simt::device();
    for (shape, dtype) in
        [(shape(2, 1, 24), DType::F32), (shape(3, 1, 64), DType::Bf16), (shape(1, 1, 128), DType::Bf16)]
    {
        let (segments, n) = odd_batch();
        let (qkv, _) = random(&device, dtype, &[n, shape.qkv_width()], 1, 1.0);
        let (out, lse) = forward(&qkv, &segments, shape);
        with_each_order(|order| {
            let (again, lse_again) = forward(&qkv, &segments, shape);
            assert_eq!(bits(&again), bits(&out), "{order:?}");
            assert_eq!(bits(&lse_again), bits(&lse), "{order:?}");
        });
    }
}

#[test]
fn attention_on_a_device_agrees_with_that_of_the_processor() {
    let device = reskill_simt::device();
    let (segments, n) = odd_batch();
    let shape = shape(4, 2, 40);
    let (qkv, _) = random(&device, DType::F32, &[n, shape.qkv_width()], 3, 2.0);
    let (out, lse) = forward(&qkv, &segments, shape);
    let (host_out, host_lse) = forward(&qkv.to_device(&Device::Cpu).unwrap(), &segments, shape);
    // Scores of 40 products of at most 4 carry a few 1e-6; so do their exponentials, and the mean of values below 2.
    assert_close(&wide(&out), &wide(&host_out), 2e-5, "out");
    assert_close(&wide(&lse), &wide(&host_lse), 2e-5, "lse");
}

#[test]
fn attention_of_very_large_scores_is_that_of_the_largest() {
    // Scores are so far apart that each row's result is the value of its best key, whatever underflows.
    let device = reskill_simt::device();
    for (shape, dtype) in [(shape(1, 1, 16), DType::F32), (shape(1, 1, 64), DType::Bf16)] {
        let (segments, n) = packed(&[(150, &[])]);
        let (qkv, held) = random(&device, dtype, &[n, shape.qkv_width()], 5, 1e4);
        let (out, lse) = forward(&qkv, &segments, shape);
        let (want, want_lse) = reference(&held, &visible(&segments), shape);
        // Results are one of the values up to 1e4; log-sum-exps reach 1e9 in f32.
        assert_rounded(&wide(&out), &want, dtype, 1.0, 1e-2, "out");
        assert_close(&wide(&lse), &want_lse, 1e9 * 1e-6, "lse");
    }
}

#[test]
fn attention_refuses_heads_that_no_kernel_takes_and_tensors_of_other_types() {
    let device = reskill_simt::device();
    let (segments, n) = packed(&[(3, &[])]);
    let run = |shape: AttentionShape, out_type: DType| {
        let (qkv, _) = random(&device, DType::F32, &[n, shape.qkv_width()], 1, 1.0);
        let mut out = poisoned(&device, out_type, &[n, shape.out_width()]);
        let mut lse = poisoned(&device, DType::F32, &[n, shape.n_heads]);
        attention_forward(&mut out, &mut lse, &qkv, &segments, shape).unwrap_err().to_string()
    };
    assert_eq!(
        run(shape(1, 1, 257), DType::F32),
        "attention_forward: cuda:0 does not offer heads of 257 elements; use a model with heads of at most 256 elements, \
         or device `cpu`"
    );
    assert_eq!(run(shape(1, 1, 8), DType::Bf16), "attention_forward: `out` is stored as bf16, expected f32");
}
