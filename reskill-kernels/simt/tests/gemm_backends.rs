//! All ways to compute a product agree: our portable kernels, those of compute capability 9.0, and cuBLASLt.
//!
//! One program, since the capability holds for the process. Inputs are small whole numbers, so every sum is exact and
//! results are equal to the bit in whatever order they are added.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Mutex, PoisonError};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::{CudaDevice, DType, Device, GemmBackend, GemmChoice, KernelError, Tensor, ops};
use reskill_simt::{Order, counters, with_order};

/// Tests of this file take turns: they set the backend of one device and look at what was chosen.
static TURN: Mutex<()> = Mutex::new(());

fn gpu() -> (Device, CudaDevice) {
    gpu_of(4)
}

fn gpu_of(multiprocessors: i32) -> (Device, CudaDevice) {
    reskill_simt::set_capability(90);
    reskill_simt::set_multiprocessors(multiprocessors);
    let device = reskill_simt::device();
    let Device::Cuda(cuda) = device.clone() else { unreachable!("a CUDA device was asked for") };
    (device, cuda)
}

/// Up to 3, or 1 where a factor has long rows or columns: sums stay below 256, up to which bf16 has every whole number.
/// Beyond, cuBLASLt rounds a product before it adds the old value (seen on an H200), other kernels after.
fn whole_numbers(seed: u64, shape: [usize; 2], device: &Device, dtype: DType) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let most = if shape.iter().any(|&axis| axis > 512) { 1 } else { 3 };
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| rng.random_range(-most..=most) as f32).collect();
    Tensor::from_slice(&shape, &values, device, dtype).unwrap()
}

/// The three products at these sizes into `out`; each result on the host.
fn products(device: &Device, (m, n, k): (usize, usize, usize), factors: DType, out: DType) -> [Vec<f32>; 3] {
    let old = |rows, cols, dtype| whole_numbers(9, [rows, cols], device, dtype);
    let x = whole_numbers(1, [m, k], device, factors);
    let weight = whole_numbers(2, [n, k], device, factors);
    let d_out = whole_numbers(3, [m, n], device, factors);
    let mut y = old(m, n, out);
    ops::matmul(&mut y, &x, &weight, true).unwrap();
    let mut d_x = old(m, k, out);
    ops::matmul_backward_input(&mut d_x, &d_out, &weight, false).unwrap();
    let mut d_weight = old(n, k, DType::F32);
    ops::matmul_backward_weight(&mut d_weight, &d_out, &x).unwrap();
    [y, d_x, d_weight].map(|tensor| tensor.to_vec().unwrap())
}

/// Says on the log of a machine without cuBLASLt that it was left out, once a test.
#[expect(clippy::print_stderr, reason = "a log of a GPU's tests should say what did not run")]
fn has_cublaslt(cuda: &CudaDevice) -> bool {
    match cuda.set_gemm_backend(GemmBackend::CublasLt) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("cuBLASLt is left out: {error}");
            false
        }
    }
}

/// Every candidate that could be tried agrees with the portable kernels to the bit; those of compute capability 9.0 are
/// tried where the device has it.
fn check_trials(choice: &GemmChoice, cuda: &CudaDevice, has_cublaslt: bool) {
    for (name, trial) in &choice.candidates {
        match trial {
            Ok(trial) => {
                assert!(trial.micros > 0.0 && trial.distance == 0.0, "{}: {name}: {trial:?}", choice.product);
            }
            Err(reason) => {
                assert!(*name == "cublaslt" && !has_cublaslt, "{}: {name}: {reason}", choice.product);
            }
        }
    }
    // The copy engine takes bf16, and rows at multiples of 16 bytes: not those of 50 or 19 elements.
    let whole = !choice.product.contains("=19 ") && !choice.product.contains("=50 ");
    let tried = choice.candidates.iter().any(|(name, _)| *name == "sm90a");
    assert_eq!(tried, whole && cuda.properties().capability == (9, 0), "{}", choice.product);
}

