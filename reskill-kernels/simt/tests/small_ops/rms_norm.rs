use reskill_kernels::ops::{residual_rms_norm_forward, rms_norm_backward, rms_norm_forward};
use reskill_kernels::{DType, Tensor};
use reskill_simt::with_each_order;

use crate::support::{Wide, assert_close, bits, for_both, poisoned, random, rounding, there, wide, zeros};

const EPS: f32 = 1e-5;
/// Rows of eight columns a thread and of one; the last is longer than what threads hold in registers.
const SIZES: [(usize, usize); 6] = [(1, 1), (37, 24), (5, 257), (257, 33), (600, 40), (3, 2104)];

/// Rows, out, rstd.
fn reference(x: &[f64], weight: &[f64]) -> (Wide, Wide) {
    let c = weight.len();
    let rstd =
        |row: &[f64]| 1.0 / (row.iter().map(|x| x * x).sum::<f64>() / c as f64 + f64::from(EPS)).sqrt();
    let scales: Wide = x.chunks(c).map(rstd).collect();
    let rows = x.chunks(c).zip(&scales);
    let out = rows.flat_map(|(row, rstd)| row.iter().zip(weight).map(move |(x, w)| x * rstd * w)).collect();
    (out, scales)
}

/// What is added to d_x, and d_weight.
fn reference_backward(d_out: &[f64], x: &[f64], weight: &[f64]) -> (Wide, Wide) {
    let c = weight.len();
    let (_, scales) = reference(x, weight);
    let (mut d_x, mut d_weight) = (Vec::new(), vec![0.0; c]);
    for ((x, d_out), r) in x.chunks(c).zip(d_out.chunks(c)).zip(scales) {
        let g: Wide = d_out.iter().zip(weight).map(|(d, w)| d * w).collect();
        let mean = g.iter().zip(x).map(|(g, x)| g * x).sum::<f64>() / c as f64;
        d_x.extend(g.iter().zip(x).map(|(g, x)| r * (g - x * r * r * mean)));
        d_weight.iter_mut().zip(d_out).zip(x).for_each(|((to, d), x)| *to += d * x * r);
    }
    (d_x, d_weight)
}

fn inputs(n: usize, c: usize, dtype: DType) -> (Tensor, Tensor, Tensor) {
    let at = |shape: &[usize], seed| there(&random(shape, seed), dtype);
    (at(&[n, c], 1), at(&[c], 2), at(&[n, c], 3))
}

#[test]
fn rms_norm_equals_the_f64_version_in_every_order() {
    with_each_order(|_| {
        for_both(|dtype| {
            for (n, c) in SIZES {
                let (x, weight, _) = inputs(n, c, dtype);
                let (mut out, mut rstd) = (poisoned(&[n, c], dtype), poisoned(&[n], DType::F32));
                rms_norm_forward(&mut out, &mut rstd, &x, &weight, EPS).unwrap();
                let (want, want_rstd) = reference(&wide(&x), &wide(&weight));
                // Sums of at most 257 squares in f32, a root, and one rounding to the storage.
                assert_close(&rstd, &want_rstd, 2e-6, "rstd");
                assert_close(&out, &want, 2e-6 + rounding(dtype), "out");
            }
        });
    });
}

#[test]
fn rms_norm_of_a_residual_sum_is_that_of_the_rounded_sum_in_every_order() {
    with_each_order(|_| {
        for_both(|dtype| {
            for (n, c) in SIZES {
                let (x, weight, residual) = inputs(n, c, dtype);
                let [mut out, mut sum, mut same] = [(); 3].map(|()| poisoned(&[n, c], dtype));
                let [mut rstd, mut same_rstd] = [(); 2].map(|()| poisoned(&[n], DType::F32));
                residual_rms_norm_forward(&mut out, &mut sum, &mut rstd, &x, &residual, &weight, EPS)
                    .unwrap();
                let exact: Wide = wide(&x).iter().zip(wide(&residual)).map(|(x, r)| x + r).collect();
                // One rounding of the sum to f32, and one to the storage.
                assert_close(&sum, &exact, 1e-7 + rounding(dtype), "sum");
                // The tolerance of rows that are not sums.
                let (want, want_rstd) = reference(&wide(&sum), &wide(&weight));
                assert_close(&rstd, &want_rstd, 2e-6, "rstd");
                assert_close(&out, &want, 2e-6 + rounding(dtype), "out");
                rms_norm_forward(&mut same, &mut same_rstd, &sum, &weight, EPS).unwrap();
                assert_eq!((bits(&out), bits(&rstd)), (bits(&same), bits(&same_rstd)));
            }
        });
    });
}

