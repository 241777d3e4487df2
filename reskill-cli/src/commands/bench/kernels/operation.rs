//! An operation with its inputs in place: it can run, and its result can be judged.

use anyhow::Result;
use reskill_kernels::ops::Cost;
use reskill_kernels::{DType, Device, KernelError, Tensor};

use super::random::Stream;
use super::sample::Sample;
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
    fn error(&self, sample: Sample) -> Result<f64>;
    /// What the storage and the sums of this operation allow of it.
    fn tolerance(&self) -> f64;
    /// Tensors that must hold numbers after a run, all over.
    fn outputs(&self) -> Vec<&Tensor>;
    /// Elements of the outputs that a run leaves as they were poisoned.
    fn left_poisoned(&self) -> usize {
        0
    }
    /// Whether it waits for the device, so that a graph cannot hold it.
    fn waits(&self) -> bool {
        false
    }
}

impl Inputs<'_> {
    pub(super) fn stream(&self, stream: u64) -> Stream {
        Stream::new(self.seed, stream)
    }

    /// A tensor of numbers in -scale..scale, stored as weights and activations are.
    pub(super) fn tensor(&self, stream: u64, shape: &[usize], scale: f32) -> Result<Tensor> {
        let numbers = self.stream(stream).numbers(shape.iter().product(), scale);
        Ok(Tensor::from_slice(shape, &numbers, self.device, self.dtype)?)
    }

    /// The same in f32: statistics, losses, gradients of weights.
    pub(super) fn wide(&self, stream: u64, shape: &[usize], scale: f32) -> Result<Tensor> {
        let numbers = self.stream(stream).numbers(shape.iter().product(), scale);
        Ok(Tensor::from_slice(shape, &numbers, self.device, DType::F32)?)
    }

    /// A column of numbers below `below`.
    pub(super) fn ids(&self, stream: u64, n: usize, below: usize) -> Result<Tensor<u32>> {
        self.column(&self.stream(stream).ids(n, below))
    }

    /// These numbers on the device.
    pub(super) fn column(&self, ids: &[u32]) -> Result<Tensor<u32>> {
        Ok(Tensor::from_slice(&[ids.len()], ids, self.device, DType::U32)?)
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

/// How many different ids there are.
pub(super) fn distinct(ids: &[u32]) -> usize {
    ids.iter().collect::<std::collections::BTreeSet<_>>().len()
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

/// The larger of two errors; NaN if one is.
pub(super) fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}
