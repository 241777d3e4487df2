//! One kernel launch: its arguments in order, then the grid.

use std::marker::PhantomData;

use cudarc::driver::{LaunchConfig, PushKernelArg};

use super::device::CudaDevice;
use super::scratch::Scratch;
use super::tensor_map::TensorMap;
use crate::dtype::Element;
use crate::error::KernelError;
use crate::tensor::Tensor;

/// The number and size of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grid {
    /// Blocks along x, y, z. None at all is no launch, not an error.
    pub(crate) blocks: [usize; 3],
    /// Threads of a block along x, y, z.
    pub(crate) threads: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub(crate) shared: usize,
}

impl Grid {
    /// `blocks` blocks in a row, of `threads` threads in a row.
    pub(crate) fn linear(blocks: usize, threads: u32) -> Grid {
        Grid { blocks: [blocks, 1, 1], threads: [threads, 1, 1], shared: 0 }
    }

    /// Blocks of 256 threads, a thread for each of `n` items.
    pub(crate) fn items(n: usize) -> Grid {
        Grid::linear(n.div_ceil(256), 256)
    }

    /// For kernels that take a row of `len` elements in runs of 256 threads, eight elements a thread where `len` allows:
    /// blocks (n, runs).
    pub(crate) fn row_runs(n: usize, len: usize) -> Grid {
        let width = if len.is_multiple_of(8) { 8 } else { 1 };
        Grid { blocks: [n, len.div_ceil(256 * width), 1], threads: [256, 1, 1], shared: 0 }
    }

    /// For kernels that take heads of `d` elements as `cuda/head.cuh` has it: blocks of 256 threads, `d / 8` lanes for each
    /// of `n` heads where these divide a warp, else a warp.
    pub(crate) fn heads(n: usize, d: usize) -> Grid {
        Grid::items(n * lanes_of_head(d).unwrap_or(32))
    }

    /// The same with dynamic shared memory.
    pub(crate) fn with_shared(self, bytes: usize) -> Grid {
        Grid { shared: bytes, ..self }
    }

    fn config(self, op: &'static str) -> Result<Option<LaunchConfig>, KernelError> {
        if self.blocks.contains(&0) {
            return Ok(None);
        }
        // The limits of compute capability 3.0 and all since.
        let limits = [i32::MAX as usize, 65_535, 65_535];
        let fits = self.blocks.iter().zip(limits).all(|(&blocks, limit)| blocks <= limit);
        if !fits {
            let got = format!("{:?} blocks", self.blocks);
            return Err(KernelError::Range { op, arg: "grid", got, expected: format!("at most {limits:?}") });
        }
        let [x, y, z] = self.blocks.map(|blocks| blocks as u32);
        Ok(Some(LaunchConfig {
            grid_dim: (x, y, z),
            block_dim: (self.threads[0], self.threads[1], self.threads[2]),
            shared_mem_bytes: self.shared as u32,
        }))
    }
}

/// Lanes that share a head of `d` elements, eight each (`is_wide_head` in `cuda/head.cuh`); None if a warp strides over it.
pub(crate) fn lanes_of_head(d: usize) -> Option<usize> {
    (d > 0 && d.is_multiple_of(8) && 32_usize.is_multiple_of(d / 8)).then_some(d / 8)
}

/// A value that a kernel gets.
#[derive(Debug, Clone, Copy)]
enum Value {
    Address(u64),
    I32(i32),
    I64(i64),
    U32(u32),
    F32(f32),
    Map(TensorMap),
}

/// A launch that is put together: `Launch::of(..).output(..).input(..).number(..)`, in the order of the kernel's
/// parameters, then `launch`. The borrows of its tensors last until then, so that what is written cannot be read beside.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    device: &'a CudaDevice,
    op: &'static str,
    unit: &'static str,
    kernel: &'static str,
    values: Vec<Value>,
    misplaced: bool,
    borrows: PhantomData<&'a mut ()>,
}

