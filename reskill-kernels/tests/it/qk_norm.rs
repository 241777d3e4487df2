use reskill_kernels::Tensor;
use reskill_kernels::ops::{AttentionShape, qk_norm_backward, qk_norm_forward};

use crate::support::{
    assert_close, assert_thread_count_does_not_matter, bits, inner, message, numerical_gradient, random,
    rows, wide, zeros,
};

const EPS: f32 = 1e-6;
const SHAPE: AttentionShape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim: 6 };

fn forward(x: &Tensor, weights: (&Tensor, &Tensor)) -> (Tensor, Tensor, Tensor) {
    let n = x.rows();
    let (mut qkv, mut raw, mut rstd) = (x.clone(), zeros(&[n, 36]), zeros(&[n, 6]));
    qk_norm_forward(&mut qkv, &mut raw, &mut rstd, weights, SHAPE, EPS).unwrap();
    (qkv, raw, rstd)
}

/// Six heads of six; the values behind them stay.
fn reference(x: &[f64], q_weight: &[f64], k_weight: &[f64]) -> Vec<f64> {
    let one = |(head, x): (usize, &[f64])| -> Vec<f64> {
        if head % 8 >= 6 {
            return x.to_vec();
        }
        let weight = if head % 8 < 4 { q_weight } else { k_weight };
        let rstd = 1.0 / (inner(x, x) / 6.0 + f64::from(EPS)).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * rstd * w).collect()
    };
    x.chunks(6).enumerate().flat_map(one).collect()
}

#[test]
fn qk_norm_equals_the_f64_version_and_leaves_values_alone() {
    for n in [1, 3, 131] {
        let (x, q, k) = (random(&[n, 48], 1), random(&[6], 2), random(&[6], 3));
        let (out, raw, _) = forward(&x, (&q, &k));
        assert_close(&out, &reference(&wide(&x), &wide(&q), &wide(&k)), 2e-6, "out");
        assert_eq!(bits(&rows(&raw, 0, 1))[..], bits(&x)[..36]);
    }
}

#[test]
fn qk_norm_gradients_equal_finite_differences() {
    let (x, q, k) = (random(&[3, 48], 4), random(&[6], 5), random(&[6], 6));
    let d_out = random(&[3, 48], 7);
    let (_, raw, rstd) = forward(&x, (&q, &k));
    let (mut d_x, mut d_q, mut d_k) = (d_out.clone(), zeros(&[6]), zeros(&[6]));
    qk_norm_backward(&mut d_x, (&mut d_q, &mut d_k), &raw, &rstd, (&q, &k), SHAPE).unwrap();
    let (wx, wq, wk, wd) = (wide(&x), wide(&q), wide(&k), wide(&d_out));
    let loss = |x: &[f64], q: &[f64], k: &[f64]| inner(&reference(x, q, k), &wd);
    // f32 against difference quotients that are good to 1e-9.
    assert_close(&d_x, &numerical_gradient(&wx, |x| loss(x, &wq, &wk)), 2e-5, "d_x");
    assert_close(&d_q, &numerical_gradient(&wq, |q| loss(&wx, q, &wk)), 2e-5, "d_q");
    assert_close(&d_k, &numerical_gradient(&wk, |k| loss(&wx, &wq, k)), 2e-5, "d_k");
}

#[test]
fn qk_norm_of_a_row_does_not_depend_on_the_rows_beside_it() {
    let (x, q, k) = (random(&[130, 48], 8), random(&[6], 9), random(&[6], 10));
    let (all, _, _) = forward(&x, (&q, &k));
    for n in [0, 63, 64, 129] {
        assert_eq!(bits(&forward(&rows(&x, n, 1), (&q, &k)).0), bits(&rows(&all, n, 1)));
    }
}

#[test]
fn qk_norm_gradients_do_not_depend_on_the_number_of_threads() {
    let (x, q, k) = (random(&[700, 48], 11), random(&[6], 12), random(&[6], 13));
    let (_, raw, rstd) = forward(&x, (&q, &k));
    assert_thread_count_does_not_matter(|| {
        let (mut d_x, mut d_q, mut d_k) = (x.clone(), zeros(&[6]), zeros(&[6]));
        qk_norm_backward(&mut d_x, (&mut d_q, &mut d_k), &raw, &rstd, (&q, &k), SHAPE).unwrap();
        vec![d_x, d_q, d_k]
    });
}

#[test]
fn qk_norm_refuses_weights_of_another_head_size() {
    let mut qkv = zeros(&[2, 48]);
    let (short, right) = (zeros(&[5]), zeros(&[6]));
    let refused =
        qk_norm_forward(&mut qkv, &mut zeros(&[2, 36]), &mut zeros(&[2, 6]), (&right, &short), SHAPE, EPS);
    assert_eq!(message(refused), "qk_norm_forward: `k_weight` has shape [5], expected [6]");
}
