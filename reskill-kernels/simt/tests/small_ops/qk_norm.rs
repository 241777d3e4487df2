use reskill_kernels::ops::{AttentionShape, qk_norm_backward, qk_norm_forward};
use reskill_kernels::{DType, Tensor};
use reskill_simt::with_each_order;

use crate::support::{Wide, assert_close, bits, for_both, poisoned, random, rounding, there, wide, zeros};

pub(crate) const EPS: f32 = 1e-6;

/// Rows and shape. Heads of 2, 40 and 6 have a warp each; (520, ..) has more rows than the backward pass has blocks, and
/// more heads than a block has warps. Heads of 8 to 256 share a warp.
pub(crate) const SIZES: [(usize, usize, usize, usize); 8] = [
    (1, 1, 1, 2),
    (5, 9, 3, 40),
    (520, 10, 5, 6),
    (37, 4, 2, 16),
    (3, 7, 1, 8),
    (7, 9, 3, 64),
    (3, 5, 2, 128),
    (2, 2, 1, 256),
];

pub(crate) struct Case {
    pub(crate) n: usize,
    pub(crate) shape: AttentionShape,
    pub(crate) qkv: Tensor,
    pub(crate) weights: (Tensor, Tensor),
}

pub(crate) fn case((n, n_heads, n_kv_heads, head_dim): (usize, usize, usize, usize), dtype: DType) -> Case {
    let shape = AttentionShape { n_heads, n_kv_heads, head_dim };
    let qkv = there(&random(&[n, shape.qkv_width()], 1), dtype);
    let weights = (there(&random(&[head_dim], 2), dtype), there(&random(&[head_dim], 3), dtype));
    Case { n, shape, qkv, weights }
}

/// The normalised heads, raw, rstd.
fn forward(case: &Case) -> (Tensor, Tensor, Tensor) {
    let (heads, dtype) = (case.shape.n_heads + case.shape.n_kv_heads, case.qkv.dtype());
    let mut qkv = case.qkv.clone();
    let mut raw = poisoned(&[case.n, heads * case.shape.head_dim], dtype);
    let mut rstd = poisoned(&[case.n, heads], DType::F32);
    let weights = (&case.weights.0, &case.weights.1);
    qk_norm_forward(&mut qkv, &mut raw, &mut rstd, weights, case.shape, EPS).unwrap();
    (qkv, raw, rstd)
}

/// `f(row, head, values of the head, its weight, out)` for each normalised head of rows laid out as `qkv`.
pub(crate) fn each_head(case: &Case, rows: &mut [f64], mut f: impl FnMut(usize, usize, &mut [f64], &[f64])) {
    let weights = (wide(&case.weights.0), wide(&case.weights.1));
    let d = case.shape.head_dim;
    for (n, row) in rows.chunks_mut(case.shape.qkv_width()).enumerate() {
        for head in 0..case.shape.n_heads + case.shape.n_kv_heads {
            let weight = if head < case.shape.n_heads { &weights.0 } else { &weights.1 };
            f(n, head, &mut row[head * d..(head + 1) * d], weight);
        }
    }
}

pub(crate) fn rstd_of(head: &[f64]) -> f64 {
    1.0 / (head.iter().map(|x| x * x).sum::<f64>() / head.len() as f64 + f64::from(EPS)).sqrt()
}

#[test]
fn qk_norm_equals_the_f64_version_and_keeps_what_backward_needs_in_every_order() {
    with_each_order(|_| {
        for_both(|dtype| {
            for size in SIZES {
                let case = case(size, dtype);
                let (qkv, raw, rstd) = forward(&case);
                let (mut want, mut want_rstd, mut kept): (_, Wide, Wide) = (wide(&case.qkv), vec![], vec![]);
                each_head(&case, &mut want, |_, _, x, weight| {
                    let r = rstd_of(x);
                    want_rstd.push(r);
                    kept.extend(&*x);
                    x.iter_mut().zip(weight).for_each(|(x, w)| *x *= r * w);
                });
                // Sums of at most 256 squares in f32, a root, and one rounding to the storage.
                assert_close(&rstd, &want_rstd, 2e-6, "rstd");
                assert_close(&qkv, &want, 2e-6 + rounding(dtype), "qkv");
                assert_eq!(wide(&raw), kept);
            }
        });
    });
}