#[test]
fn all_ways_give_the_same_bits_on_whole_numbers() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (device, cuda) = gpu();
    let before = cuda.gemm_choices().len();
    let has_cublaslt = has_cublaslt(&cuda);
    let cases = [
        ((40, 24, 16), DType::Bf16, DType::Bf16),
        ((130, 40, 24), DType::Bf16, DType::F32),
        // A tile of 128 x 256 that is whole: of the gradient of the weight, of y and of the gradient of x.
        ((8, 128, 256), DType::Bf16, DType::F32),
        ((128, 256, 24), DType::Bf16, DType::Bf16),
        ((128, 24, 256), DType::Bf16, DType::Bf16),
        ((16, 40, 328), DType::Bf16, DType::Bf16),
        // Few rows, by clusters of blocks.
        ((60, 56, 1032), DType::Bf16, DType::Bf16),
        ((37, 19, 50), DType::Bf16, DType::F32),
        ((37, 19, 50), DType::F32, DType::F32),
    ];
    for (size, factors, out) in cases {
        cuda.set_gemm_backend(GemmBackend::Portable).unwrap();
        let portable = products(&device, size, factors, out);
        let mut others = vec![GemmBackend::Own, GemmBackend::Auto];
        others.extend(has_cublaslt.then_some(GemmBackend::CublasLt));
        for other in others {
            cuda.set_gemm_backend(other).unwrap();
            assert_eq!(products(&device, size, factors, out), portable, "{other} {size:?}");
        }
    }
    let choices = cuda.gemm_choices();
    // Three products of each case; none was timed twice.
    assert_eq!(choices.len() - before, 27, "{choices:#?}");
    choices.iter().for_each(|choice| check_trials(choice, &cuda, has_cublaslt));
}

#[test]
fn tiles_in_turns_and_in_parts_give_the_same_bits_in_every_order() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Multiprocessors of the stand-in, by which products are cut.
    let cases = [
        // More tiles than multiprocessors, the last of them in parts of K; one tile, all of it in parts.
        (4, (300, 300, 904), DType::F32),
        (4, (128, 256, 1032), DType::F32),
        // The same for the gradient by the input, in bf16.
        (4, (128, 1032, 256), DType::Bf16),
        // Few rows: clusters of 8, 4, 2 and 1, and several tiles for each block.
        (8, (60, 56, 1032), DType::Bf16),
        (4, (60, 56, 1032), DType::Bf16),
        (4, (7, 104, 1032), DType::Bf16),
        (4, (16, 40, 328), DType::Bf16),
        (4, (128, 400, 40), DType::Bf16),
    ];
    for (multiprocessors, size, out) in cases {
        let (device, cuda) = gpu_of(multiprocessors);
        cuda.set_gemm_backend(GemmBackend::Portable).unwrap();
        let portable = products(&device, size, DType::Bf16, out);
        cuda.set_gemm_backend(GemmBackend::Own).unwrap();
        for order in [Order::Reverse, Order::Random(5)] {
            let own = with_order(order, || products(&device, size, DType::Bf16, out));
            assert_eq!(own, portable, "{size:?} {order:?}");
        }
    }
}

#[test]
fn cublaslt_adds_no_partial_sums_that_were_rounded_to_bf16() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (device, cuda) = gpu();
    if !has_cublaslt(&cuda) {
        return;
    }
    // The first half of K adds up to 257, which bf16 does not have, the second to -256.
    let (m, n, k) = (8, 16, 1024);
    let x: Vec<f32> =
        (0..m * k).map(|i| [1.0, 0.0, -1.0, 0.0][i % k / 256] + f32::from(u8::from(i % k == 300))).collect();
    let x = Tensor::from_slice(&[m, k], &x, &device, DType::Bf16).unwrap();
    let weight = Tensor::from_slice(&[n, k], &vec![1.0; n * k], &device, DType::Bf16).unwrap();
    let mut y = Tensor::zeros_as(&[m, n], &device, DType::Bf16).unwrap();
    ops::matmul(&mut y, &x, &weight, false).unwrap();
    assert_eq!(y.to_vec().unwrap(), vec![1.0; m * n]);
}

