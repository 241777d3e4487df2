//! What the tests of this binary share.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::{DType, Device, KernelError, Tensor};

/// The device of the test program, of the compute capability that it asks for.
pub(crate) fn device() -> Device {
    if let Some(capability) = crate::CAPABILITY {
        reskill_simt::set_capability(capability);
    }
    reskill_simt::device()
}

pub(crate) const STORED: [DType; 2] = [DType::F32, DType::Bf16];

/// Uniform in -scale..scale.
pub(crate) fn values(seed: u64, n: usize, scale: f32) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| scale * rng.random_range(-1.0..1.0)).collect()
}

/// Uniform in 0..1.
pub(crate) fn uniforms(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random::<f32>()).collect()
}

/// A tensor on the CPU, or rounded to `dtype` on the device.
pub(crate) fn tensor(device: &Device, dtype: DType, shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::from_slice(shape, data, device, dtype).unwrap()
}

pub(crate) fn column(device: &Device, data: &[f32]) -> Tensor {
    tensor(device, DType::F32, &[data.len()], data)
}

pub(crate) fn ids(device: &Device, data: &[u32]) -> Tensor<u32> {
    Tensor::from_slice(&[data.len()], data, device, DType::U32).unwrap()
}

/// A column of NaN: what an operation does not write shows.
pub(crate) fn poisoned(device: &Device, dtype: DType, shape: &[usize]) -> Tensor {
    tensor(device, dtype, shape, &vec![f32::NAN; shape.iter().product()])
}

/// The values that a tensor holds after rounding, in f64.
pub(crate) fn wide(x: &Tensor) -> Vec<f64> {
    x.to_vec().unwrap().into_iter().map(f64::from).collect()
}

pub(crate) fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Each element within its own bound.
pub(crate) fn assert_within(got: &Tensor, want: &[f64], bound: impl Fn(usize) -> f64, what: &str) {
    let got = got.to_vec().unwrap();
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= bound(i), "{what}[{i}] = {got}, expected {want}, off by {error:e} > {:e}", bound(i));
    }
}

/// Each element within `tolerance * (1 + |want|)`.
pub(crate) fn assert_close(got: &Tensor, want: &[f64], tolerance: f64, what: &str) {
    assert_within(got, want, |i| tolerance * (1.0 + want[i].abs()), what);
}

pub(crate) fn message<T: std::fmt::Debug>(result: Result<T, KernelError>) -> String {
    result.unwrap_err().to_string()
}
