//! `adamw` and `sum_squares`.

use reskill_kernels::Tensor;
use reskill_kernels::ops::{AdamWParams, adamw, sum_squares};

use crate::support::{assert_close, message, random, tensor, wide, zeros};

const PARAMS: AdamWParams = AdamWParams {
    learning_rate: 0.1,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.01,
    step: 1,
    grad_scale: 1.0,
};

/// Five steps in f64.
fn check(len: usize, params: AdamWParams) {
    let mut weight = random(&[len], 1);
    let (mut m, mut v) = (zeros(&[len]), zeros(&[len]));
    let mut want: Vec<(f64, f64, f64)> = wide(&weight).into_iter().map(|w| (w, 0.0, 0.0)).collect();
    let wide_of = |x: f32| f64::from(x);
    let (beta1, beta2) = (wide_of(params.beta1), wide_of(params.beta2));
    for step in 1..=5 {
        let grad = random(&[len], 10 + step);
        adamw(&mut weight, &mut m, &mut v, &grad, &AdamWParams { step, ..params }).unwrap();
        for ((w, m, v), g) in want.iter_mut().zip(wide(&grad)) {
            let g = g * wide_of(params.grad_scale);
            *m = beta1 * *m + (1.0 - beta1) * g;
            *v = beta2 * *v + (1.0 - beta2) * g * g;
            let (m, v) = (*m / (1.0 - beta1.powi(step as i32)), *v / (1.0 - beta2.powi(step as i32)));
            let pull = m / (v.sqrt() + wide_of(params.eps)) + wide_of(params.weight_decay) * *w;
            *w -= wide_of(params.learning_rate) * pull;
        }
    }
    let column = |f: fn(&(f64, f64, f64)) -> f64| -> Vec<f64> { want.iter().map(f).collect() };
    // `1 - beta2` is rounded by up to 6e-6 of itself in f32; the root halves that.
    assert_close(&weight, &column(|x| x.0), 5e-6, "weight");
    assert_close(&m, &column(|x| x.1), 5e-6, "m");
    assert_close(&v, &column(|x| x.2), 5e-6, "v");
}

fn one_step(grad: f32, params: AdamWParams) -> (Tensor, Tensor, Tensor) {
    let (mut weight, mut m, mut v) = (tensor(&[1], &[2.0]), zeros(&[1]), zeros(&[1]));
    adamw(&mut weight, &mut m, &mut v, &tensor(&[1], &[grad]), &params).unwrap();
    (weight, m, v)
}

#[test]
fn adamw_first_step_matches_hand_computed_numbers() {
    // m' = g and v' = g^2, so the update is the learning rate plus decay: 2 - 0.1 (1 + 0.01 * 2) = 1.898.
    let (weight, m, v) = one_step(0.5, PARAMS);
    assert_close(&weight, &[1.898], 1e-6, "weight");
    assert_close(&m, &[0.05], 1e-6, "m");
    assert_close(&v, &[0.0025], 1e-6, "v");
}

#[test]
fn adamw_decays_weights_without_a_gradient() {
    let (weight, m, v) = one_step(0.0, PARAMS);
    assert_close(&weight, &[2.0 - 0.1 * 0.01 * 2.0], 1e-7, "weight");
    assert_eq!((m.as_slice(), v.as_slice()), (&[0.0][..], &[0.0][..]));
}

#[test]
fn adamw_scales_the_gradient_before_the_moments() {
    let scaled = one_step(1.0, AdamWParams { grad_scale: 0.5, ..PARAMS });
    assert_eq!(scaled, one_step(0.5, PARAMS));
}

#[test]
fn adamw_of_odd_sizes_equals_the_f64_version() {
    for len in [1, 37, 257] {
        check(len, PARAMS);
        check(len, AdamWParams { grad_scale: 0.3, weight_decay: 0.0, learning_rate: 1e-3, ..PARAMS });
    }
}

#[test]
fn adamw_refuses_step_zero_and_odd_shapes() {
    let (mut weight, mut m, mut v) = (zeros(&[2]), zeros(&[2]), zeros(&[2]));
    assert_eq!(
        message(adamw(&mut weight, &mut m, &mut v, &zeros(&[2]), &AdamWParams { step: 0, ..PARAMS })),
        "adamw: `step` = 0, expected >= 1"
    );
    assert_eq!(
        message(adamw(&mut weight, &mut m, &mut v, &zeros(&[3]), &PARAMS)),
        "adamw: `grad` has shape [3], expected [2]"
    );
}

#[test]
fn sum_squares_is_exact_where_f32_would_not_be() {
    assert_eq!(sum_squares(&tensor(&[2, 2], &[1.0, -2.0, 3.0, 0.5])).unwrap(), 14.25);
    // 2^24 + 1 is no f32: a sum in f32 would stop counting.
    let mut many = vec![1.0; 1001];
    many[0] = 4096.0;
    assert_eq!(sum_squares(&tensor(&[1001], &many)).unwrap(), 16_778_216.0);
    assert_eq!(sum_squares(&zeros(&[0])).unwrap(), 0.0);
}

#[test]
fn sum_squares_of_a_broken_tensor_is_not_finite() {
    assert!(sum_squares(&tensor(&[3], &[1.0, f32::NAN, 1.0])).unwrap().is_nan());
    assert!(sum_squares(&tensor(&[2], &[f32::INFINITY, 1.0])).unwrap().is_infinite());
}
