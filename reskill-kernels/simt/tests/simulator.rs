//! The simulator against plain loops, in every order of threads, through the host path that programs use.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{Gpu, bf16, bf16_values, f32_values, failure};
use cudarc::driver::PushKernelArg;
use reskill_simt::{Order, with_each_order};

#[test]
fn block_sums_equal_sums_of_rows_in_every_order() {
    let gpu = Gpu::new();
    let n = 1000;
    let x = f32_values(1, 5 * n);
    // Sums of 1000 values in [-1, 1] in another order: 1000 * 2^-24 is 6e-5.
    let expected: Vec<f64> = x.chunks(n).map(|row| row.iter().map(|&v| f64::from(v)).sum()).collect();
    with_each_order(|order| {
        let mut sums = gpu.stream.alloc_zeros::<f32>(5).unwrap();
        let device_x = gpu.stream.clone_htod(&x).unwrap();
        let size = n as i32;
        gpu.launch("simt_row_sums", 5, 256, 0, |l| {
            l.arg(&mut sums).arg(&device_x).arg(&size);
        })
        .unwrap();
        for (sum, expected) in gpu.stream.clone_dtoh(&sums).unwrap().iter().zip(&expected) {
            assert!((f64::from(*sum) - expected).abs() < 6e-5, "{order:?}: {sum} {expected}");
        }
    });
}

#[test]
fn barriers_order_shared_memory_in_every_order() {
    let gpu = Gpu::new();
    let x = f32_values(2, 1000);
    let expected: Vec<f32> = x.chunks(256).flat_map(|block| block.iter().rev().copied()).collect();
    with_each_order(|order| {
        let device_x = gpu.stream.clone_htod(&x).unwrap();
        let mut y = gpu.stream.alloc_zeros::<f32>(1000).unwrap();
        gpu.launch("simt_reverse", 4, 256, 0, |l| {
            l.arg(&mut y).arg(&device_x).arg(&1000_i32);
        })
        .unwrap();
        assert_eq!(gpu.stream.clone_dtoh(&y).unwrap(), expected, "{order:?}");
    });
}

#[test]
fn votes_atomics_and_early_exits_count_exactly() {
    let gpu = Gpu::new();
    let x: Vec<f32> = f32_values(3, 1001).iter().map(|v| v * 2.0).collect();
    let expected = [0.0, 1.0].map(|limit| x.iter().filter(|&&v| v > limit).count() as u32);
    with_each_order(|order| {
        let device_x = gpu.stream.clone_htod(&x).unwrap();
        let mut counts = gpu.stream.alloc_zeros::<u32>(2).unwrap();
        gpu.launch("simt_count", 4, 256, 0, |l| {
            l.arg(&mut counts).arg(&device_x).arg(&1001_i32);
        })
        .unwrap();
        assert_eq!(gpu.stream.clone_dtoh(&counts).unwrap(), expected, "{order:?}");
    });
}

#[test]
fn shuffles_scan_a_warp_and_match_finds_equal_lanes() {
    let gpu = Gpu::new();
    // Small integers: sums are exact in any order, and equal values occur.
    let x: Vec<f32> = f32_values(4, 256).iter().map(|v| (v * 4.0).round()).collect();
    with_each_order(|order| {
        let device_x = gpu.stream.clone_htod(&x).unwrap();
        let mut sums = gpu.stream.alloc_zeros::<f32>(256).unwrap();
        let mut groups = gpu.stream.alloc_zeros::<u32>(256).unwrap();
        gpu.launch("simt_scan", 2, 128, 0, |l| {
            l.arg(&mut sums).arg(&mut groups).arg(&device_x);
        })
        .unwrap();
        let (sums, groups) = (gpu.stream.clone_dtoh(&sums).unwrap(), gpu.stream.clone_dtoh(&groups).unwrap());
        for (warp, values) in x.chunks(32).enumerate() {
            for lane in 0..32 {
                let sum: f32 = values[..=lane].iter().sum();
                let same = (0..32)
                    .filter(|&other| values[other].to_bits() == values[lane].to_bits())
                    .fold(0, |m, other| m | 1_u32 << other);
                assert_eq!(
                    (sums[warp * 32 + lane], groups[warp * 32 + lane]),
                    (sum, same),
                    "{order:?} lane {lane}"
                );
            }
        }
    });
}

