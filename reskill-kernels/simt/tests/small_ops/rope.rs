use reskill_kernels::DType;
use reskill_kernels::ops::{RopeTable, rope_backward, rope_forward};
use reskill_simt::with_each_order;

use crate::support::{assert_close, device, for_both, ids, random, rotate, rounding, there, wide};

/// Rows, head size, heads that are rotated, width.
const SIZES: [(usize, usize, usize, usize); 4] =
    [(1, 2, 1, 2), (37, 16, 3, 80), (5, 6, 3, 21), (3, 128, 24, 4096)];

#[test]
fn rope_rotates_by_the_angle_of_the_position_and_back_in_every_order() {
    with_each_order(|_| {
        for_both(|dtype| {
            for (n, d, heads, width) in SIZES {
                let table = RopeTable::new(300, d, 10_000.0).unwrap();
                let positions: Vec<u32> = (0..n as u32).map(|i| i * 37 % 300).collect();
                let start = there(&random(&[n, width], 1), dtype);
                let mut x = start.clone();
                let on_device = table.to_device(&device()).unwrap();
                rope_forward(&mut x, &ids(&positions), &on_device, heads).unwrap();
                let mut want = wide(&start);
                rotate(&mut want, width, heads, d, &positions, 1.0);
                // Two products in f32 with factors rounded to f32.
                assert_close(&x, &want, 1e-6 + rounding(dtype), "rotated");
                rope_backward(&mut x, &ids(&positions), &on_device, heads).unwrap();
                assert_close(&x, &wide(&start), 1e-6 + 3.0 * rounding(dtype), "rotated back");
            }
        });
    });
}

#[test]
fn a_position_beyond_the_table_gives_nan_in_its_row_alone() {
    let table = RopeTable::new(4, 8, 10_000.0).unwrap().to_device(&device()).unwrap();
    let mut x = there(&random(&[2, 16], 1), DType::F32);
    rope_forward(&mut x, &ids(&[3, 4]), &table, 1).unwrap();
    let x = x.to_vec().unwrap();
    assert!(x[..24].iter().enumerate().all(|(i, x)| x.is_nan() == (16..24).contains(&i)), "{x:?}");
    assert!(x[24..].iter().all(|x| !x.is_nan()), "{x:?}");
}