/// The gradient of the packed rows, and those of both weights on top of ones.
pub(crate) fn reference_gradients(case: &Case, d_out: Wide) -> (Wide, (Wide, Wide)) {
    let (d, width) = (case.shape.head_dim, case.shape.qkv_width());
    let x = wide(&case.qkv);
    let (mut want, mut d_weights) = (d_out, (vec![1.0; d], vec![1.0; d]));
    each_head(case, &mut want, |n, head, g, weight| {
        let x = &x[n * width + head * d..][..d];
        let r = rstd_of(x);
        let to = if head < case.shape.n_heads { &mut d_weights.0 } else { &mut d_weights.1 };
        to.iter_mut().zip(&*g).zip(x).for_each(|((to, d), x)| *to += d * x * r);
        g.iter_mut().zip(weight).for_each(|(g, w)| *g *= w);
        let mean = g.iter().zip(x).map(|(g, x)| g * x).sum::<f64>() / d as f64;
        g.iter_mut().zip(x).for_each(|(g, x)| *g = r * (*g - x * r * r * mean));
    });
    (want, d_weights)
}

#[test]
fn qk_norm_gradients_of_more_heads_than_all_blocks_hold_at_once_equal_the_f64_version() {
    // 512 blocks with 256 heads of 8 each take 131,072; a block's next heads lie in other rows, at other heads.
    let case = case((43_800, 2, 1, 8), DType::F32);
    let d_out = random(&[case.n, case.shape.qkv_width()], 4);
    let (want, d_weights) = reference_gradients(&case, wide(&d_out));
    let (_, raw, rstd) = forward(&case);
    let mut d_qkv = there(&d_out, DType::F32);
    let [mut d_q, mut d_k] = [(); 2].map(|()| zeros(&[8], DType::F32));
    d_q.fill(1.0).unwrap();
    d_k.fill(1.0).unwrap();
    let weights = (&case.weights.0, &case.weights.1);
    qk_norm_backward(&mut d_qkv, (&mut d_q, &mut d_k), &raw, &rstd, weights, case.shape).unwrap();
    assert_close(&d_qkv, &want, 2e-5, "d_qkv");
    // Sums of 87,600 products in f32, 1,400 or so on the way to each.
    assert_close(&d_q, &d_weights.0, 1e-4, "d_q_weight");
    assert_close(&d_k, &d_weights.1, 1e-4, "d_k_weight");
}

#[test]
fn qk_norm_gradients_equal_the_f64_version_and_have_the_same_bits_in_every_order() {
    for_both(|dtype| {
        for size in SIZES {
            let case = case(size, dtype);
            let d = case.shape.head_dim;
            let d_out = there(&random(&[case.n, case.shape.qkv_width()], 4), dtype);
            let (want, d_weights) = reference_gradients(&case, wide(&d_out));
            let mut seen: Option<Vec<Vec<u32>>> = None;
            with_each_order(|order| {
                let (_, raw, rstd) = forward(&case);
                let (mut d_qkv, mut d_q, mut d_k) =
                    (d_out.clone(), zeros(&[d], DType::F32), zeros(&[d], DType::F32));
                d_q.fill(1.0).unwrap();
                d_k.fill(1.0).unwrap();
                let weights = (&case.weights.0, &case.weights.1);
                qk_norm_backward(&mut d_qkv, (&mut d_q, &mut d_k), &raw, &rstd, weights, case.shape).unwrap();
                // A head of nearly zero has an rstd of hundreds; sums of up to 5,200 products in f32.
                assert_close(&d_qkv, &want, 2e-5 + rounding(dtype), "d_qkv");
                assert_close(&d_q, &d_weights.0, 1e-4, "d_q_weight");
                assert_close(&d_k, &d_weights.1, 1e-4, "d_k_weight");
                let got: Vec<Vec<u32>> = [&d_qkv, &d_q, &d_k].map(bits).into();
                assert_eq!(seen.get_or_insert_with(|| got.clone()), &got, "{order:?}");
            });
        }
    });
}
