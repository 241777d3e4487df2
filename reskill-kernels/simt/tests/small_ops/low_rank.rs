use reskill_kernels::DType;
use reskill_kernels::ops::{LowRank, low_rank_backward, low_rank_forward};

use crate::support::{Wide, assert_close, for_both, random, there, wide, zeros};

const SCALE: f32 = 0.5;
/// Rows, inputs, rank, outputs, first column, width.
const SIZES: [[usize; 6]; 3] = [[1, 1, 1, 1, 0, 1], [37, 24, 3, 9, 5, 21], [5, 33, 16, 40, 0, 40]];

/// What bf16 adds: inner values of size 10 are rounded, then products of size 10 of them are summed.
fn within(dtype: DType) -> f64 {
    if dtype == DType::Bf16 { 0.1 } else { 1e-5 }
}

#[test]
fn a_low_rank_addition_equals_the_f64_version() {
    for_both(|dtype| {
        for [n, inputs, rank, outputs, first, width] in SIZES {
            let at = |shape: &[usize], seed| there(&random(shape, seed), dtype);
            let (x, a, b) = (at(&[n, inputs], 1), at(&[rank, inputs], 2), at(&[outputs, rank], 3));
            let mut out = at(&[n, width], 4);
            let (mut want, wx, wa, wb) = (wide(&out), wide(&x), wide(&a), wide(&b));
            for row in 0..n {
                let dot = |r: usize| -> f64 {
                    (0..inputs).map(|i| wa[r * inputs + i] * wx[row * inputs + i]).sum()
                };
                let inner: Wide = (0..rank).map(dot).collect();
                for o in 0..outputs {
                    let sum: f64 = (0..rank).map(|r| wb[o * rank + r] * inner[r]).sum();
                    want[row * width + first + o] += f64::from(SCALE) * sum;
                }
            }
            let pair = LowRank { a: &a, b: &b, scale: SCALE, first_column: first };
            low_rank_forward(&mut out, &x, &pair).unwrap();
            assert_close(&out, &want, within(dtype), "out");
        }
    });
}

#[test]
fn gradients_of_a_low_rank_addition_are_those_of_the_processor() {
    for_both(|dtype| {
        for [n, inputs, rank, outputs, first, width] in SIZES {
            let at = |shape: &[usize], seed| there(&random(shape, seed), dtype);
            let (x, a, b) = (at(&[n, inputs], 1), at(&[rank, inputs], 2), at(&[outputs, rank], 3));
            let (d_out, mut d_x) = (at(&[n, width], 4), at(&[n, inputs], 5));
            let host = |x: &reskill_kernels::Tensor| x.to_device(&reskill_kernels::Device::Cpu).unwrap();
            let (hx, ha, hb, h_out, mut hd_x) = (host(&x), host(&a), host(&b), host(&d_out), host(&d_x));
            let (mut hd_a, mut hd_b) = (random(&[rank, inputs], 6), random(&[outputs, rank], 7));
            let (mut d_a, mut d_b) = (there(&hd_a, DType::F32), there(&hd_b, DType::F32));
            let pair = LowRank { a: &ha, b: &hb, scale: SCALE, first_column: first };
            low_rank_backward(&mut hd_x, (&mut hd_a, &mut hd_b), &h_out, &hx, &pair).unwrap();
            let pair = LowRank { a: &a, b: &b, scale: SCALE, first_column: first };
            low_rank_backward(&mut d_x, (&mut d_a, &mut d_b), &d_out, &x, &pair).unwrap();
            assert_close(&d_x, &wide(&hd_x), within(dtype), "d_x");
            assert_close(&d_a, &wide(&hd_a), within(dtype), "d_a");
            assert_close(&d_b, &wide(&hd_b), within(dtype), "d_b");
        }
    });
    // Columns beyond the row are refused.
    let (x, a, b) = (zeros(&[1, 2], DType::F32), zeros(&[1, 2], DType::F32), zeros(&[3, 1], DType::F32));
    let pair = LowRank { a: &a, b: &b, scale: SCALE, first_column: 2 };
    assert!(low_rank_forward(&mut zeros(&[1, 4], DType::F32), &x, &pair).is_err());
}
