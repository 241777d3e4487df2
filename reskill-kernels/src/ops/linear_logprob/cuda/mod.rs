//! Fused log-probabilities on a CUDA device. Rows with an allowed set compute the logits of that set, a block a row;
//! rows without are multiplied by the head in tiles whose logits stay in registers.

mod backward;
mod forward;
mod head_plan;
pub(crate) mod hopper;
mod products;
mod sets;

use std::mem::size_of;

pub(crate) use backward::{Slab, add_slabs, backward};
pub(crate) use forward::{Parts, SHARED_FEW_BF16, forward, parts};
pub(crate) use sets::Sets;

use super::TokenSets;
use crate::cuda::{CudaDevice, Launch, Scratch};
use crate::device::Device;
use crate::dtype::{DType, Element};
use crate::error::KernelError;
use crate::tensor::Tensor;

/// Tokens whose statistics are joined before they leave a block. Part of the numerical definition.
pub(crate) const STRIP: usize = 256;
/// Bytes of one f32.
pub(crate) const F32: usize = size_of::<f32>();
/// Bytes of shared memory of a tile of f32: 16 steps of k, 64 rows (or 16) and 64 columns, each one padded.
pub(crate) const SHARED_F32: usize = 16 * (64 + 64 + 2) * F32;
pub(crate) const SHARED_FEW_F32: usize = 16 * (16 + 64 + 2) * F32;

/// What all passes read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Problem<'a> {
    pub(crate) device: &'a CudaDevice,
    pub(crate) op: &'static str,
    /// (N, C) T.
    pub(crate) hidden: &'a Tensor,
    /// (V, C) T.
    pub(crate) head: &'a Tensor,
    pub(crate) temperature: f32,
}

impl<'a> Problem<'a> {
    /// A launch of a kernel of `unit` for this operation.
    pub(crate) fn launch(&self, unit: &'static str, kernel: &'static str) -> Launch<'a> {
        Launch::of(self.device, self.op, unit, kernel)
    }

    pub(crate) fn vocab(&self) -> usize {
        self.head.rows()
    }

    pub(crate) fn width(&self) -> usize {
        self.head.row_len()
    }

    pub(crate) fn n_strips(&self) -> usize {
        self.vocab().div_ceil(STRIP)
    }

    pub(crate) fn inverse_temperature(&self) -> f32 {
        1.0 / self.temperature
    }

    pub(crate) fn dtype(&self) -> DType {
        self.head.dtype()
    }

    /// The bytes of a tile's shared memory, of one for f32 and one for bf16.
    pub(crate) fn shared(&self, f32: usize, bf16: usize) -> usize {
        if self.dtype() == DType::Bf16 { bf16 } else { f32 }
    }

    pub(crate) fn scratch(&self, bytes: usize) -> Result<Scratch<'_>, KernelError> {
        self.device.scratch(self.op, bytes)
    }
}

/// The rows of a batch by what they allow.
#[derive(Debug)]
pub(crate) struct Rows {
    /// The rows that allow everything; none if all do.
    index: Option<Tensor<u32>>,
    n_dense: usize,
    /// The rows that allow a set.
    pub(crate) sets: Option<Sets>,
}

impl Rows {
    pub(crate) fn new(device: &CudaDevice, allowed: &TokenSets) -> Result<Rows, KernelError> {
        let n = allowed.rows();
        let (dense, restricted): (Vec<u32>, Vec<u32>) =
            (0..n as u32).partition(|&row| allowed.row(row as usize).is_empty());
        let n_dense = dense.len();
        if n_dense == n {
            return Ok(Rows { index: None, n_dense, sets: None });
        }
        let index = if n_dense == 0 { None } else { Some(upload(device, &dense)?) };
        let sets = Some(Sets::new(device, allowed, restricted)?);
        Ok(Rows { index, n_dense, sets })
    }

    /// The rows that allow everything, in blocks of at most `longest`.
    pub(crate) fn dense(&self, longest: usize) -> impl Iterator<Item = Block<'_>> {
        let starts = (0..self.n_dense).step_by(longest);
        let index = self.index.as_ref();
        starts.map(move |start| Block { index, start, len: longest.min(self.n_dense - start) })
    }
}

/// Some of the rows that allow everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    index: Option<&'a Tensor<u32>>,
    start: usize,
    pub(crate) len: usize,
}

impl<'a> Block<'a> {
    /// Where the block's rows of a tensor of `row_len` elements begin: kernels find the rows by the index, if there is
    /// one, and else from here on.
    pub(crate) fn first(&self, row_len: usize) -> usize {
        if self.index.is_some() { 0 } else { self.start * row_len }
    }

    pub(crate) fn input<'l, T: Element>(&self, launch: Launch<'l>, tensor: &'l Tensor<T>) -> Launch<'l> {
        launch.input_at(tensor, self.first(tensor.row_len()))
    }

    pub(crate) fn output<'l, T: Element>(&self, launch: Launch<'l>, tensor: &'l mut Tensor<T>) -> Launch<'l> {
        let first = self.first(tensor.row_len());
        launch.output_at(tensor, first)
    }

    /// The index of the block's rows, or null.
    pub(crate) fn index<'l>(&self, launch: Launch<'l>) -> Launch<'l>
    where
        'a: 'l,
    {
        match self.index {
            Some(index) => launch.input_at(index, self.start),
            None => null(launch),
        }
    }
}

/// A null pointer.
pub(crate) fn null(launch: Launch<'_>) -> Launch<'_> {
    launch.optional_input::<u32>(None)
}

/// A table in the device's memory.
pub(crate) fn upload(device: &CudaDevice, table: &[u32]) -> Result<Tensor<u32>, KernelError> {
    Tensor::from_slice(&[table.len()], table, &Device::Cuda(device.clone()), DType::U32)
}
