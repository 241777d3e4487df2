//! Norm and rotation of heads in one pass.

use reskill_kernels::ops::{RopeTable, Rotation, qk_norm_rope_backward, qk_norm_rope_forward};
use reskill_kernels::{DType, Tensor};
use reskill_simt::with_each_order;

use crate::qk_norm::{Case, EPS, SIZES, case, each_head, reference_gradients, rstd_of};
use crate::support::{
    Wide, assert_close, bits, device, for_both, ids, poisoned, random, rotate, rounding, there, wide, zeros,
};

fn heads(case: &Case) -> usize {
    case.shape.n_heads + case.shape.n_kv_heads
}

/// Positions of the rows, in no order.
fn positions(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| i * 37 % 300).collect()
}

fn table(head_dim: usize) -> RopeTable {
    RopeTable::new(300, head_dim, 10_000.0).unwrap().to_device(&device()).unwrap()
}

/// Rotated heads, raw, rstd.
fn forward(case: &Case, positions: &[u32]) -> (Tensor, Tensor, Tensor) {
    let (heads, dtype) = (heads(case), case.qkv.dtype());
    let mut qkv = case.qkv.clone();
    let mut raw = poisoned(&[case.n, heads * case.shape.head_dim], dtype);
    let mut rstd = poisoned(&[case.n, heads], DType::F32);
    let (weights, positions, table) =
        ((&case.weights.0, &case.weights.1), ids(positions), table(case.shape.head_dim));
    let rotation = Rotation { positions: &positions, table: &table };
    qk_norm_rope_forward(&mut qkv, &mut raw, &mut rstd, weights, rotation, case.shape, EPS).unwrap();
    (qkv, raw, rstd)
}

#[test]
fn heads_are_normalised_and_rotated_in_every_order() {
    with_each_order(|_| {
        for_both(|dtype| {
            for size in SIZES {
                let case = case(size, dtype);
                let positions = positions(case.n);
                let (qkv, raw, rstd) = forward(&case, &positions);
                let (mut want, mut want_rstd, mut kept): (_, Wide, Wide) = (wide(&case.qkv), vec![], vec![]);
                each_head(&case, &mut want, |_, _, x, weight| {
                    let r = rstd_of(x);
                    want_rstd.push(r);
                    kept.extend(&*x);
                    x.iter_mut().zip(weight).for_each(|(x, w)| *x *= r * w);
                });
                rotate(&mut want, case.shape.qkv_width(), heads(&case), case.shape.head_dim, &positions, 1.0);
                assert_close(&rstd, &want_rstd, 2e-6, "rstd");
                // The norm, two products, and one rounding to the storage; two where heads are not rotated at once.
                assert_close(&qkv, &want, 4e-6 + 2.0 * rounding(dtype), "qkv");
                assert_eq!(wide(&raw), kept);
            }
        });
    });
}

#[test]
fn gradients_go_back_through_rotation_and_norm_with_the_same_bits_in_every_order() {
    for_both(|dtype| {
        for size in SIZES {
            let case = case(size, dtype);
            let (d, positions) = (case.shape.head_dim, positions(case.n));
            let d_out = there(&random(&[case.n, case.shape.qkv_width()], 4), dtype);
            let mut unrotated = wide(&d_out);
            rotate(&mut unrotated, case.shape.qkv_width(), heads(&case), d, &positions, -1.0);
            let (want, d_weights) = reference_gradients(&case, unrotated);
            let (placed, table) = (ids(&positions), table(d));
            let mut seen: Option<Vec<Vec<u32>>> = None;
            with_each_order(|order| {
                let (_, raw, rstd) = forward(&case, &positions);
                let (mut d_qkv, mut d_q, mut d_k) =
                    (d_out.clone(), zeros(&[d], DType::F32), zeros(&[d], DType::F32));
                d_q.fill(1.0).unwrap();
                d_k.fill(1.0).unwrap();
                let weights = (&case.weights.0, &case.weights.1);
                let rotation = Rotation { positions: &placed, table: &table };
                let d = (&mut d_q, &mut d_k);
                qk_norm_rope_backward(&mut d_qkv, d, &raw, &rstd, weights, rotation, case.shape).unwrap();
                // As without the rotation. Where heads are not rotated at once, their gradients are rounded between the
                // two, and the weights' are sums of so many roundings by chance.
                let at_once = [16, 32, 64, 128, 256].contains(&case.shape.head_dim);
                let between = if at_once { 0.0 } else { rounding(dtype) };
                assert_close(&d_qkv, &want, 3e-5 + rounding(dtype) + 2.0 * between, "d_qkv");
                let sums = 1e-4 + between * ((case.n * heads(&case)) as f64).sqrt();
                assert_close(&d_q, &d_weights.0, sums, "d_q_weight");
                assert_close(&d_k, &d_weights.1, sums, "d_k_weight");
                let got: Vec<Vec<u32>> = [&d_qkv, &d_q, &d_k].map(bits).into();
                assert_eq!(seen.get_or_insert_with(|| got.clone()), &got, "{order:?}");
            });
        }
    });
}

#[test]
fn a_position_beyond_the_table_gives_nan_in_its_row_alone() {
    let case = case((2, 2, 1, 16), DType::F32);
    let (qkv, _, rstd) = forward(&case, &[299, 300]);
    let (rows, width) = (qkv.to_vec().unwrap(), case.shape.qkv_width());
    let (first, second) = rows.split_at(width);
    assert!(first.iter().all(|x| !x.is_nan()), "{first:?}");
    assert!(second.iter().enumerate().all(|(i, x)| x.is_nan() == (i < 3 * 16)), "{second:?}");
    assert!(rstd.to_vec().unwrap().iter().all(|r| r.is_finite()));
}
