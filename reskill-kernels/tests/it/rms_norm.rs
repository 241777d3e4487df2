use reskill_kernels::Tensor;
use reskill_kernels::ops::{residual_rms_norm_forward, rms_norm_backward, rms_norm_forward};

use crate::support::{
    assert_close, assert_thread_count_does_not_matter, bits, inner, message, numerical_gradient, random,
    rows, tensor, wide, zeros,
};

const EPS: f32 = 1e-5;

fn forward(x: &Tensor, weight: &Tensor, eps: f32) -> (Tensor, Tensor) {
    let (mut out, mut rstd) = (zeros(x.shape()), zeros(&[x.rows()]));
    rms_norm_forward(&mut out, &mut rstd, x, weight, eps).unwrap();
    (out, rstd)
}

/// Out, sum and rstd.
fn residual_forward(x: &Tensor, residual: &Tensor, weight: &Tensor) -> (Tensor, Tensor, Tensor) {
    let (mut out, mut sum, mut rstd) = (zeros(x.shape()), zeros(x.shape()), zeros(&[x.rows()]));
    residual_rms_norm_forward(&mut out, &mut sum, &mut rstd, x, residual, weight, EPS).unwrap();
    (out, sum, rstd)
}

fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn reference(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let c = weight.len();
    x.chunks(c)
        .flat_map(|row| {
            let rstd = 1.0 / (inner(row, row) / c as f64 + f64::from(EPS)).sqrt();
            row.iter().zip(weight).map(move |(x, w)| x * rstd * w)
        })
        .collect()
}

fn check(n: usize, c: usize) {
    let (x, weight) = (random(&[n, c], 1), random(&[c], 2));
    // Sums of at most 257 squares in f32, then a root: a few units in the last place, 6e-8 each.
    assert_close(&forward(&x, &weight, EPS).0, &reference(&wide(&x), &wide(&weight)), 2e-6, "out");
}

#[test]
fn rms_norm_matches_hand_computed_row() {
    // Mean square (9 + 16) / 2 = 12.5; with eps 12.25 the root would be of 24.75.
    let (out, rstd) = forward(&tensor(&[1, 2], &[3.0, 4.0]), &tensor(&[2], &[1.0, 2.0]), 0.0);
    assert_close(&rstd, &[0.282_842_712], 1e-7, "rstd");
    assert_close(&out, &[0.848_528_137, 2.262_741_7], 1e-7, "out");
}

#[test]
fn rms_norm_of_a_zero_row_is_zero() {
    let (out, rstd) = forward(&zeros(&[1, 4]), &tensor(&[4], &[1.0; 4]), 1e-4);
    assert_eq!(out.as_slice(), &[0.0; 4]);
    assert_close(&rstd, &[100.0], 1e-6, "rstd");
}

#[test]
fn rms_norm_of_odd_sizes_equals_the_f64_version() {
    for (n, c) in [(1, 1), (1, 16), (37, 24), (37, 257), (257, 96), (257, 33)] {
        check(n, c);
    }
}

#[test]
fn rms_norm_of_a_residual_sum_at_odd_sizes_equals_the_f64_version() {
    for (n, c) in [(1, 1), (1, 16), (37, 24), (37, 257), (257, 96), (257, 33)] {
        let (x, residual, weight) = (random(&[n, c], 1), random(&[n, c], 2), random(&[c], 3));
        let (out, sum, rstd) = residual_forward(&x, &residual, &weight);
        let want = add(&wide(&x), &wide(&residual));
        assert_close(&sum, &want, 1e-7, "sum");
        // As for rows that are not sums, and the rounding of the sum, 6e-8.
        assert_close(&out, &reference(&want, &wide(&weight)), 2e-6, "out");
        let (same_out, same_rstd) = forward(&sum, &weight, EPS);
        assert_eq!((bits(&out), bits(&rstd)), (bits(&same_out), bits(&same_rstd)));
    }
}

#[test]
fn rms_norm_backward_gives_the_gradient_of_both_terms_of_a_residual_sum() {
    let (n, c) = (3, 7);
    let [x, residual, d_out, d_sum] = [1, 2, 3, 4].map(|seed| random(&[n, c], seed));
    let weight = random(&[c], 5);
    let (_, sum, rstd) = residual_forward(&x, &residual, &weight);
    // The sum is used again behind the norm: its gradient from there is what the norm's is added to.
    let (mut d_x, mut d_weight) = (d_sum.clone(), zeros(&[c]));
    rms_norm_backward(&mut d_x, &mut d_weight, &d_out, &sum, &weight, &rstd).unwrap();
    let [wx, wr, ww, wd, ws] = [&x, &residual, &weight, &d_out, &d_sum].map(wide);
    let loss = |x: &[f64], residual: &[f64], weight: &[f64]| {
        let sum = add(residual, x);
        inner(&reference(&sum, weight), &wd) + inner(&sum, &ws)
    };
    // f32 rounding of sums of at most 7 terms.
    assert_close(&d_x, &numerical_gradient(&wx, |x| loss(x, &wr, &ww)), 5e-6, "x");
    assert_close(&d_x, &numerical_gradient(&wr, |residual| loss(&wx, residual, &ww)), 5e-6, "residual");
    assert_close(&d_weight, &numerical_gradient(&ww, |weight| loss(&wx, &wr, weight)), 5e-6, "weight");
}

