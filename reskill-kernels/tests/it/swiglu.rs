use reskill_kernels::Tensor;
use reskill_kernels::ops::{swiglu_backward, swiglu_forward};

use crate::support::{
    assert_close, assert_thread_count_does_not_matter, bits, inner, message, numerical_gradient, random,
    rows, tensor, wide, zeros,
};

fn forward(gate_up: &Tensor) -> Tensor {
    let mut out = zeros(&[gate_up.rows(), gate_up.row_len() / 2]);
    swiglu_forward(&mut out, gate_up).unwrap();
    out
}

fn reference(gate_up: &[f64], f: usize) -> Vec<f64> {
    gate_up
        .chunks(2 * f)
        .flat_map(|row| (0..f).map(|i| row[i] / (1.0 + (-row[i]).exp()) * row[f + i]))
        .collect()
}

fn check(n: usize, f: usize) {
    let mut gate_up = random(&[n, 2 * f], 1);
    gate_up.as_mut_slice().iter_mut().for_each(|x| *x *= 20.0);
    // The exponential is good to 2e-7, a few roundings follow.
    assert_close(&forward(&gate_up), &reference(&wide(&gate_up), f), 1e-6, "out");
}

#[test]
fn swiglu_matches_hand_computed_values() {
    // silu(0) = 0, silu(1) = 0.731058579, silu(-2) = -0.238405844.
    let out = forward(&tensor(&[1, 6], &[0.0, 1.0, -2.0, 7.0, 2.0, 10.0]));
    assert_close(&out, &[0.0, 1.462_117_157, -2.384_058_44], 5e-7, "out");
}

#[test]
fn swiglu_of_large_gates_is_linear_or_zero() {
    let out = forward(&tensor(&[1, 4], &[200.0, -200.0, 1.0, 1.0]));
    assert_close(&out, &[200.0, 0.0], 1e-6, "out");
}

#[test]
fn swiglu_of_odd_sizes_equals_the_f64_version() {
    for (n, f) in [(1, 1), (1, 17), (37, 24), (257, 33)] {
        check(n, f);
    }
}

#[test]
fn swiglu_gradient_equals_finite_differences() {
    for (n, f) in [(1, 3), (5, 19)] {
        let (gate_up, d_out) = (random(&[n, 2 * f], 1), random(&[n, f], 2));
        let mut d_gate_up = random(&[n, 2 * f], 9);
        swiglu_backward(&mut d_gate_up, &d_out, &gate_up).unwrap();
        let want = numerical_gradient(&wide(&gate_up), |x| inner(&reference(x, f), &wide(&d_out)));
        assert_close(&d_gate_up, &want, 1e-6, "d_gate_up");
    }
}

#[test]
fn swiglu_does_not_depend_on_other_rows_or_on_threads() {
    let (gate_up, d_out) = (random(&[200, 38], 1), random(&[200, 19], 2));
    let all = forward(&gate_up);
    for n in [0, 63, 64, 199] {
        assert_eq!(bits(&forward(&rows(&gate_up, n, 1))), bits(&rows(&all, n, 1)));
    }
    assert_thread_count_does_not_matter(|| {
        let mut d_gate_up = zeros(&[200, 38]);
        swiglu_backward(&mut d_gate_up, &d_out, &gate_up).unwrap();
        vec![forward(&gate_up), d_gate_up]
    });
}

#[test]
fn swiglu_of_width_zero_is_empty() {
    assert!(forward(&zeros(&[3, 0])).is_empty());
    swiglu_backward(&mut zeros(&[3, 0]), &zeros(&[3, 0]), &zeros(&[3, 0])).unwrap();
}

#[test]
fn swiglu_refuses_odd_shapes() {
    assert_eq!(
        message(swiglu_forward(&mut zeros(&[2, 3]), &zeros(&[2, 5]))),
        "swiglu_forward: `gate_up` has shape [2, 5], expected [2, 6]"
    );
    assert_eq!(
        message(swiglu_backward(&mut zeros(&[2, 5]), &zeros(&[2, 3]), &zeros(&[2, 6]))),
        "swiglu_backward: `d_gate_up` has shape [2, 5], expected [2, 6]"
    );
}
