//! The tracing build counts each byte of device memory that a launch touches once, and finds races on shared memory.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{Gpu, bf16_values, f32_values, failure};
use cudarc::driver::PushKernelArg;
use reskill_kernels::{DType, Tensor, ops};
use reskill_simt::{Order, counters};

#[test]
fn bytes_that_are_touched_again_count_once_a_launch() {
    let gpu = Gpu::new();
    let x = gpu.stream.clone_htod(&f32_values(1, 1000)).unwrap();
    let mut y = gpu.stream.alloc_zeros::<f32>(1000).unwrap();
    let mut run = |n: i32| {
        gpu.launch("simt_reverse", 4, 256, 0, |l| {
            l.arg(&mut y).arg(&x).arg(Box::leak(Box::new(n)));
        })
        .unwrap();
    };
    let once = counters::count(|| run(1000)).unwrap();
    assert_eq!((once.read_bytes, once.written_bytes), (4000, 4000));
    let twice = counters::count(|| (0..2).for_each(|_| run(37))).unwrap();
    assert_eq!((twice.read_bytes, twice.written_bytes), (2 * 4 * 37, 2 * 4 * 37));
}

#[test]
fn asynchronous_copies_and_matrix_loads_are_counted() {
    let gpu = Gpu::new();
    let k = 96_i32;
    let a = gpu.stream.clone_htod(&bf16_values(2, 64 * 96)).unwrap();
    let b = gpu.stream.clone_htod(&bf16_values(3, 64 * 96)).unwrap();
    let mut c = gpu.stream.alloc_zeros::<f32>(64 * 64).unwrap();
    let counted = counters::count(|| {
        gpu.launch("simt_matmul", 1, 128, 2 * 2 * 64 * 40 * 2, |l| {
            l.arg(&mut c).arg(&a).arg(&b).arg(&k).arg(&0_i32);
        })
        .unwrap();
    });
    let counted = counted.unwrap();
    assert_eq!((counted.read_bytes, counted.written_bytes), (2 * 64 * 96 * 2, 64 * 64 * 4));
}

#[test]
fn products_touch_their_matrices_and_nothing_else() {
    let device = reskill_simt::device();
    // Few rows, tiles with ragged edges, and a size for which rows are no multiples of 16 bytes.
    for (m, n, k, dtype) in [(5, 40, 72, DType::Bf16), (70, 66, 40, DType::Bf16), (40, 30, 17, DType::F32)] {
        let zeros = |rows, cols| Tensor::zeros_as(&[rows, cols], &device, dtype).unwrap();
        let (x, weight, mut out) = (zeros(m, k), zeros(n, k), zeros(m, n));
        let counted = counters::count(|| ops::matmul(&mut out, &x, &weight, false).unwrap()).unwrap();
        let size = dtype.size() as u64;
        let (read, written) = ((m * k + n * k) as u64 * size, (m * n) as u64 * size);
        assert_eq!(
            (counted.launches, counted.read_bytes, counted.written_bytes),
            (1, read, written),
            "{m} {n} {k}"
        );
    }
}

#[test]
fn a_missing_barrier_is_found_in_every_order() {
    for order in [Order::Forward, Order::Reverse, Order::Random(1)] {
        let cases = [
            ("simt_mistake_no_barrier", 256),
            ("simt_mistake_no_syncwarp", 32),
            ("simt_mistake_no_second_barrier", 256),
        ];
        for (kernel, threads) in cases {
            let got = failure(kernel, threads, order);
            assert!(got.contains("race on shared memory"), "{kernel} {order:?}: {got}");
        }
    }
}
