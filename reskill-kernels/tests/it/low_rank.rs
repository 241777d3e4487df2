use reskill_kernels::Tensor;
use reskill_kernels::ops::{LowRank, low_rank_backward, low_rank_forward};

use crate::support::{
    assert_close, bits, inner, message, numerical_gradient, random, rows, tensor, wide, zeros,
};

/// `out + scale x A^T B^T` in the columns from 2 on, with 5 inputs, rank 3, 4 outputs of a width of 7.
fn reference(out: &[f64], x: &[f64], a: &[f64], b: &[f64], scale: f64) -> Vec<f64> {
    let mut out = out.to_vec();
    for (out, x) in out.chunks_mut(7).zip(x.chunks(5)) {
        let u: Vec<f64> = a.chunks(5).map(|row| inner(row, x)).collect();
        for (out, row) in out[2..6].iter_mut().zip(b.chunks(3)) {
            *out += scale * inner(row, &u);
        }
    }
    out
}

fn pair<'a>(a: &'a Tensor, b: &'a Tensor) -> LowRank<'a> {
    LowRank { a, b, scale: 0.75, first_column: 2 }
}

#[test]
fn low_rank_product_is_added_to_its_columns_alone() {
    let (out, x) = (random(&[9, 7], 1), random(&[9, 5], 2));
    let (a, b) = (random(&[3, 5], 3), random(&[4, 3], 4));
    let mut got = out.clone();
    low_rank_forward(&mut got, &x, &pair(&a, &b)).unwrap();
    assert_close(&got, &reference(&wide(&out), &wide(&x), &wide(&a), &wide(&b), 0.75), 1e-6, "out");
    for n in 0..9 {
        let mut alone = rows(&out, n, 1);
        low_rank_forward(&mut alone, &rows(&x, n, 1), &pair(&a, &b)).unwrap();
        assert_eq!(bits(&alone), bits(&rows(&got, n, 1)), "row {n} depends on the rows beside it");
    }
}

#[test]
fn low_rank_gradients_equal_finite_differences() {
    let (x, d_out) = (random(&[4, 5], 1), random(&[4, 7], 2));
    let (a, b) = (random(&[3, 5], 3), random(&[4, 3], 4));
    let (mut d_x, mut d_a, mut d_b) = (zeros(&[4, 5]), zeros(&[3, 5]), zeros(&[4, 3]));
    low_rank_backward(&mut d_x, (&mut d_a, &mut d_b), &d_out, &x, &pair(&a, &b)).unwrap();
    let (wx, wa, wb, wd) = (wide(&x), wide(&a), wide(&b), wide(&d_out));
    let loss = |x: &[f64], a: &[f64], b: &[f64]| inner(&reference(&[0.0; 28], x, a, b, 0.75), &wd);
    // f32 against difference quotients that are good to 1e-9.
    assert_close(&d_x, &numerical_gradient(&wx, |x| loss(x, &wa, &wb)), 1e-5, "d_x");
    assert_close(&d_a, &numerical_gradient(&wa, |a| loss(&wx, a, &wb)), 1e-5, "d_a");
    assert_close(&d_b, &numerical_gradient(&wb, |b| loss(&wx, &wa, b)), 1e-5, "d_b");
}

#[test]
fn low_rank_refuses_columns_beyond_the_end() {
    let (a, b) = (zeros(&[3, 5]), zeros(&[6, 3]));
    let refused = low_rank_forward(&mut zeros(&[1, 7]), &tensor(&[1, 5], &[0.0; 5]), &pair(&a, &b));
    assert_eq!(message(refused), "low_rank_forward: `first_column + O` = 8, expected <= 7");
}
