//! An operation with its inputs in place: it can run, and its result can be judged.

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::ops::Cost;
use reskill_kernels::{DType, Device, KernelError, Tensor};

use super::sizes::Model;

/// What a case is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub(super) device: &'a Device,
    pub(super) dtype: DType,
    pub(super) seed: u64,
    /// Rows N.
    pub(super) n: usize,
    pub(super) model: Model,
}

/// Makes an operation ready.
pub(super) type Build = fn(&Inputs<'_>) -> Result<Box<dyn Operation>>;

/// An operation that is measured.
pub(super) trait Operation {
    /// Sizes, in the letters of the crate.
    fn shape(&self) -> Vec<(&'static str, usize)>;
    /// The least work.
    fn cost(&self) -> Cost;
    /// Fills the outputs with NaN; those that are added to with zeros.
    fn poison(&mut self) -> Result<()>;
    /// Runs once.
    fn run(&mut self) -> Result<(), KernelError>;
    /// Largest distance from the f64 version over a sample of the outputs, relative to the largest of them. NaN if an
    /// output is.
    fn error(&self) -> Result<f64>;
    /// What the storage and the sums of this operation allow of it.
    fn tolerance(&self) -> f64;
    /// Whether it waits for the device, so that a graph cannot hold it.
    fn waits(&self) -> bool {
        false
    }
}

impl Inputs<'_> {
    fn rng(&self, stream: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(stream);
        rng
    }

    /// Numbers in -scale..scale.
    pub(super) fn numbers(&self, stream: u64, len: usize, scale: f32) -> Vec<f32> {
        let mut rng = self.rng(stream);
        (0..len).map(|_| scale * rng.random_range(-1.0..1.0)).collect()
    }

    /// A tensor of such numbers, stored as weights and activations are.
    pub(super) fn tensor(&self, stream: u64, shape: &[usize], scale: f32) -> Result<Tensor> {
        let numbers = self.numbers(stream, shape.iter().product(), scale);
        Ok(Tensor::from_slice(shape, &numbers, self.device, self.dtype)?)
    }

    /// The same in f32: statistics, losses, gradients of weights.
    pub(super) fn wide(&self, stream: u64, shape: &[usize], scale: f32) -> Result<Tensor> {
        let numbers = self.numbers(stream, shape.iter().product(), scale);
        Ok(Tensor::from_slice(shape, &numbers, self.device, DType::F32)?)
    }

    /// Numbers below `below`.
    pub(super) fn ids(&self, stream: u64, n: usize, below: usize) -> Result<Tensor<u32>> {
        let mut rng = self.rng(stream);
        let ids: Vec<u32> = (0..n).map(|_| rng.random_range(0..below as u32)).collect();
        Ok(Tensor::from_slice(&[n], &ids, self.device, DType::U32)?)
    }

    /// Bytes of an element.
    pub(super) fn size(&self) -> usize {
        self.dtype.size()
    }

    /// What rounding to the storage allows, and `f32` where it rounds to f32.
    pub(super) fn rounding(&self, f32: f64) -> f64 {
        // Results are rounded once, and so is what they are made of.
        if self.dtype == DType::Bf16 { 2.0 / 128.0 } else { f32 }
    }
}

/// NaN in all elements.
pub(super) fn poison(tensors: &mut [&mut Tensor]) -> Result<()> {
    for tensor in tensors {
        tensor.fill(f32::NAN)?;
    }
    Ok(())
}

/// The first, the last, and some rows between.
pub(super) fn some_rows(n: usize) -> Vec<usize> {
    let mut rows: Vec<usize> =
        [0, n / 5, n / 3, n / 2, 2 * n / 3, n - 1].into_iter().filter(|&row| row < n).collect();
    rows.dedup();
    rows
}

/// How many different ids there are.
pub(super) fn distinct(ids: &Tensor<u32>) -> Result<usize> {
    Ok(ids.to_vec()?.into_iter().collect::<std::collections::BTreeSet<u32>>().len())
}

/// Values of a tensor in f64, as stored.
pub(super) fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_vec()?.into_iter().map(f64::from).collect())
}

/// Largest difference, relative to the largest value wanted.
pub(super) fn relative_error(pairs: impl IntoIterator<Item = (f64, f64)>) -> f64 {
    let (mut largest, mut off) = (f64::MIN_POSITIVE, 0.0_f64);
    for (got, want) in pairs {
        if got.is_nan() {
            return f64::NAN;
        }
        largest = largest.max(want.abs());
        off = off.max((got - want).abs());
    }
    off / largest
}
