//! Attention over a packed batch, backward, on a CUDA device.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod attention_support;

use attention_support::*;
use reskill_kernels::ops::{AttentionShape, PackedSegments, attention_backward, attention_forward};
use reskill_kernels::{DType, Device, Tensor};
use reskill_simt::with_each_order;

fn backward(qkv: &Tensor, d_out: &Tensor, segments: &PackedSegments, shape: AttentionShape) -> Tensor {
    let (device, n) = (qkv.device(), qkv.rows());
    let mut out = poisoned(&device, qkv.dtype(), &[n, shape.out_width()]);
    let mut lse = poisoned(&device, DType::F32, &[n, shape.n_heads]);
    attention_forward(&mut out, &mut lse, qkv, segments, shape).unwrap();
    let mut d_qkv = poisoned(&device, qkv.dtype(), qkv.shape());
    attention_backward(&mut d_qkv, d_out, &out, &lse, qkv, segments, shape).unwrap();
    d_qkv
}

fn check((segments, n): &(PackedSegments, usize), shape: AttentionShape, dtype: DType) {
    let device = reskill_simt::device();
    let (qkv, held) = random(&device, dtype, &[*n, shape.qkv_width()], 1, 1.0);
    let (d_out, held_d_out) = random(&device, dtype, &[*n, shape.out_width()], 2, 1.0);
    let d_qkv = backward(&qkv, &d_out, segments, shape);
    let want = reference_gradient(&held, &held_d_out, &visible(segments), shape);
    // f32: gradients are sums of up to 500 terms of size 1 in the worst case, each with a few roundings of 6e-8.
    // bf16: weights, their gradients and (in delta) the result are rounded.
    assert_rounded(&wide(&d_qkv), &want, dtype, 1.5, 3e-5, &format!("d_qkv of {shape:?} in {dtype}"));
}

#[test]
fn attention_gradient_in_f32_equals_finite_differences() {
    let device = reskill_simt::device();
    let (segments, n) = packed(&[(3, &[(2, 2), (0, 2), (3, 1)]), (0, &[(0, 2), (0, 1)]), (1, &[])]);
    for shape in [shape(4, 2, 2), shape(3, 1, 5)] {
        let (qkv, held) = random(&device, DType::F32, &[n, shape.qkv_width()], 1, 1.0);
        let (d_out, held_d_out) = random(&device, DType::F32, &[n, shape.out_width()], 2, 1.0);
        let d_qkv = backward(&qkv, &d_out, &segments, shape);
        let want = numerical_gradient(&held, &held_d_out, &visible(&segments), shape);
        assert_close(&wide(&d_qkv), &want, 1e-5, "d_qkv");
        // The gradient that larger batches are held to is the same.
        let exact = value_of(&reference_gradient(&held, &held_d_out, &visible(&segments), shape));
        assert_close(&exact, &want, 1e-8, "the gradient in f64");
    }
}

#[test]
fn attention_gradient_on_tensor_cores_equals_finite_differences() {
    let device = reskill_simt::device();
    let (segments, n) = packed(&[(3, &[(2, 2)])]);
    let shape = shape(1, 1, 64);
    let (qkv, held) = random(&device, DType::Bf16, &[n, shape.qkv_width()], 1, 1.0);
    let (d_out, held_d_out) = random(&device, DType::Bf16, &[n, shape.out_width()], 2, 1.0);
    let d_qkv = backward(&qkv, &d_out, &segments, shape);
    let want = numerical_gradient(&held, &held_d_out, &visible(&segments), shape);
    // Elements are below 2, and each is rounded some three times to 2^-8 of itself.
    assert_close(&wide(&d_qkv), &want, 2.0 * 3.0 * BF16, "d_qkv");
}

#[test]
fn attention_gradient_in_f32_of_every_head_size_equals_the_f64_version() {
    for shape in [shape(1, 1, 16), shape(3, 1, 40), shape(7, 1, 64), shape(2, 2, 128), shape(1, 1, 200)] {
        check(&odd_batch(), shape, DType::F32);
        check(&packed(&[(1, &[])]), shape, DType::F32);
    }
}

#[test]
fn attention_gradient_in_bf16_without_tensor_cores_equals_the_f64_version() {
    for shape in [shape(6, 2, 40), shape(2, 1, 96), shape(1, 1, 200)] {
        check(&odd_batch(), shape, DType::Bf16);
    }
}

#[test]
fn attention_gradient_on_tensor_cores_equals_the_f64_version() {
    for shape in [shape(1, 1, 64), shape(6, 2, 64), shape(7, 1, 64), shape(1, 1, 128), shape(3, 1, 128)] {
        check(&odd_batch(), shape, DType::Bf16);
        check(&packed(&[(1, &[])]), shape, DType::Bf16);
    }
}

#[test]
fn attention_gradient_of_a_much_seen_trunk_equals_the_f64_version() {
    // The first rows of the trunk are seen by all branches: their sums are cut into slots.
    let branches: Vec<(usize, usize)> = (0..24).map(|index| (10 + 2 * index, 9)).collect();
    let batch = packed(&[(60, &branches), (37, &[])]);
    check(&batch, shape(3, 1, 16), DType::F32);
    check(&batch, shape(3, 1, 64), DType::Bf16);
    check(&batch, shape(2, 1, 128), DType::Bf16);
}

#[test]
fn attention_gradient_has_the_same_bits_in_every_order_of_threads() {
    let device = reskill_simt::device();
    let branches: Vec<(usize, usize)> = (0..12).map(|index| (10 + 2 * index, 9)).collect();
    let (segments, n) = packed(&[(40, &branches)]);
    for (shape, dtype) in
        [(shape(2, 1, 24), DType::F32), (shape(3, 1, 64), DType::Bf16), (shape(1, 1, 128), DType::Bf16)]
    {
        let (qkv, _) = random(&device, dtype, &[n, shape.qkv_width()], 1, 1.0);
        let (d_out, _) = random(&device, dtype, &[n, shape.out_width()], 2, 1.0);
        let d_qkv = bits(&backward(&qkv, &d_out, &segments, shape));
        with_each_order(|order| {
            assert_eq!(bits(&backward(&qkv, &d_out, &segments, shape)), d_qkv, "{order:?}");
        });
    }
}

#[test]
fn attention_gradient_on_a_device_agrees_with_that_of_the_processor() {
    let device = reskill_simt::device();
    let (segments, n) = odd_batch();
    let shape = shape(4, 2, 40);
    let (qkv, _) = random(&device, DType::F32, &[n, shape.qkv_width()], 3, 1.0);
    let (d_out, _) = random(&device, DType::F32, &[n, shape.out_width()], 4, 1.0);
    let d_qkv = backward(&qkv, &d_out, &segments, shape);
    let host = |tensor: &Tensor| tensor.to_device(&Device::Cpu).unwrap();
    let want = backward(&host(&qkv), &host(&d_out), &segments, shape);
    // Both are off by up to 3e-5 (see `check`).
    assert_close(&wide(&d_qkv), &wide(&want), 6e-5, "d_qkv");
}
