//! Linear layers over weights in panels: one order of summation for any number of rows, and half the bytes on request.
//!
//! Generation multiplies a few rows by every weight of the model, so it is bound by the bytes of the weights. A
//! [`PackedWeight`] is a copy laid out for that: panels of 16 outputs, input by input, in f32 or bf16. Products
//! are f32 in either case; a bf16 weight is the f32 weight rounded to the nearest even bf16.

mod cpu;

use half::bf16;

use crate::error::{KernelError, check_shape};
use crate::panels::{self, Matrix, MatrixMut};
use crate::tensor::Tensor;

/// How the weights of a [`PackedWeight`] are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightStorage {
    /// As they are: 4 bytes each.
    F32,
    /// Rounded to the nearest bf16, ties to even: 2 bytes each, relative error at most 2^-9. Exact for weights that come
    /// from a bf16 checkpoint.
    Bf16,
}

/// A weight (O, I) in panels: outputs `16 p .. 16 p + 16` lie together, (I, 16) row-major. Outputs missing in the last
/// panel are 0.
#[derive(Debug, Clone)]
pub struct PackedWeight {
    outputs: usize,
    inputs: usize,
    panels: Panels,
}

#[derive(Debug, Clone)]
enum Panels {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl PackedWeight {
    /// Packs a weight.
    ///
    /// - `weight`: (O, I) f32
    #[must_use]
    pub fn new(weight: &Tensor, storage: WeightStorage) -> PackedWeight {
        let (outputs, inputs) = (weight.rows(), weight.row_len());
        let panels = match storage {
            WeightStorage::F32 => Panels::F32(cpu::pack(weight.as_slice(), outputs, inputs, |w| w)),
            WeightStorage::Bf16 => {
                Panels::Bf16(cpu::pack(weight.as_slice(), outputs, inputs, bf16::from_f32))
            }
        };
        PackedWeight { outputs, inputs, panels }
    }

    /// O.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// I.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How the weights are stored.
    #[must_use]
    pub fn storage(&self) -> WeightStorage {
        match self.panels {
            Panels::F32(_) => WeightStorage::F32,
            Panels::Bf16(_) => WeightStorage::Bf16,
        }
    }

    /// Outputs `first ..` of `x`, as many as `out` has columns, on this thread; `first` begins a panel.
    ///
    /// - `out`: (N, columns), overwritten
    /// - `x`: (N, I)
    pub(crate) fn product(&self, out: MatrixMut<'_>, x: Matrix<'_>, first: usize) {
        let (inputs, outputs, cols) = (self.inputs, self.outputs, out.cols());
        match &self.panels {
            Panels::F32(data) => {
                let panels = panels::Panels::new(data, inputs, outputs).columns(first, cols);
                panels::packed_product(out, x, panels, false);
            }
            Panels::Bf16(data) => {
                let panels = panels::Panels::new(data, inputs, outputs).columns(first, cols);
                panels::packed_product(out, x, panels, false);
            }
        }
    }

    /// Bytes of the panels.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.panels {
            Panels::F32(data) => size_of_val(data.as_slice()),
            Panels::Bf16(data) => size_of_val(data.as_slice()),
        }
    }
}

/// `out[n, o] = sum_i x[n, i] * weight[o, i]`, plus the old `out` if `accumulate`.
///
/// The inputs of a row are summed in order, one fused multiplication and addition each (where the processor has them),
/// whatever the number of rows: a row of a batch equals that row alone to the bit.
///
/// - `out`: (N, O) f32, overwritten or added to
/// - `x`: (N, I) f32
/// - `weight`: (O, I), packed
///
/// # Errors
/// [`KernelError::Shape`].
pub fn packed_matmul(
    out: &mut Tensor,
    x: &Tensor,
    weight: &PackedWeight,
    accumulate: bool,
) -> Result<(), KernelError> {
    check_shape("packed_matmul", "x", x.shape(), &[x.rows(), weight.inputs])?;
    check_shape("packed_matmul", "out", out.shape(), &[x.rows(), weight.outputs])?;
    let (out, x) = (out.as_mut_slice(), x.as_slice());
    let sizes = (weight.outputs, weight.inputs);
    match &weight.panels {
        Panels::F32(panels) => cpu::forward(out, x, panels, sizes, accumulate),
        Panels::Bf16(panels) => cpu::forward(out, x, panels, sizes, accumulate),
    }
    Ok(())
}