#[test]
fn rms_norm_gradients_equal_the_f64_version_and_are_added_in_every_order() {
    with_each_order(|_| {
        for_both(|dtype| {
            // The additional rows are long and more than the blocks.
            for (n, c) in SIZES.into_iter().chain([(514, 257)]) {
                let (x, weight, d_out) = inputs(n, c, dtype);
                let (mut out, mut rstd) = (poisoned(&[n, c], dtype), poisoned(&[n], DType::F32));
                rms_norm_forward(&mut out, &mut rstd, &x, &weight, EPS).unwrap();
                let (mut d_x, mut d_weight) = (there(&random(&[n, c], 4), dtype), zeros(&[c], DType::F32));
                d_weight.fill(1.0).unwrap();
                let before = wide(&d_x);
                rms_norm_backward(&mut d_x, &mut d_weight, &d_out, &x, &weight, &rstd).unwrap();
                let (want, want_weight) = reference_backward(&wide(&d_out), &wide(&x), &wide(&weight));
                let want: Wide = want.iter().zip(before).map(|(d, before)| d + before).collect();
                let want_weight: Wide = want_weight.iter().map(|d| d + 1.0).collect();
                assert_close(&d_x, &want, 5e-6 + rounding(dtype), "d_x");
                // Sums of 600 products of size 1 in f32.
                assert_close(&d_weight, &want_weight, 3e-5, "d_weight");
            }
        });
    });
}

#[test]
fn rms_norm_gives_the_same_bits_whatever_the_order_of_threads() {
    for_both(|dtype| {
        let (n, c) = (600, 40);
        let (x, weight, d_out) = inputs(n, c, dtype);
        let mut seen: Option<Vec<Vec<u32>>> = None;
        with_each_order(|order| {
            let (mut out, mut rstd) = (poisoned(&[n, c], dtype), poisoned(&[n], DType::F32));
            rms_norm_forward(&mut out, &mut rstd, &x, &weight, EPS).unwrap();
            let (mut d_x, mut d_weight) = (zeros(&[n, c], dtype), zeros(&[c], DType::F32));
            rms_norm_backward(&mut d_x, &mut d_weight, &d_out, &x, &weight, &rstd).unwrap();
            let got: Vec<Vec<u32>> = [&out, &rstd, &d_x, &d_weight].map(bits).into();
            assert_eq!(seen.get_or_insert_with(|| got.clone()), &got, "{order:?}");
        });
    });
}

#[test]
fn rms_norm_of_no_rows_is_no_launch() {
    let (x, weight, d_out) = inputs(0, 8, DType::F32);
    let (mut out, mut rstd) = (zeros(&[0, 8], DType::F32), zeros(&[0], DType::F32));
    rms_norm_forward(&mut out, &mut rstd, &x, &weight, EPS).unwrap();
    let mut sum = zeros(&[0, 8], DType::F32);
    residual_rms_norm_forward(&mut out, &mut sum, &mut rstd, &x, &d_out, &weight, EPS).unwrap();
    let (mut d_x, mut d_weight) = (zeros(&[0, 8], DType::F32), zeros(&[8], DType::F32));
    rms_norm_backward(&mut d_x, &mut d_weight, &d_out, &x, &weight, &rstd).unwrap();
    assert_eq!(d_weight.to_vec().unwrap(), [0.0; 8]);
}
