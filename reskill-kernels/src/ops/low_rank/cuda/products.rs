//! Of any size and type: products through [`crate::ops::matmul`], with their inner values in scratch memory.

use super::super::{LowRank, sizes};
use crate::cuda::{CudaDevice, Grid, Launch};
use crate::dtype::DType;
use crate::error::KernelError;
use crate::ops::{matmul, matmul_backward_input, matmul_backward_weight};
use crate::tensor::Tensor;

const UNIT: &str = "low_rank";

pub(super) fn forward(
    device: &CudaDevice,
    out: &mut Tensor,
    x: &Tensor,
    pair: &LowRank<'_>,
) -> Result<(), KernelError> {
    const OP: &str = "low_rank_forward";
    let ((outputs, _, _), n, width) = (sizes(pair), x.rows(), out.row_len());
    let inner = inner(device, OP, x, pair)?;
    let mut added = device.scratch_tensor(OP, &[n, outputs], DType::F32)?;
    matmul(&mut added, &inner, pair.b, false)?;
    let kernel = out.dtype().pick("low_rank_add_columns_f32", "low_rank_add_columns_bf16");
    let launch = Launch::of(device, OP, UNIT, kernel)
        .output(out)
        .input(&added)
        .size(width)
        .size(pair.first_column)
        .size(outputs)
        .number(pair.scale);
    // SAFETY:
    // - arguments: order and types match `low_rank_add_columns_T(T*, const float*, int, int, int, float)`, T being the type
    //   of `out`;
    // - bounds: `out` holds N * W elements with W >= first + O (checked in `mod.rs`), `added` N * O; blocks of x = n touch
    //   row n only, and columns from O on are left alone;
    // - aliasing: the kernel writes `out` only, borrowed mutably here.
    unsafe { launch.launch(columns(n, outputs)) }
}

pub(super) fn backward(
    device: &CudaDevice,
    d_x: &mut Tensor,
    (d_a, d_b): (&mut Tensor, &mut Tensor),
    d_out: &Tensor,
    x: &Tensor,
    pair: &LowRank<'_>,
) -> Result<(), KernelError> {
    const OP: &str = "low_rank_backward";
    let ((outputs, rank, _), n, width, t) = (sizes(pair), x.rows(), d_out.row_len(), x.dtype());
    let mut d_added = device.scratch_tensor(OP, &[n, outputs], t)?;
    let kernel = t.pick("low_rank_take_columns_f32", "low_rank_take_columns_bf16");
    let launch = Launch::of(device, OP, UNIT, kernel)
        .output(&mut d_added)
        .input(d_out)
        .size(width)
        .size(pair.first_column)
        .size(outputs)
        .number(pair.scale);
    // SAFETY:
    // - arguments: order and types match `low_rank_take_columns_T(T*, const T*, int, int, int, float)`, T being the type of
    //   both tensors (checked in `mod.rs`);
    // - bounds: `d_out` holds N * W elements with W >= first + O (checked in `mod.rs`), `d_added` N * O; blocks of x = n
    //   touch row n only, and columns from O on are left alone;
    // - aliasing: the kernel writes `d_added` only, borrowed mutably here.
    unsafe { launch.launch(columns(n, outputs)) }?;
    let inner = inner(device, OP, x, pair)?;
    let mut d_inner = device.scratch_tensor(OP, &[n, rank], t)?;
    matmul_backward_input(&mut d_inner, &d_added, pair.b, false)?;
    matmul_backward_weight(d_b, &d_added, &inner)?;
    matmul_backward_weight(d_a, &d_inner, x)?;
    matmul_backward_input(d_x, &d_inner, pair.a, true)
}

/// `x A^T`: (N, R), stored as `x` is.
fn inner(
    device: &CudaDevice,
    op: &'static str,
    x: &Tensor,
    pair: &LowRank<'_>,
) -> Result<Tensor, KernelError> {
    let mut inner = device.scratch_tensor(op, &[x.rows(), sizes(pair).1], x.dtype())?;
    matmul(&mut inner, x, pair.a, false)?;
    Ok(inner)
}

fn columns(n: usize, outputs: usize) -> Grid {
    Grid { blocks: [n, outputs.div_ceil(256), 1], threads: [256, 1, 1], shared: 0 }
}
