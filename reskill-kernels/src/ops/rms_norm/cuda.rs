//! RMSNorm on a CUDA device.

use crate::cuda::{CudaDevice, Grid, Launch};
use crate::error::KernelError;
use crate::ops::elementwise::{Parts, add_column_sums};
use crate::tensor::Tensor;

const UNIT: &str = "rms_norm";
/// Most blocks of the backward pass: four on each multiprocessor of an H100. A number of its own, not the device's, so that
/// sums have one order everywhere.
const MOST_PARTS: usize = 512;

pub(super) fn forward(
    device: &CudaDevice,
    out: &mut Tensor,
    rstd: &mut Tensor,
    x: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Result<(), KernelError> {
    let (n, c) = (x.rows(), x.row_len());
    let kernel = x.dtype().pick("rms_norm_forward_f32", "rms_norm_forward_bf16");
    let launch = Launch::of(device, "rms_norm_forward", UNIT, kernel)
        .output(out)
        .output(rstd)
        .input(x)
        .input(weight)
        .size(c)
        .number(eps);
    // SAFETY:
    // - arguments: order and types match `rms_norm_forward_T(T*, float*, const T*, const T*, int, float)`, T being the
    //   type of `x`, `out` and `weight` (checked in `mod.rs`);
    // - bounds: `out` and `x` hold N * C elements, `rstd` N, `weight` C (checked in `mod.rs`); block b touches row b only,
    //   and there are N blocks;
    // - aliasing: the kernel writes `out` and `rstd` only, both borrowed mutably here.
    unsafe { launch.launch(Grid::linear(n, threads(c))) }
}

pub(super) fn residual_forward(
    device: &CudaDevice,
    (out, sum, rstd): (&mut Tensor, &mut Tensor, &mut Tensor),
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    eps: f32,
) -> Result<(), KernelError> {
    let (n, c) = (x.rows(), x.row_len());
    let kernel = x.dtype().pick("residual_rms_norm_forward_f32", "residual_rms_norm_forward_bf16");
    let launch = Launch::of(device, "residual_rms_norm_forward", UNIT, kernel)
        .output(out)
        .output(sum)
        .output(rstd)
        .input(x)
        .input(residual)
        .input(weight)
        .size(c)
        .number(eps);
    // SAFETY:
    // - arguments: order and types match `residual_rms_norm_forward_T(T*, T*, float*, const T*, const T*, const T*, int,
    //   float)`, T being the type of all tensors but `rstd` (checked in `mod.rs`);
    // - bounds: `out`, `sum`, `x` and `residual` hold N * C elements, `rstd` N, `weight` C (checked in `mod.rs`); block b
    //   touches row b only, and there are N blocks;
    // - aliasing: the kernel writes `out`, `sum` and `rstd` only, all borrowed mutably here; a thread reads of `sum` what
    //   it wrote itself.
    unsafe { launch.launch(Grid::linear(n, threads(c))) }
}

pub(super) fn backward(
    device: &CudaDevice,
    d_x: &mut Tensor,
    d_weight: &mut Tensor,
    d_out: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    rstd: &Tensor,
) -> Result<(), KernelError> {
    const OP: &str = "rms_norm_backward";
    let (n, c) = (x.rows(), x.row_len());
    let n_parts = n.min(MOST_PARTS);
    let parts = device.scratch(OP, n_parts * c * size_of::<f32>())?;
    let kernel = x.dtype().pick("rms_norm_backward_f32", "rms_norm_backward_bf16");
    let launch = Launch::of(device, OP, UNIT, kernel)
        .output(d_x)
        .scratch(&parts, 0)
        .input(d_out)
        .input(x)
        .input(weight)
        .input(rstd)
        .size(n)
        .size(c);
    let shared = if c > width(c) * threads(c) as usize { c * size_of::<f32>() } else { 0 };
    let grid = Grid::linear(n_parts, threads(c)).with_shared(shared);
    // SAFETY:
    // - arguments: order and types match `rms_norm_backward_T(T*, float*, const T*, const T*, const T*, const float*, int,
    //   int)`, T being the type of `d_x`, `d_out`, `x` and `weight` (checked in `mod.rs`);
    // - bounds: `d_x`, `d_out` and `x` hold N * C elements, `weight` C, `rstd` N (checked in `mod.rs`), `parts` one row of
    //   C for each block, and the shared memory C f32 where one run of the block does not cover a row, as the kernel
    //   asks;
    // - aliasing: the kernel writes `d_x` (borrowed mutably here) and `parts` only.
    unsafe { launch.launch(grid) }?;
    add_column_sums(device, OP, d_weight, Parts { scratch: &parts, rows: n_parts, width: c, first: 0 })
}

/// Elements that a thread takes at once.
fn width(c: usize) -> usize {
    if c.is_multiple_of(8) { 8 } else { 1 }
}

/// Threads for a row of `c` elements: a multiple of a warp, one for each run of `width(c)` elements as far as 256 reach.
fn threads(c: usize) -> u32 {
    c.div_ceil(width(c)).next_multiple_of(32).clamp(32, 256) as u32
}
