use reskill_kernels::Tensor;
use reskill_kernels::ops::{matmul, matmul_backward_input, matmul_backward_weight};

use crate::support::{
    assert_close, assert_thread_count_does_not_matter, bits, message, random, rows, tensor, wide, zeros,
};

/// (outputs, inputs): every way `gemm` could take by the size of a product, and the sizes of real layers.
const WIDTHS: [(usize, usize); 16] = [
    (1, 1),
    (1, 40),
    (2, 3),
    (4, 600),
    (7, 2),
    (16, 16),
    (24, 32),
    (32, 24),
    (33, 16),
    (40, 700),
    (64, 513),
    (65, 600),
    (96, 256),
    (256, 96),
    (64, 1536),
    (576, 1100),
];

fn forward(x: &Tensor, weight: &Tensor) -> Tensor {
    let mut out = zeros(&[x.rows(), weight.rows()]);
    matmul(&mut out, x, weight, false).unwrap();
    out
}

fn backward_input(d_out: &Tensor, weight: &Tensor) -> Tensor {
    let mut d_x = zeros(&[d_out.rows(), weight.row_len()]);
    matmul_backward_input(&mut d_x, d_out, weight, false).unwrap();
    d_x
}

/// `a (m, k) * b (k, n)` in f64, a factor given as a function of its indices.
fn product(
    (m, k, n): (usize, usize, usize),
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let cell = |i: usize, j: usize| (0..k).map(|l| a(i, l) * b(l, j)).sum();
    (0..m * n).map(|index| cell(index / n, index % n)).collect()
}

fn check(n: usize, outputs: usize, inputs: usize) {
    let (x, weight, d_out) =
        (random(&[n, inputs], 1), random(&[outputs, inputs], 2), random(&[n, outputs], 3));
    let (wx, ww, wd) = (wide(&x), wide(&weight), wide(&d_out));
    let at = |data: &[f64], width: usize, i: usize, j: usize| data[i * width + j];
    let what = format!("{n} x {inputs} -> {outputs}");
    // Sums of at most 1536 terms below 1: sqrt(1536) of them stand in for the sum, 6e-8 each, times a margin of 8.
    let tolerance = 2e-5;
    let want = product((n, inputs, outputs), |i, l| at(&wx, inputs, i, l), |l, j| at(&ww, inputs, j, l));
    assert_close(&forward(&x, &weight), &want, tolerance, &what);
    let want = product((n, outputs, inputs), |i, l| at(&wd, outputs, i, l), |l, j| at(&ww, inputs, l, j));
    assert_close(&backward_input(&d_out, &weight), &want, tolerance, &what);
    let mut d_weight = zeros(&[outputs, inputs]);
    matmul_backward_weight(&mut d_weight, &d_out, &x).unwrap();
    let want = product((outputs, n, inputs), |i, l| at(&wd, outputs, l, i), |l, j| at(&wx, inputs, l, j));
    assert_close(&d_weight, &want, tolerance, &what);
}