#[test]
fn rms_norm_gradients_equal_finite_differences() {
    for (n, c) in [(1, 5), (3, 7), (5, 18)] {
        let (x, weight, d_out) = (random(&[n, c], 3), random(&[c], 4), random(&[n, c], 5));
        let (_, rstd) = forward(&x, &weight, EPS);
        let (mut d_x, mut d_weight) = (zeros(&[n, c]), zeros(&[c]));
        rms_norm_backward(&mut d_x, &mut d_weight, &d_out, &x, &weight, &rstd).unwrap();
        let (wx, ww, wd) = (wide(&x), wide(&weight), wide(&d_out));
        let by_x = numerical_gradient(&wx, |x| inner(&reference(x, &ww), &wd));
        let by_weight = numerical_gradient(&ww, |weight| inner(&reference(&wx, weight), &wd));
        // f32 rounding of sums of at most 18 terms.
        assert_close(&d_x, &by_x, 5e-6, "d_x");
        assert_close(&d_weight, &by_weight, 5e-6, "d_weight");
    }
}

#[test]
fn rms_norm_gradients_are_added_to_what_is_there() {
    let (x, weight, d_out) = (random(&[3, 4], 1), random(&[4], 2), random(&[3, 4], 3));
    let (_, rstd) = forward(&x, &weight, EPS);
    let run = |start: f32| {
        let (mut d_x, mut d_weight) = (tensor(&[3, 4], &[start; 12]), tensor(&[4], &[start; 4]));
        rms_norm_backward(&mut d_x, &mut d_weight, &d_out, &x, &weight, &rstd).unwrap();
        (d_x, d_weight)
    };
    let ((from_zero, weight_from_zero), (from_one, weight_from_one)) = (run(0.0), run(1.0));
    let plus_one = |x: &Tensor| -> Vec<f64> { wide(x).iter().map(|x| x + 1.0).collect() };
    assert_close(&from_one, &plus_one(&from_zero), 1e-6, "d_x");
    assert_close(&weight_from_one, &plus_one(&weight_from_zero), 1e-6, "d_weight");
}

#[test]
fn rms_norm_of_a_row_does_not_depend_on_the_rows_beside_it() {
    let (x, weight) = (random(&[130, 37], 1), random(&[37], 2));
    let (all, _) = forward(&x, &weight, EPS);
    for n in 0..130 {
        assert_eq!(bits(&forward(&rows(&x, n, 1), &weight, EPS).0), bits(&rows(&all, n, 1)));
    }
}

#[test]
fn rms_norm_does_not_depend_on_the_number_of_threads() {
    let (x, weight, d_out) = (random(&[700, 24], 1), random(&[24], 2), random(&[700, 24], 3));
    assert_thread_count_does_not_matter(|| {
        let (out, rstd) = forward(&x, &weight, EPS);
        let (mut d_x, mut d_weight) = (zeros(&[700, 24]), zeros(&[24]));
        rms_norm_backward(&mut d_x, &mut d_weight, &d_out, &x, &weight, &rstd).unwrap();
        vec![out, rstd, d_x, d_weight]
    });
}

#[test]
fn rms_norm_refuses_odd_shapes() {
    let (x, mut rstd) = (zeros(&[2, 4]), zeros(&[2]));
    assert_eq!(
        message(rms_norm_forward(&mut zeros(&[2, 4]), &mut rstd, &x, &zeros(&[3]), EPS)),
        "rms_norm_forward: `weight` has shape [3], expected [4]"
    );
    assert_eq!(
        message(rms_norm_forward(&mut zeros(&[2, 4]), &mut zeros(&[1]), &x, &zeros(&[4]), EPS)),
        "rms_norm_forward: `rstd` has shape [1], expected [2]"
    );
    assert_eq!(
        message(rms_norm_backward(&mut zeros(&[2, 4]), &mut zeros(&[5]), &x, &x, &zeros(&[4]), &rstd)),
        "rms_norm_backward: `d_weight` has shape [5], expected [4]"
    );
    let [mut out, mut sum, odd] = [&[2, 4], &[2, 4], &[4, 2]].map(|shape| zeros(shape));
    assert_eq!(
        message(residual_rms_norm_forward(&mut out, &mut sum, &mut rstd, &x, &odd, &zeros(&[4]), EPS)),
        "residual_rms_norm_forward: `residual` has shape [4, 2], expected [2, 4]"
    );
}