/// `a (64, k) * b^T`, `b` being (64, k), in f64.
fn product(a: &[u16], b: &[u16], k: usize) -> Vec<f64> {
    let value = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
    let mut c = vec![0.0; 64 * 64];
    for (i, c) in c.iter_mut().enumerate() {
        let (row, col) = (i / 64, i % 64);
        *c = (0..k).map(|q| value(a[row * k + q]) * value(b[col * k + q])).sum();
    }
    c
}

fn check_matmul(transposed: bool) {
    let gpu = Gpu::new();
    let k = 96;
    let (a, b) = (bf16_values(5, 64 * k), bf16_values(6, 64 * k));
    let mut stored = b.clone();
    if transposed {
        for col in 0..64 {
            (0..k).for_each(|q| stored[q * 64 + col] = b[col * k + q]);
        }
    }
    let expected = product(&a, &b, k);
    with_each_order(|order| {
        let (device_a, device_b) =
            (gpu.stream.clone_htod(&a).unwrap(), gpu.stream.clone_htod(&stored).unwrap());
        let mut c = gpu.stream.alloc_zeros::<f32>(64 * 64).unwrap();
        let (depth, flag) = (k as i32, i32::from(transposed));
        // Two stages of 64 rows of 40 bf16 for each side.
        gpu.launch("simt_matmul", 1, 128, 2 * 2 * 64 * 40 * 2, |l| {
            l.arg(&mut c).arg(&device_a).arg(&device_b).arg(&depth).arg(&flag);
        })
        .unwrap();
        // Products are exact, 96 sums of values below 1 round by 2^-24 each: below 1e-5.
        for (c, expected) in gpu.stream.clone_dtoh(&c).unwrap().iter().zip(&expected) {
            assert!((f64::from(*c) - expected).abs() < 1e-5, "{order:?}: {c} {expected}");
        }
    });
}

#[test]
fn matrix_instructions_multiply_in_every_order() {
    check_matmul(false);
}

#[test]
fn transposing_loads_multiply_in_every_order() {
    check_matmul(true);
}

/// `round(a b^T) b` of `a` (128, 64) and `b` (n, 64) by two warpgroups.
fn check_warpgroup(kernel: &str, n: usize) {
    let gpu = Gpu::new();
    let (a, b) = (bf16_values(7, 128 * 64), bf16_values(8, n * 64));
    let value = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
    let score = |row: usize, j: usize| {
        let sum = (0..64).map(|k| value(a[row * 64 + k]) * value(b[j * 64 + k])).sum::<f64>();
        value(bf16(sum as f32))
    };
    let mut expected = Vec::new();
    for row in 0..128 {
        let scores: Vec<f64> = (0..n).map(|j| score(row, j)).collect();
        expected.extend((0..64).map(|c| (0..n).map(|j| scores[j] * value(b[j * 64 + c])).sum::<f64>()));
    }
    with_each_order(|order| {
        let (device_a, device_b) = (gpu.stream.clone_htod(&a).unwrap(), gpu.stream.clone_htod(&b).unwrap());
        let mut out = gpu.stream.alloc_zeros::<f32>(128 * 64).unwrap();
        let counters = reskill_simt::counters::count(|| {
            gpu.launch(kernel, 1, 256, 2 * 128 * 128, |l| {
                l.arg(&mut out).arg(&device_a).arg(&device_b);
            })
            .unwrap();
        });
        assert_eq!(counters.unwrap().multiply_adds, 2 * 128 * n as u64 * 64, "{kernel}");
        // Scores of up to 20 round in f32 before they round to bf16: some of them go the other way, by 2^-8 of themselves.
        for (out, expected) in gpu.stream.clone_dtoh(&out).unwrap().iter().zip(&expected) {
            assert!((f64::from(*out) - expected).abs() < 0.1, "{kernel} {order:?}: {out} {expected}");
        }
    });
}

