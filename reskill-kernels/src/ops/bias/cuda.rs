//! Biases on a CUDA device.

use crate::cuda::{CudaDevice, Grid, Launch};
use crate::error::KernelError;
use crate::ops::elementwise::{Parts, add_column_sums};
use crate::tensor::Tensor;

const UNIT: &str = "bias";
/// Most parts of the gradient's sum.
const MOST_PARTS: usize = 256;

pub(super) fn forward(device: &CudaDevice, out: &mut Tensor, bias: &Tensor) -> Result<(), KernelError> {
    let (n, o) = (out.rows(), out.row_len());
    let kernel = out.dtype().pick("bias_forward_f32", "bias_forward_bf16");
    let launch = Launch::of(device, "bias_forward", UNIT, kernel).output(out).input(bias).size(o);
    // SAFETY:
    // - arguments: order and types match `bias_forward_T(T*, const T*, int)`, T being the type of both tensors (checked in
    //   `mod.rs`);
    // - bounds: `out` holds N * O elements, `bias` O (checked in `mod.rs`); blocks of x = n touch row n only, and columns
    //   from O on are left alone;
    // - aliasing: the kernel writes `out` only, borrowed mutably here.
    unsafe { launch.launch(Grid::row_runs(n, o)) }
}

pub(super) fn backward(device: &CudaDevice, d_bias: &mut Tensor, d_out: &Tensor) -> Result<(), KernelError> {
    const OP: &str = "bias_backward";
    let (n, o) = (d_out.rows(), d_out.row_len());
    // At least 32 rows a part, or the parts would be as many bytes as the rows.
    let n_parts = n.div_ceil(32).min(MOST_PARTS);
    let parts = device.scratch(OP, n_parts * o * size_of::<f32>())?;
    let kernel = d_out.dtype().pick("bias_backward_f32", "bias_backward_bf16");
    let launch = Launch::of(device, OP, UNIT, kernel).scratch(&parts, 0).input(d_out).size(n).size(o);
    // SAFETY:
    // - arguments: order and types match `bias_backward_T(float*, const T*, int, int)`, T being the type of `d_out`;
    // - bounds: `d_out` holds N * O elements, `parts` O f32 for each block along y; columns from O on are left alone;
    // - aliasing: the kernel writes `parts` only, which is this call's.
    unsafe {
        launch.launch(Grid { blocks: [o.div_ceil(256), n_parts, 1], threads: [256, 1, 1], shared: 0 })
    }?;
    add_column_sums(device, OP, d_bias, Parts { scratch: &parts, rows: n_parts, width: o, first: 0 })
}
