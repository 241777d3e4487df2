//! Products on a CUDA device against sums in f64, in f32 and bf16, at odd sizes and with strides that forbid wide loads.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use half::bf16;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::{DType, Device, Tensor, ops};
use reskill_simt::{Order, counters, device, with_each_order, with_order};

/// Which product, by the three letters of `ops`.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    /// `out (M, N) = x (M, K) weight (N, K)^T`.
    Forward,
    /// `d_x (M, N) = d_out (M, K) weight (K, N)`.
    Input,
    /// `d_weight (M, N) += d_out (K, M)^T x (K, N)`.
    Weight,
}

/// One product: sizes, types, and whether it is added.
#[derive(Debug, Clone, Copy)]
struct Case {
    op: Op,
    size: (usize, usize, usize),
    factors: DType,
    out: DType,
    accumulate: bool,
}

fn values(seed: u64, n: usize, dtype: DType) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rounded = |v: f32| if dtype == DType::Bf16 { bf16::from_f32(v).to_f32() } else { v };
    (0..n).map(|_| rounded(rng.random_range(-1.0..1.0))).collect()
}

fn run(case: Case, device: &Device) {
    let Case { op, size: (m, n, k), factors, out, accumulate } = case;
    let (left_shape, right_shape) = match op {
        Op::Forward => ([m, k], [n, k]),
        Op::Input => ([m, k], [k, n]),
        Op::Weight => ([k, m], [k, n]),
    };
    let (left, right) = (values(1, m * k, factors), values(2, n * k, factors));
    let old = values(3, m * n, out);
    let start = if accumulate { old.clone() } else { vec![f32::NAN; m * n] };
    let mut result = Tensor::from_slice(&[m, n], &start, device, out).unwrap();
    let a = Tensor::from_slice(&left_shape, &left, device, factors).unwrap();
    let b = Tensor::from_slice(&right_shape, &right, device, factors).unwrap();
    match op {
        Op::Forward => ops::matmul(&mut result, &a, &b, accumulate).unwrap(),
        Op::Input => ops::matmul_backward_input(&mut result, &a, &b, accumulate).unwrap(),
        Op::Weight => ops::matmul_backward_weight(&mut result, &a, &b).unwrap(),
    }
    let got = result.to_vec().unwrap();
    for i in 0..m * n {
        let (row, col) = (i / n, i % n);
        let (mut sum, mut magnitude) =
            (if accumulate { f64::from(old[i]) } else { 0.0 }, f64::from(old[i].abs()));
        for q in 0..k {
            let l = if op == Op::Weight { left[q * m + row] } else { left[row * k + q] };
            let r = if op == Op::Forward { right[col * k + q] } else { right[q * n + col] };
            sum += f64::from(l) * f64::from(r);
            magnitude += f64::from(l * r).abs();
        }
        // Sums of k + 1 terms in f32 err by at most k * 2^-24 of the sum of magnitudes, far less on average; the result is
        // rounded once more, to 2^-8 of itself in bf16 (half of the last of 8 bits).
        let rounding = if out == DType::Bf16 { sum.abs() / 256.0 } else { 0.0 };
        let bound = (k + 2) as f64 * 6e-8 * magnitude + rounding;
        let error = (f64::from(got[i]) - sum).abs();
        assert!(error <= bound, "{case:?} [{row}, {col}]: {} {sum} {error} {bound}", got[i]);
    }
}

/// All operations and types at these sizes.
fn all(sizes: &[(usize, usize, usize)]) {
    let device = device();
    for &size in sizes {
        for op in [Op::Forward, Op::Input, Op::Weight] {
            let types: &[(DType, DType)] = match op {
                Op::Weight => &[(DType::F32, DType::F32), (DType::Bf16, DType::F32)],
                _ => &[(DType::F32, DType::F32), (DType::Bf16, DType::F32), (DType::Bf16, DType::Bf16)],
            };
            for &(factors, out) in types {
                for accumulate in [false, true] {
                    if op != Op::Weight || accumulate {
                        run(Case { op, size, factors, out, accumulate }, &device);
                    }
                }
            }
        }
    }
}

#[test]
fn products_of_odd_sizes_match_sums_in_f64() {
    all(&[(1, 1, 1), (37, 1, 257), (1, 37, 3), (257, 37, 1), (37, 257, 65), (70, 66, 40)]);
}

#[test]
fn products_over_several_tiles_match_sums_in_f64() {
    all(&[(257, 129, 72), (130, 257, 33)]);
}

#[test]
fn long_sums_are_split_and_match_sums_in_f64() {
    let device = device();
    for factors in [DType::F32, DType::Bf16] {
        for (op, out) in [(Op::Forward, factors), (Op::Input, factors), (Op::Weight, DType::F32)] {
            let case = Case { op, size: (40, 48, 4104), factors, out, accumulate: true };
            let counters = counters::count(|| run(case, &device));
            // Casting and copying launch nothing: one launch for the parts, one for their sum.
            if let Some(counters) = counters {
                assert_eq!(counters.launches, 2, "{case:?}");
            }
        }
    }
}

