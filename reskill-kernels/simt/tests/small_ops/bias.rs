use reskill_kernels::DType;
use reskill_kernels::ops::{bias_backward, bias_forward};
use reskill_simt::with_each_order;

use crate::support::{Wide, assert_close, bits, for_both, random, rounding, there, wide};

const SIZES: [(usize, usize); 4] = [(1, 1), (37, 24), (5, 257), (300, 33)];

#[test]
fn a_bias_is_added_to_every_row_in_every_order() {
    with_each_order(|_| {
        for_both(|dtype| {
            for (n, o) in SIZES {
                let (mut out, bias) = (there(&random(&[n, o], 1), dtype), there(&random(&[o], 2), dtype));
                let b = wide(&bias);
                let want: Wide = wide(&out).iter().enumerate().map(|(i, x)| x + b[i % o]).collect();
                bias_forward(&mut out, &bias).unwrap();
                assert_close(&out, &want, 1e-7 + rounding(dtype), "out");
            }
        });
    });
}

#[test]
fn the_gradient_of_a_bias_is_the_sum_of_rows_with_the_same_bits_in_every_order() {
    for_both(|dtype| {
        for (n, o) in SIZES {
            let (d_out, start) = (there(&random(&[n, o], 1), dtype), random(&[o], 2));
            let mut want = wide(&start);
            wide(&d_out).chunks(o).for_each(|row| want.iter_mut().zip(row).for_each(|(to, d)| *to += d));
            let mut seen: Option<Vec<u32>> = None;
            with_each_order(|order| {
                let mut d_bias = there(&start, DType::F32);
                bias_backward(&mut d_bias, &d_out).unwrap();
                // Sums of 300 numbers below 1 in f32.
                assert_close(&d_bias, &want, 1e-5, "d_bias");
                let got = bits(&d_bias);
                assert_eq!(seen.get_or_insert_with(|| got.clone()), &got, "{order:?}");
            });
        }
    });
}
