//! Rotary embedding on a CUDA device.

use super::RopeTable;
use crate::cuda::{CudaDevice, Grid, Launch};
use crate::error::KernelError;
use crate::tensor::Tensor;

pub(super) fn rotate(
    device: &CudaDevice,
    op: &'static str,
    qkv: &mut Tensor,
    positions: &Tensor<u32>,
    table: &RopeTable,
    n_heads: usize,
    direction: f32,
) -> Result<(), KernelError> {
    let (n, width, half) = (qkv.rows(), qkv.row_len(), table.cos.row_len());
    let pairs = if half.is_multiple_of(8) && width.is_multiple_of(8) { 8 } else { 1 };
    let runs = (n_heads * half).div_ceil(256 * pairs);
    let kernel = qkv.dtype().pick("rope_f32", "rope_bf16");
    let launch = Launch::of(device, op, "rope", kernel)
        .output(qkv)
        .input(positions)
        .input(&table.cos)
        .input(&table.sin)
        .size(width)
        .size(n_heads)
        .size(half)
        .number(table.cos.rows() as u32)
        .number(direction);
    // SAFETY:
    // - arguments: order and types match `rope_T(T*, const u32*, const float*, const float*, int, int, int, u32, float)`, T
    //   being the type of `qkv`;
    // - bounds: `qkv` holds N * W elements with W >= n_heads * D, `positions` N, both tables P * D/2 (checked in
    //   `mod.rs`); blocks of x = n touch row n only, pairs beyond the last head are left alone, and a position of P or
    //   more reads nothing;
    // - aliasing: the kernel writes `qkv` only, borrowed mutably here; each pair belongs to one thread.
    unsafe { launch.launch(Grid { blocks: [n, runs, 1], threads: [256, 1, 1], shared: 0 }) }
}