#[test]
fn large_tiles_match_sums_in_f64_whole_and_with_split_sums() {
    let device = device();
    // With the stand-in's four multiprocessors these sizes choose tiles of 128, the second with two splits of K.
    for (m, n, k, splits) in [(133, 201, 72, 1), (131, 66, 2536, 2)] {
        for op in [Op::Forward, Op::Input, Op::Weight] {
            let types: &[(DType, DType)] = match op {
                Op::Weight => &[(DType::F32, DType::F32), (DType::Bf16, DType::F32)],
                _ => &[(DType::F32, DType::F32), (DType::Bf16, DType::F32), (DType::Bf16, DType::Bf16)],
            };
            for &(factors, out) in types {
                let case = Case { op, size: (m, n, k), factors, out, accumulate: true };
                let Some(counters) = counters::count(|| run(case, &device)) else { continue };
                assert_eq!(counters.launches, if splits == 1 { 1 } else { 2 }, "{case:?}");
                let tiles = m.div_ceil(128) * n.div_ceil(128) * 128 * 128;
                let depth = splits * k.div_ceil(splits).next_multiple_of(32);
                let on_tensor_cores = if factors == DType::Bf16 { tiles * depth } else { 0 };
                assert_eq!(counters.multiply_adds, on_tensor_cores as u64, "{case:?}");
            }
        }
    }
}

#[test]
fn few_rows_match_sums_in_f64_at_every_number_of_rows() {
    let device = device();
    for m in [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33] {
        for (n, k) in [(48, 128), (37, 72), (19, 1000)] {
            for (factors, out) in
                [(DType::F32, DType::F32), (DType::Bf16, DType::F32), (DType::Bf16, DType::Bf16)]
            {
                run(Case { op: Op::Forward, size: (m, n, k), factors, out, accumulate: m % 2 == 0 }, &device);
            }
        }
    }
}

#[test]
fn products_are_right_in_every_order_of_threads() {
    let device = device();
    with_each_order(|_| {
        for factors in [DType::F32, DType::Bf16] {
            for (op, out) in [(Op::Forward, factors), (Op::Input, factors), (Op::Weight, DType::F32)] {
                run(Case { op, size: (68, 72, 200), factors, out, accumulate: true }, &device);
            }
            run(
                Case { op: Op::Forward, size: (9, 40, 1096), factors, out: factors, accumulate: false },
                &device,
            );
        }
    });
    with_order(Order::Random(11), || {
        run(
            Case {
                op: Op::Forward,
                size: (129, 130, 168),
                factors: DType::Bf16,
                out: DType::Bf16,
                accumulate: false,
            },
            &device,
        );
    });
}

#[test]
fn a_row_of_few_does_not_depend_on_the_others() {
    let device = device();
    let (n, k) = (40, 192);
    let (x, weight) = (values(4, 32 * k, DType::Bf16), values(5, n * k, DType::Bf16));
    let weight = Tensor::from_slice(&[n, k], &weight, &device, DType::Bf16).unwrap();
    let rows = |m: usize| {
        let x = Tensor::from_slice(&[m, k], &x[..m * k], &device, DType::Bf16).unwrap();
        let mut out = Tensor::zeros_as(&[m, n], &device, DType::F32).unwrap();
        ops::matmul(&mut out, &x, &weight, false).unwrap();
        out.to_vec().unwrap()
    };
    let all = rows(32);
    for m in [1, 5, 8, 12, 16, 20] {
        assert_eq!(rows(m), all[..m * n], "{m} rows");
    }
}

#[test]
fn an_empty_sum_gives_zeros_or_the_old_values() {
    let device = device();
    for dtype in [DType::F32, DType::Bf16] {
        let x = Tensor::from_slice(&[40, 0], &[], &device, dtype).unwrap();
        let weight = Tensor::from_slice(&[3, 0], &[], &device, dtype).unwrap();
        let mut out = Tensor::from_slice(&[40, 3], &[2.0; 120], &device, dtype).unwrap();
        ops::matmul(&mut out, &x, &weight, true).unwrap();
        assert_eq!(out.to_vec().unwrap(), [2.0; 120]);
        ops::matmul(&mut out, &x, &weight, false).unwrap();
        assert_eq!(out.to_vec().unwrap(), [0.0; 120]);
    }
}

#[test]
fn tensor_cores_do_the_multiplications_of_bf16() {
    let device = device();
    let counters = counters::count(|| {
        run(
            Case {
                op: Op::Input,
                size: (128, 256, 64),
                factors: DType::Bf16,
                out: DType::Bf16,
                accumulate: false,
            },
            &device,
        );
    });
    if let Some(counters) = counters {
        assert_eq!(counters.multiply_adds, ops::cost::matmul(128, 256, 64, 2).flops / 2);
    }
}

#[test]
fn mixed_types_and_devices_are_refused() {
    let device = device();
    let x = Tensor::from_slice(&[2, 8], &[0.0; 16], &device, DType::Bf16).unwrap();
    let weight = Tensor::from_slice(&[2, 8], &[0.0; 16], &device, DType::F32).unwrap();
    let mut out = Tensor::zeros_as(&[2, 2], &device, DType::F32).unwrap();
    let error = ops::matmul(&mut out, &x, &weight, false).unwrap_err().to_string();
    assert_eq!(error, "matmul: `weight` is stored as f32, expected bf16");
    let weight = Tensor::from_vec(&[2, 8], vec![0.0; 16]).unwrap();
    assert!(ops::matmul(&mut out, &x, &weight, false).unwrap_err().to_string().contains("is on cpu"));
}