#[test]
fn matmul_matches_hand_computed_products() {
    let x = tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let weight = tensor(&[2, 3], &[1.0, 0.0, -1.0, 2.0, 1.0, 0.0]);
    assert_eq!(forward(&x, &weight).as_slice(), &[-2.0, 4.0, -2.0, 13.0]);
    let d_out = tensor(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(backward_input(&d_out, &weight).as_slice(), &[5.0, 2.0, -1.0, 11.0, 4.0, -3.0]);
    let mut d_weight = tensor(&[2, 3], &[100.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    matmul_backward_weight(&mut d_weight, &d_out, &x).unwrap();
    assert_eq!(d_weight.as_slice(), &[113.0, 17.0, 21.0, 18.0, 24.0, 30.0]);
}

#[test]
fn matmul_adds_to_its_output_when_asked() {
    for (outputs, inputs) in WIDTHS {
        let (x, weight) = (random(&[5, inputs], 1), random(&[outputs, inputs], 2));
        let mut added = tensor(&[5, outputs], &vec![1.0; 5 * outputs]);
        matmul(&mut added, &x, &weight, true).unwrap();
        let want: Vec<f64> = wide(&forward(&x, &weight)).iter().map(|x| x + 1.0).collect();
        assert_close(&added, &want, 2e-5, "out");
        let d_out = random(&[5, outputs], 3);
        let mut added = tensor(&[5, inputs], &vec![1.0; 5 * inputs]);
        matmul_backward_input(&mut added, &d_out, &weight, true).unwrap();
        let want: Vec<f64> = wide(&backward_input(&d_out, &weight)).iter().map(|x| x + 1.0).collect();
        assert_close(&added, &want, 2e-5, "d_x");
    }
}

#[test]
fn matmul_and_its_gradients_of_odd_sizes_equal_the_f64_version() {
    for n in [1, 37, 257] {
        for (outputs, inputs) in [(1, 1), (3, 5), (16, 2), (33, 24), (96, 100), (24, 515)] {
            check(n, outputs, inputs);
        }
    }
    check(1030, 17, 40);
    // One input, where both strides of the weight are 1.
    check(5, 7, 1);
    check(130, 1, 1);
}

#[test]
fn matmul_of_a_row_does_not_depend_on_the_rows_beside_it() {
    for (outputs, inputs) in WIDTHS {
        let (x, weight) = (random(&[150, inputs], 1), random(&[outputs, inputs], 2));
        let d_out = random(&[150, outputs], 3);
        let (all, d_all) = (forward(&x, &weight), backward_input(&d_out, &weight));
        // Every batch of 1 to 40 rows, and sizes around the blocks.
        for n in (1..=40).chain([64, 65, 100, 127, 128, 129, 150]) {
            let first = (n * 13) % (151 - n);
            let (part, d_part) =
                (forward(&rows(&x, first, n), &weight), backward_input(&rows(&d_out, first, n), &weight));
            assert_eq!(bits(&part), bits(&rows(&all, first, n)), "{n} rows, {inputs} -> {outputs}");
            assert_eq!(bits(&d_part), bits(&rows(&d_all, first, n)), "{n} rows, {outputs} -> {inputs}");
        }
    }
}

#[test]
fn matmul_does_not_depend_on_the_number_of_threads() {
    let (x, weight, d_out) = (random(&[1500, 40], 1), random(&[70, 40], 2), random(&[1500, 70], 3));
    assert_thread_count_does_not_matter(|| {
        let mut d_weight = zeros(&[70, 40]);
        matmul_backward_weight(&mut d_weight, &d_out, &x).unwrap();
        vec![forward(&x, &weight), backward_input(&d_out, &weight), d_weight]
    });
}

#[test]
fn matmul_of_nothing_is_zero_or_empty() {
    assert!(forward(&zeros(&[0, 4]), &zeros(&[3, 4])).is_empty());
    assert!(forward(&zeros(&[2, 4]), &zeros(&[0, 4])).is_empty());
    let mut out = tensor(&[1, 2], &[5.0, 5.0]);
    matmul(&mut out, &zeros(&[1, 0]), &zeros(&[2, 0]), true).unwrap();
    assert_eq!(out.as_slice(), &[5.0, 5.0]);
    matmul(&mut out, &zeros(&[1, 0]), &zeros(&[2, 0]), false).unwrap();
    assert_eq!(out.as_slice(), &[0.0, 0.0]);
}

#[test]
fn matmul_refuses_odd_shapes() {
    let (x, weight) = (zeros(&[2, 3]), zeros(&[4, 5]));
    assert_eq!(
        message(matmul(&mut zeros(&[2, 4]), &x, &weight, false)),
        "matmul: `weight` has shape [4, 5], expected [4, 3]"
    );
    assert_eq!(
        message(matmul_backward_input(&mut zeros(&[2, 5]), &zeros(&[2, 3]), &weight, false)),
        "matmul_backward_input: `d_out` has shape [2, 3], expected [2, 4]"
    );
    assert_eq!(
        message(matmul_backward_weight(&mut zeros(&[4, 3]), &zeros(&[1, 4]), &x)),
        "matmul_backward_weight: `d_out` has shape [1, 4], expected [2, 4]"
    );
}
