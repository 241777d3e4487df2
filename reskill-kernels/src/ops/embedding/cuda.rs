//! Embedding on a CUDA device.

use crate::cuda::{CudaDevice, Grid, Launch};
use crate::dtype::DType;
use crate::error::KernelError;
use crate::tensor::Tensor;

const UNIT: &str = "embedding";
/// Blocks for tokens of several rows: two on each multiprocessor of an H100, as many as fit.
const LIST_BLOCKS: usize = 264;

pub(super) fn forward(
    device: &CudaDevice,
    out: &mut Tensor,
    table: &Tensor,
    tokens: &Tensor<u32>,
) -> Result<(), KernelError> {
    let (n, c, vocab) = (tokens.len(), table.row_len(), table.rows() as u32);
    let kernel = table.dtype().pick("embedding_forward_f32", "embedding_forward_bf16");
    let launch = Launch::of(device, "embedding_forward", UNIT, kernel)
        .output(out)
        .input(table)
        .input(tokens)
        .size(c)
        .number(vocab);
    // SAFETY:
    // - arguments: order and types match `embedding_forward_T(T*, const T*, const u32*, int, u32)`, T being the type of
    //   `out` and `table` (checked in `mod.rs`);
    // - bounds: `out` holds N * C elements, `table` V * C, `tokens` N (checked in `mod.rs`); block b touches row b of
    //   `out`, there are N blocks, and a token of V or more reads nothing;
    // - aliasing: the kernel writes `out` only, borrowed mutably here.
    unsafe { launch.launch(Grid::linear(n, threads(c))) }
}

pub(super) fn backward(
    device: &CudaDevice,
    d_table: &mut Tensor,
    d_out: &Tensor,
    tokens: &Tensor<u32>,
) -> Result<(), KernelError> {
    const OP: &str = "embedding_backward";
    let (n, c, vocab) = (tokens.len(), d_table.row_len(), d_table.rows());
    // First and last row of each token, and how many are in the list of those with several.
    let mut ends = device.scratch_tensor::<u32>(OP, &[2 * vocab + 1], DType::U32)?;
    let mut list = device.scratch_tensor::<u32>(OP, &[n], DType::U32)?;
    ends.fill(u32::MAX)?;
    let launch = Launch::of(device, OP, UNIT, "embedding_ends_u32")
        .output(&mut ends)
        .input(tokens)
        .size(n)
        .number(vocab as u32);
    // SAFETY:
    // - arguments: order and types match `embedding_ends_u32(u32*, const u32*, int, u32)`;
    // - bounds: `ends` holds 2 V numbers and one, `tokens` N; rows from N on and tokens of V or more touch nothing;
    // - aliasing: the kernel writes `ends` only, borrowed mutably here.
    unsafe { launch.launch(Grid::items(n)) }?;
    let kernel = d_out.dtype().pick("embedding_backward_once_f32", "embedding_backward_once_bf16");
    let launch = Launch::of(device, OP, UNIT, kernel)
        .output(d_table)
        .output(&mut list)
        .output(&mut ends)
        .input(d_out)
        .input(tokens)
        .size(n)
        .size(c)
        .number(vocab as u32);
    // SAFETY:
    // - arguments: order and types match `embedding_backward_once_T(float*, u32*, u32*, const T*, const u32*, int, int, u32)`,
    //   T being the type of `d_out`;
    // - bounds: `d_table` holds V * C f32, `d_out` N * C elements, `tokens` N (checked in `mod.rs`), `ends` 2 V and one,
    //   `list` N: no more than one entry a row; a token of V or more touches nothing;
    // - aliasing: the kernel writes `d_table`, each row of it from one warp, `list` and `ends`, all borrowed mutably here.
    unsafe { launch.launch(Grid::linear(n.div_ceil(8), 256)) }?;
    let kernel = d_out.dtype().pick("embedding_backward_f32", "embedding_backward_bf16");
    let launch = Launch::of(device, OP, UNIT, kernel)
        .output(d_table)
        .input(d_out)
        .input(tokens)
        .input(&list)
        .input(&ends)
        .size(c)
        .number(vocab as u32);
    // SAFETY:
    // - arguments: order and types match `embedding_backward_T(float*, const T*, const u32*, const u32*, const u32*, int,
    //   u32)`, T being the type of `d_out`;
    // - bounds: `d_table` holds V * C f32, `d_out` N * C elements, `tokens` and `list` N, `ends` 2 V and one (checked in
    //   `mod.rs` and above); entries of the list are rows of tokens below V, and so are their ends; the kernel has the 256
    //   threads it is written for;
    // - aliasing: the kernel writes `d_table` only, borrowed mutably here, and each row of it from one block.
    unsafe { launch.launch(Grid::linear(n.min(LIST_BLOCKS), 256)) }
}

/// Threads for a row of `c` elements: a multiple of a warp, about eight elements each.
fn threads(c: usize) -> u32 {
    c.div_ceil(8).next_multiple_of(32).clamp(32, 256) as u32
}
