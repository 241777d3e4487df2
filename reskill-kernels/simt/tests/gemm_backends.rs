//! All ways to compute a product agree: our portable kernels, those of compute capability 9.0, and cuBLASLt.
//!
//! One program, since the capability holds for the process. Inputs are small whole numbers, so every sum is exact and
//! results are equal to the bit in whatever order they are added.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Mutex, PoisonError};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::{CudaDevice, DType, Device, GemmBackend, Tensor, ops};
use reskill_simt::{Order, with_order};

/// Tests of this file take turns: they set the backend of one device and look at what was chosen.
static TURN: Mutex<()> = Mutex::new(());

fn gpu() -> (Device, CudaDevice) {
    reskill_simt::set_capability(90);
    let device = reskill_simt::device();
    let Device::Cuda(cuda) = device.clone() else { unreachable!("a CUDA device was asked for") };
    (device, cuda)
}

fn whole_numbers(seed: u64, shape: [usize; 2], device: &Device, dtype: DType) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| rng.random_range(-3..=3) as f32).collect();
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

#[test]
fn all_ways_give_the_same_bits_on_whole_numbers() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (device, cuda) = gpu();
    let before = cuda.gemm_choices().len();
    let cases = [
        ((40, 24, 16), DType::Bf16, DType::Bf16),
        ((130, 264, 24), DType::Bf16, DType::F32),
        ((16, 40, 328), DType::Bf16, DType::Bf16),
        ((37, 19, 50), DType::Bf16, DType::F32),
        ((37, 19, 50), DType::F32, DType::F32),
    ];
    for (size, factors, out) in cases {
        cuda.set_gemm_backend(GemmBackend::Own).unwrap();
        let own = products(&device, size, factors, out);
        cuda.set_gemm_backend(GemmBackend::CublasLt).unwrap();
        assert_eq!(products(&device, size, factors, out), own, "cuBLASLt {size:?}");
        cuda.set_gemm_backend(GemmBackend::Auto).unwrap();
        assert_eq!(products(&device, size, factors, out), own, "auto {size:?}");
    }
    let choices = cuda.gemm_choices();
    // Three products of each case; none was timed twice.
    assert_eq!(choices.len() - before, 15, "{choices:#?}");
    for choice in &choices {
        for (name, trial) in &choice.candidates {
            let trial =
                trial.as_ref().unwrap_or_else(|reason| panic!("{}: {name}: {reason}", choice.product));
            assert!(trial.micros > 0.0 && trial.distance == 0.0, "{}: {name}: {trial:?}", choice.product);
        }
        // The copy engine takes bf16, and rows at multiples of 16 bytes: not those of 50 or 19 elements.
        let by_hopper = choice.candidates.iter().any(|(name, _)| *name == "own_sm90a");
        let whole = !choice.product.contains("=19 ") && !choice.product.contains("=50 ");
        assert_eq!(by_hopper, whole, "{}", choice.product);
    }
}

#[test]
fn warpgroup_products_are_right_in_every_order() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (device, cuda) = gpu();
    cuda.set_gemm_backend(GemmBackend::Auto).unwrap();
    for (seed, order) in [Order::Reverse, Order::Random(1), Order::Random(2)].into_iter().enumerate() {
        // Another K each time, so that the candidates are compared anew.
        let size = (24, 40, 264 + 64 * seed);
        with_order(order, || products(&device, size, DType::Bf16, DType::F32));
    }
    for choice in cuda.gemm_choices() {
        for (name, trial) in &choice.candidates {
            assert_eq!(trial.as_ref().map(|trial| trial.distance), Ok(0.0), "{}: {name}", choice.product);
        }
    }
}