#[test]
fn warpgroup_products_of_registers_multiply_in_every_order() {
    check_warpgroup("simt_warpgroup_64", 64);
    check_warpgroup("simt_warpgroup_128", 128);
}

#[test]
fn mistakes_with_warpgroups_fail_the_launch() {
    for (kernel, words) in [
        ("simt_mistake_changed_registers", "registers of a warpgroup product were changed"),
        ("simt_mistake_named_barrier", "bar.sync"),
    ] {
        for order in [Order::Forward, Order::Reverse, Order::Random(3)] {
            let got = failure(kernel, 256, order);
            assert!(got.contains(words), "{kernel} {order:?}: {got}");
        }
    }
}

#[test]
fn matrix_instructions_are_counted() {
    let gpu = Gpu::new();
    let a = vec![bf16(1.0); 64 * 32];
    let device_a = gpu.stream.clone_htod(&a).unwrap();
    let mut c = gpu.stream.alloc_zeros::<f32>(64 * 64).unwrap();
    let counters = reskill_simt::counters::count(|| {
        gpu.launch("simt_matmul", 1, 128, 2 * 2 * 64 * 40 * 2, |l| {
            l.arg(&mut c).arg(&device_a).arg(&device_a).arg(&32_i32).arg(&0_i32);
        })
        .unwrap();
    });
    let counters = counters.unwrap();
    assert_eq!((counters.launches, counters.multiply_adds), (1, 64 * 64 * 32));
    assert_eq!(gpu.stream.clone_dtoh(&c).unwrap(), vec![32.0; 64 * 64]);
}

#[test]
fn mistakes_of_synchronisation_fail_the_launch_with_their_place() {
    let cases = [
        ("simt_mistake_abandoned_copy", "without waiting for its asynchronous copies"),
        ("simt_mistake_divergent_barrier", "__syncthreads"),
        ("simt_mistake_two_barriers", "different __syncthreads"),
        ("simt_mistake_divergent_shuffle", "__shfl_xor_sync"),
        ("simt_mistake_misaligned_copy", "not aligned to 16"),
    ];
    for order in [Order::Forward, Order::Reverse, Order::Random(3)] {
        for (kernel, words) in cases {
            let got = failure(kernel, 256, order);
            assert!(got.contains(words) || got.contains("a lane ended"), "{kernel} {order:?}: {got}");
            assert!(got.contains(kernel), "{got}");
        }
    }
}

/// Whether some order shows that the kernel's results are wrong.
fn shows(kernel: &str, threads: u32, expected: impl Fn(usize) -> f32) -> bool {
    let gpu = Gpu::new();
    let x: Vec<f32> = (0..256).map(|i| i as f32).collect();
    let device_x = gpu.stream.clone_htod(&x).unwrap();
    let mut wrong = false;
    with_each_order(|_| {
        let mut y = gpu.stream.alloc_zeros::<f32>(256).unwrap();
        gpu.launch(kernel, 1, threads, 0, |l| {
            l.arg(&mut y).arg(&device_x);
        })
        .unwrap();
        let y = gpu.stream.clone_dtoh(&y).unwrap();
        wrong |= (0..threads as usize).any(|i| y[i].to_bits() != expected(i).to_bits());
    });
    wrong
}

#[test]
#[cfg_attr(feature = "trace", ignore = "the tracing build ends the launch at the race: tests/traced.rs")]
fn missing_barriers_and_waits_show_in_the_results() {
    assert!(shows("simt_mistake_no_barrier", 256, |i| 255.0 - i as f32));
    assert!(shows("simt_mistake_no_syncwarp", 32, |i| (i ^ 1) as f32));
    assert!(shows("simt_mistake_no_wait", 32, |i| 4.0 * i as f32));
}
