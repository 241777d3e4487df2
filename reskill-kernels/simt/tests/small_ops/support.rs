//! Devices, inputs and comparisons of the small operations' tests.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::{DType, Device, KernelError, Tensor};

/// Numbers, as the plain f64 versions take them.
pub(crate) type Wide = Vec<f64>;

/// The device that tests run on.
pub(crate) fn device() -> Device {
    reskill_simt::device()
}

/// Uniform in -1..1, on the CPU.
pub(crate) fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| 2.0 * rng.random::<f32>() - 1.0).collect();
    Tensor::from_vec(shape, data).unwrap()
}

/// The same on the device, stored as `dtype`: rounded, if that is bf16.
pub(crate) fn there(x: &Tensor, dtype: DType) -> Tensor {
    x.to_device_as(&device(), dtype).unwrap()
}

/// Token numbers on the device.
pub(crate) fn ids(data: &[u32]) -> Tensor<u32> {
    Tensor::from_slice(&[data.len()], data, &device(), DType::U32).unwrap()
}

/// An output on the device, NaN wherever an operation forgets to write.
pub(crate) fn poisoned(shape: &[usize], dtype: DType) -> Tensor {
    let mut out = Tensor::zeros_as(shape, &device(), dtype).unwrap();
    out.fill(f32::NAN).unwrap();
    out
}

pub(crate) fn zeros(shape: &[usize], dtype: DType) -> Tensor {
    Tensor::zeros_as(shape, &device(), dtype).unwrap()
}

pub(crate) fn wide(x: &Tensor) -> Wide {
    x.to_vec().unwrap().into_iter().map(f64::from).collect()
}

pub(crate) fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Half the distance between neighbours, relative: what rounding to the storage adds once.
pub(crate) fn rounding(dtype: DType) -> f64 {
    if dtype == DType::Bf16 { 1.0 / 256.0 } else { 0.0 }
}

/// Each element within `tolerance * (1 + |want|)`; NaN is not close to anything.
pub(crate) fn assert_close(got: &Tensor, want: &[f64], tolerance: f64, what: &str) {
    let got = wide(got);
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let error = (got - want).abs();
        assert!(error <= tolerance * (1.0 + want.abs()), "{what}[{i}] = {got}, expected {want}");
    }
}

pub(crate) fn message<T: std::fmt::Debug>(result: Result<T, KernelError>) -> String {
    result.unwrap_err().to_string()
}

/// `f` for f32 and bf16.
pub(crate) fn for_both(mut f: impl FnMut(DType)) {
    f(DType::F32);
    f(DType::Bf16);
}

/// The first `heads` heads of `d` elements of every row turned by its position (base 10,000), or back with direction -1.
pub(crate) fn rotate(
    rows: &mut [f64],
    width: usize,
    heads: usize,
    d: usize,
    positions: &[u32],
    direction: f64,
) {
    for (row, &position) in rows.chunks_mut(width).zip(positions) {
        for head in row[..heads * d].chunks_mut(d) {
            for i in 0..d / 2 {
                let angle = direction * f64::from(position) * 10_000_f64.powf(-2.0 * i as f64 / d as f64);
                let (a, b) = (head[i], head[i + d / 2]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + d / 2] = b * angle.cos() + a * angle.sin();
            }
        }
    }
}
