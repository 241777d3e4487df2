//! What the tests of all operations share.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::{Device, KernelError, Tensor};

pub(crate) fn tensor(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::from_vec(shape, data.to_vec()).unwrap()
}

pub(crate) fn ids(data: &[u32]) -> Tensor<u32> {
    Tensor::from_vec(&[data.len()], data.to_vec()).unwrap()
}

pub(crate) fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, &Device::Cpu).unwrap()
}

/// Uniform in -1..1.
pub(crate) fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| 2.0 * rng.random::<f32>() - 1.0).collect();
    tensor(shape, &data)
}

pub(crate) fn wide(x: &Tensor) -> Vec<f64> {
    x.as_slice().iter().map(|&x| f64::from(x)).collect()
}

/// The rows `first..first + n` of a tensor.
pub(crate) fn rows(x: &Tensor, first: usize, n: usize) -> Tensor {
    let len = x.row_len();
    let mut shape = x.shape().to_vec();
    shape[0] = n;
    tensor(&shape, &x.as_slice()[first * len..(first + n) * len])
}

pub(crate) fn bits(x: &Tensor) -> Vec<u32> {
    x.as_slice().iter().map(|x| x.to_bits()).collect()
}

/// Each element within `tolerance * (1 + |want|)`.
pub(crate) fn assert_close(got: &Tensor, want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    for (i, (&got, &want)) in got.as_slice().iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= tolerance * (1.0 + want.abs()), "{what}[{i}] = {got}, expected {want}");
    }
}

/// Gradient of `f` by central differences. With a step of 1e-5 in f64 it is good to about 1e-9.
pub(crate) fn numerical_gradient(x: &[f64], f: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let (at, step) = (x[i], 1e-5);
            x[i] = at + step;
            let above = f(&x);
            x[i] = at - step;
            let below = f(&x);
            x[i] = at;
            (above - below) / (2.0 * step)
        })
        .collect()
}

pub(crate) fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `f` in a pool of its own.
pub(crate) fn with_threads<T: Send>(n: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(f)
}

/// Whatever `f` computes, one thread and three give the same bits.
pub(crate) fn assert_thread_count_does_not_matter(f: impl Fn() -> Vec<Tensor> + Send + Sync) {
    let (one, three) = (with_threads(1, &f), with_threads(3, &f));
    for (a, b) in one.iter().zip(&three) {
        assert_eq!(bits(a), bits(b));
    }
}

pub(crate) fn message<T: std::fmt::Debug>(result: Result<T, KernelError>) -> String {
    result.unwrap_err().to_string()
}