impl<'a> Launch<'a> {
    /// A launch of `kernel`, which is an entry of `unit`, for the operation `op`.
    pub(crate) fn of(
        device: &'a CudaDevice,
        op: &'static str,
        unit: &'static str,
        kernel: &'static str,
    ) -> Launch<'a> {
        Launch { device, op, unit, kernel, values: Vec::new(), misplaced: false, borrows: PhantomData }
    }

    /// A tensor that is written, or read and written.
    pub(crate) fn output<T: Element>(self, tensor: &'a mut Tensor<T>) -> Launch<'a> {
        self.tensor(tensor, 0)
    }

    /// A tensor that is written from element `first` on.
    pub(crate) fn output_at<T: Element>(self, tensor: &'a mut Tensor<T>, first: usize) -> Launch<'a> {
        self.tensor(tensor, first)
    }

    /// A tensor that is read.
    pub(crate) fn input<T: Element>(self, tensor: &'a Tensor<T>) -> Launch<'a> {
        self.tensor(tensor, 0)
    }

    /// A tensor that is read from element `first` on.
    pub(crate) fn input_at<T: Element>(self, tensor: &'a Tensor<T>, first: usize) -> Launch<'a> {
        self.tensor(tensor, first)
    }

    /// A tensor that is read if it is there; the kernel gets a null pointer if not.
    pub(crate) fn optional_input<T: Element>(self, tensor: Option<&'a Tensor<T>>) -> Launch<'a> {
        match tensor {
            Some(tensor) => self.input(tensor),
            None => self.value(Value::Address(0)),
        }
    }

    /// A tensor that is written if it is there; the kernel gets a null pointer if not.
    pub(crate) fn optional_output<T: Element>(self, tensor: Option<&'a mut Tensor<T>>) -> Launch<'a> {
        match tensor {
            Some(tensor) => self.output(tensor),
            None => self.value(Value::Address(0)),
        }
    }

    /// Scratch memory from byte `offset` on.
    pub(crate) fn scratch(self, scratch: &'a Scratch<'_>, offset: usize) -> Launch<'a> {
        self.value(Value::Address(scratch.address(offset)))
    }

    /// A number: `int`, `long long`, `unsigned` or `float` in the kernel.
    pub(crate) fn number(self, number: impl Into<Number>) -> Launch<'a> {
        self.value(number.into().0)
    }

    /// A map of a matrix, by value.
    pub(crate) fn map(self, map: TensorMap) -> Launch<'a> {
        self.value(Value::Map(map))
    }

    /// A size, as `int`.
    ///
    /// What does not fit is refused at the launch.
    pub(crate) fn size(mut self, size: usize) -> Launch<'a> {
        let value = i32::try_from(size);
        self.misplaced |= value.is_err();
        self.value(Value::I32(value.unwrap_or(i32::MAX)))
    }

    /// Gives the launch to the stream. Returns at once; a failure of the kernel shows at a later call.
    ///
    /// # Safety
    /// The arguments must be, in order and type, the parameters of the kernel; the kernel must keep within the tensors
    /// for this grid and write only to what was given as output or scratch.
    ///
    /// # Errors
    /// [`KernelError::Range`] if a size or the grid is too large, [`KernelError::Placement`] if a tensor lies on another
    /// device, [`KernelError::Kernels`], [`KernelError::Driver`].
    pub(crate) unsafe fn launch(self, grid: Grid) -> Result<(), KernelError> {
        let Launch { device, op, unit, kernel, values, misplaced, .. } = self;
        let Some(config) = grid.config(op)? else { return Ok(()) };
        if misplaced {
            return Err(KernelError::Range {
                op,
                arg: "arguments",
                got: format!("a size above {} or a tensor of another device, for `{kernel}`", i32::MAX),
                expected: format!("sizes of 32 bits and tensors on cuda:{}", device.ordinal()),
            });
        }
        let function = device.function(unit, kernel, grid.shared)?;
        let stream = device.stream(op)?;
        let mut builder = stream.launch_builder(&function);
        for value in &values {
            match value {
                Value::Address(value) => builder.arg(value),
                Value::I32(value) => builder.arg(value),
                Value::I64(value) => builder.arg(value),
                Value::U32(value) => builder.arg(value),
                Value::F32(value) => builder.arg(value),
                Value::Map(value) => builder.arg(value),
            };
        }
        // SAFETY: the caller's promise, passed on; `values` outlives the call.
        unsafe { builder.launch(config) }.map(|_events| ()).map_err(|error| device.error(op, error))
    }

    fn tensor<T: Element>(mut self, tensor: &Tensor<T>, first: usize) -> Launch<'a> {
        let buffer = tensor.cuda().filter(|buffer| buffer.device() == self.device && first <= buffer.len());
        self.misplaced |= buffer.is_none();
        self.value(Value::Address(buffer.map_or(0, |buffer| buffer.address(first))))
    }

    fn value(mut self, value: Value) -> Launch<'a> {
        self.values.push(value);
        self
    }
}

/// A number for a kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Number(Value);

impl From<i32> for Number {
    fn from(value: i32) -> Number {
        Number(Value::I32(value))
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Number {
        Number(Value::I64(value))
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Number {
        Number(Value::U32(value))
    }
}

impl From<f32> for Number {
    fn from(value: f32) -> Number {
        Number(Value::F32(value))
    }
}
