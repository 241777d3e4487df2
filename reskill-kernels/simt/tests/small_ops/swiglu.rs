use reskill_kernels::Tensor;
use reskill_kernels::ops::{swiglu_backward, swiglu_forward};
use reskill_simt::with_each_order;

use crate::support::{Wide, assert_close, for_both, poisoned, random, rounding, there, wide};

const SIZES: [(usize, usize); 4] = [(1, 1), (37, 24), (5, 257), (3, 2056)];

/// Gates as far as +-20.
fn gates(n: usize, f: usize) -> Tensor {
    let mut x = random(&[n, 2 * f], 1);
    x.as_mut_slice().iter_mut().for_each(|x| *x *= 20.0);
    x
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

#[test]
fn swiglu_equals_the_f64_version_in_every_order() {
    with_each_order(|_| {
        for_both(|dtype| {
            for (n, f) in SIZES {
                let gate_up = there(&gates(n, f), dtype);
                let mut out = poisoned(&[n, f], dtype);
                swiglu_forward(&mut out, &gate_up).unwrap();
                let rows = wide(&gate_up);
                let want: Wide = rows
                    .chunks(2 * f)
                    .flat_map(|row| (0..f).map(|i| row[i] * sigmoid(row[i]) * row[f + i]))
                    .collect();
                // The exponential is good to 2 units in the last place, a few roundings follow.
                assert_close(&out, &want, 1e-6 + rounding(dtype), "out");
            }
        });
    });
}

#[test]
fn swiglu_gradient_equals_the_f64_version_in_every_order() {
    with_each_order(|_| {
        for_both(|dtype| {
            for (n, f) in SIZES {
                let (gate_up, d_out) = (there(&gates(n, f), dtype), there(&random(&[n, f], 2), dtype));
                let mut d_gate_up = poisoned(&[n, 2 * f], dtype);
                swiglu_backward(&mut d_gate_up, &d_out, &gate_up).unwrap();
                let mut want = Vec::new();
                for (row, d) in wide(&gate_up).chunks(2 * f).zip(wide(&d_out).chunks(f)) {
                    let s: Wide = row[..f].iter().map(|&z| sigmoid(z)).collect();
                    want.extend((0..f).map(|i| d[i] * row[f + i] * s[i] * (1.0 + row[i] * (1.0 - s[i]))));
                    want.extend((0..f).map(|i| d[i] * row[i] * s[i]));
                }
                assert_close(&d_gate_up, &want, 2e-6 + rounding(dtype), "d_gate_up");
            }
        });
    });
}
