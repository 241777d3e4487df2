use reskill_kernels::ops::{bias_backward, bias_forward};

use crate::support::{assert_close, assert_thread_count_does_not_matter, message, random, tensor, zeros};

#[test]
fn bias_is_added_to_every_row() {
    let mut out = tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    bias_forward(&mut out, &tensor(&[3], &[10.0, 20.0, 30.0])).unwrap();
    assert_eq!(out.as_slice(), &[11.0, 22.0, 33.0, 14.0, 25.0, 36.0]);
}

#[test]
fn bias_gradient_is_the_sum_over_rows_added_to_what_was_there() {
    let d_out = random(&[601, 5], 1);
    let mut d_bias = tensor(&[5], &[1.0; 5]);
    bias_backward(&mut d_bias, &d_out).unwrap();
    let want: Vec<f64> = (0..5)
        .map(|o| 1.0 + d_out.as_slice().iter().skip(o).step_by(5).map(|&x| f64::from(x)).sum::<f64>())
        .collect();
    // 601 terms of size 1 in f32.
    assert_close(&d_bias, &want, 1e-5, "d_bias");
}

#[test]
fn bias_gradient_does_not_depend_on_the_number_of_threads() {
    let d_out = random(&[1500, 7], 2);
    assert_thread_count_does_not_matter(|| {
        let mut d_bias = zeros(&[7]);
        bias_backward(&mut d_bias, &d_out).unwrap();
        vec![d_bias]
    });
}

#[test]
fn bias_refuses_another_width() {
    let mut out = zeros(&[2, 3]);
    assert_eq!(
        message(bias_forward(&mut out, &zeros(&[4]))),
        "bias_forward: `bias` has shape [4], expected [3]"
    );
    assert_eq!(
        message(bias_backward(&mut zeros(&[2]), &out)),
        "bias_backward: `d_bias` has shape [2], expected [3]"
    );
}