#[test]
fn cublaslt_serves_more_kinds_of_products_than_it_remembers() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (device, cuda) = gpu();
    if !has_cublaslt(&cuda) {
        return;
    }
    let weight = Tensor::from_slice(&[2, 8], &[1.0; 16], &device, DType::F32).unwrap();
    let mut check = |m: usize| {
        let x = Tensor::from_slice(&[m, 8], &vec![0.5; m * 8], &device, DType::F32).unwrap();
        let mut y = Tensor::zeros_as(&[m, 2], &device, DType::F32).unwrap();
        ops::matmul(&mut y, &x, &weight, false).unwrap();
        assert_eq!(y.to_vec().unwrap(), vec![4.0; m * 2], "{m} rows");
    };
    // 512 are remembered; the first ones come anew in the end.
    (1..=600).chain(1..=3).for_each(&mut check);
}

/// Multiply-adds of matrix instructions in one forward product of (M, K) by (N, K), written in bf16.
fn multiplied(device: &Device, (m, n, k): (usize, usize, usize)) -> Option<u64> {
    let x = whole_numbers(1, [m, k], device, DType::Bf16);
    let weight = whole_numbers(2, [n, k], device, DType::Bf16);
    let mut y = Tensor::zeros_as(&[m, n], device, DType::Bf16).unwrap();
    counters::count(|| ops::matmul(&mut y, &x, &weight, false).unwrap())
        .map(|counters| counters.multiply_adds)
}

#[test]
fn own_takes_the_kernels_of_9_0_where_they_have_work_enough_and_portable_never() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (device, cuda) = gpu();
    // Tiles of 128 x 256 for many rows, of 64 x 64 for few; a stage holds 64 of K.
    let done = |tiles: usize, tile: usize, k: usize| Some((tiles * tile * k.next_multiple_of(64)) as u64);
    let (large, small) = (128 * 256, 64 * 64);
    let expected = [
        ((130, 2048, 200), Some((16, large))),
        ((130, 256, 24), Some((12, small))),
        ((33, 257, 72), Some((5, small))),
        ((1, 64, 72), Some((1, small))),
        ((130, 256, 76), None), // rows that do not begin at 16 bytes
    ];
    for (size, tiles) in expected {
        cuda.set_gemm_backend(GemmBackend::Own).unwrap();
        let Some(own) = multiplied(&device, size) else { return };
        cuda.set_gemm_backend(GemmBackend::Portable).unwrap();
        let portable = multiplied(&device, size);
        match tiles {
            Some((n, tile)) => {
                assert_eq!(Some(own), done(n, tile, size.2), "{size:?}");
                assert_ne!(portable, Some(own), "{size:?}");
            }
            None => assert_eq!(portable, Some(own), "{size:?}"),
        }
    }
    // While a graph is recorded nothing is timed: the same choice by size.
    cuda.set_gemm_backend(GemmBackend::Auto).unwrap();
    let x = whole_numbers(1, [200, 72], &device, DType::Bf16);
    let weight = whole_numbers(2, [256, 72], &device, DType::Bf16);
    let mut y = Tensor::zeros_as(&[200, 256], &device, DType::Bf16).unwrap();
    let before = cuda.gemm_choices().len();
    let graph = device.record::<KernelError>(|| ops::matmul(&mut y, &x, &weight, false)).unwrap();
    let counted = counters::count(|| graph.launch().unwrap()).unwrap();
    assert_eq!(Some(counted.multiply_adds), done(16, small, 72));
    assert_eq!(cuda.gemm_choices().len(), before);
}

#[test]
fn warpgroup_products_are_right_in_every_order() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (device, cuda) = gpu();
    let has_cublaslt = has_cublaslt(&cuda);
    cuda.set_gemm_backend(GemmBackend::Auto).unwrap();
    for (seed, order) in [Order::Reverse, Order::Random(1), Order::Random(2)].into_iter().enumerate() {
        // Another K each time, so that the candidates are compared anew.
        let size = (24, 40, 264 + 64 * seed);
        with_order(order, || products(&device, size, DType::Bf16, DType::F32));
    }
    cuda.gemm_choices().iter().for_each(|choice| check_trials(choice, &cuda, has_cublaslt));
}
