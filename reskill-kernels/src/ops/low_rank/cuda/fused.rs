//! In bf16 and of rank 64 at most: a kernel for rows and, of the gradients, another for columns.

use super::super::{LowRank, sizes};
use crate::cuda::{CudaDevice, Grid, Launch, Scratch};
use crate::error::KernelError;
use crate::ops::elementwise::{Parts, add_column_sums};
use crate::tensor::Tensor;

const ROWS_UNIT: &str = "low_rank_rows";
const COLUMNS_UNIT: &str = "low_rank_columns";
/// Blocks of rows that fill a device: one on each multiprocessor of an H100. As all numbers of blocks here not the device's own,
/// so that sums have one order everywhere.
const FULL: usize = 128;
/// Columns that the warps of a block of 16 rows take at once.
const TURN: usize = 256;
/// Blocks of the columns kernel: three on each multiprocessor of an H100.
const COLUMN_BLOCKS: usize = 384;
/// Rows and columns of its tiles, and stages of them.
const TILE: [usize; 2] = [64, 128];
const STAGES: usize = 3;

/// The kernels of ranks up to 16, 32 and 64.
struct Kernels {
    /// Inner values of a row as stored, zeros included.
    stored: usize,
    /// With 16 and with 32 rows a block.
    forward: [&'static str; 2],
    backward: [&'static str; 2],
    columns: &'static str,
}

const KERNELS: [Kernels; 3] = [
    Kernels {
        stored: 16,
        forward: ["low_rank_forward_16_16", "low_rank_forward_16_32"],
        backward: ["low_rank_backward_16_16", "low_rank_backward_16_32"],
        columns: "low_rank_factor_parts_16",
    },
    Kernels {
        stored: 32,
        forward: ["low_rank_forward_32_16", "low_rank_forward_32_32"],
        backward: ["low_rank_backward_32_16", "low_rank_backward_32_32"],
        columns: "low_rank_factor_parts_32",
    },
    Kernels {
        stored: 64,
        forward: ["low_rank_forward_64_16", "low_rank_forward_64_32"],
        backward: ["low_rank_backward_64_16", "low_rank_backward_64_32"],
        columns: "low_rank_factor_parts_64",
    },
];

fn kernels(rank: usize) -> &'static Kernels {
    &KERNELS[rank.div_ceil(16).next_power_of_two().ilog2() as usize]
}

/// Blocks for `n` rows, and which of the two kernels: 32 rows a block if as many blocks fill a device.
fn row_blocks(n: usize) -> (usize, usize) {
    if n >= 32 * FULL { (n.div_ceil(32), 1) } else { (n.div_ceil(16), 0) }
}

pub(super) fn forward(
    device: &CudaDevice,
    out: &mut Tensor,
    x: &Tensor,
    pair: &LowRank<'_>,
) -> Result<(), KernelError> {
    let ((outputs, rank, inputs), n, width) = (sizes(pair), x.rows(), out.row_len());
    let (blocks, tall) = row_blocks(n);
    let shares = (FULL / blocks.max(1)).clamp(1, outputs.div_ceil(TURN));
    let span = outputs.div_ceil(shares).next_multiple_of(TURN);
    let launch = Launch::of(device, "low_rank_forward", ROWS_UNIT, kernels(rank).forward[tall])
        .output(out)
        .input(x)
        .input(pair.a)
        .input(pair.b)
        .size(n)
        .size(inputs)
        .size(rank)
        .size(outputs)
        .size(width)
        .size(pair.first_column)
        .size(span)
        .number(pair.scale);
    let grid = Grid { blocks: [blocks, outputs.div_ceil(span), 1], threads: [256, 1, 1], shared: 0 };
    // SAFETY:
    // - arguments: order and types match `low_rank_forward_K_M(bf16*, const bf16*, const bf16*, const bf16*, int, int, int,
    //   int, int, int, int, float)`; all tensors are bf16 (`is_fused`, and `mod.rs` asks for one type), and K >= R;
    // - bounds: `out` holds N * W elements with W >= first + O, `x` N * I, `a` R * I, `b` O * R (checked in `mod.rs`), all
    //   sizes multiples of 8 and addresses of 16 bytes, as those of all allocations are; blocks touch M rows each below N
    //   and of `out` the columns from first + y * span on, below first + O;
    // - aliasing: the kernel writes `out` only, borrowed mutably here.
    unsafe { launch.launch(grid) }
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
    let ((outputs, rank, inputs), n) = (sizes(pair), x.rows());
    if n == 0 {
        return Ok(());
    }
    // `inner`, then `d_inner`.
    let both = device.scratch(OP, 2 * inner_bytes(n, rank))?;
    rows(device, d_x, &both, d_out, x, pair)?;
    let column_blocks = outputs.div_ceil(TILE[1]) + inputs.div_ceil(TILE[1]);
    let n_parts = (COLUMN_BLOCKS / column_blocks).clamp(1, n.div_ceil(TILE[0]));
    let width = (outputs + inputs) * rank;
    let parts = device.scratch(OP, n_parts * width * size_of::<f32>())?;
    columns(device, &parts, [column_blocks, n_parts, 1], &both, d_out, x, pair)?;
    let of = |first| Parts { scratch: &parts, rows: n_parts, width, first };
    add_column_sums(device, OP, d_b, of(0))?;
    add_column_sums(device, OP, d_a, of(outputs * rank))
}

fn inner_bytes(n: usize, rank: usize) -> usize {
    n * kernels(rank).stored * size_of::<u16>()
}

/// Both inner values, and what is added to `d_x`.
fn rows(
    device: &CudaDevice,
    d_x: &mut Tensor,
    both: &Scratch<'_>,
    d_out: &Tensor,
    x: &Tensor,
    pair: &LowRank<'_>,
) -> Result<(), KernelError> {
    let ((outputs, rank, inputs), n) = (sizes(pair), x.rows());
    let (blocks, tall) = row_blocks(n);
    let launch = Launch::of(device, "low_rank_backward", ROWS_UNIT, kernels(rank).backward[tall])
        .output(d_x)
        .scratch(both, 0)
        .scratch(both, inner_bytes(n, rank))
        .input(d_out)
        .input(x)
        .input(pair.a)
        .input(pair.b)
        .size(n)
        .size(inputs)
        .size(rank)
        .size(outputs)
        .size(d_out.row_len())
        .size(pair.first_column)
        .number(pair.scale);
    // SAFETY:
    // - arguments: order and types match `low_rank_backward_K_M(bf16*, bf16*, bf16*, const bf16*, const bf16*, const bf16*,
    //   const bf16*, int, int, int, int, int, int, float)`; all tensors are bf16 (`is_fused`, and `mod.rs` asks for one
    //   type), and K >= R;
    // - bounds: `d_x` and `x` hold N * I elements, `d_out` N * W with W >= first + O, `a` R * I, `b` O * R (checked in
    //   `mod.rs`), `both` two times N * K, all sizes multiples of 8 and addresses of 16 bytes, as those of all allocations
    //   are; a block touches its M rows below N only;
    // - aliasing: the kernel writes `d_x`, borrowed mutably here, and `both`, which is this call's.
    unsafe { launch.launch(Grid::linear(blocks, 256)) }
}

/// The parts of both factors' gradients.
fn columns(
    device: &CudaDevice,
    parts: &Scratch<'_>,
    blocks: [usize; 3],
    both: &Scratch<'_>,
    d_out: &Tensor,
    x: &Tensor,
    pair: &LowRank<'_>,
) -> Result<(), KernelError> {
    let ((outputs, rank, inputs), n) = (sizes(pair), x.rows());
    let Kernels { stored, columns, .. } = kernels(rank);
    let launch = Launch::of(device, "low_rank_backward", COLUMNS_UNIT, columns)
        .scratch(parts, 0)
        .input(d_out)
        .input(x)
        .scratch(both, 0)
        .scratch(both, inner_bytes(n, rank))
        .size(n)
        .size(inputs)
        .size(rank)
        .size(outputs)
        .size(d_out.row_len())
        .size(pair.first_column)
        .number(pair.scale);
    let stage = TILE[0] * (TILE[1] + stored + 8) * size_of::<u16>();
    let grid = Grid { blocks, threads: [128, 1, 1], shared: STAGES * stage };
    // SAFETY:
    // - arguments: order and types match `low_rank_factor_parts_K(float*, const bf16*, const bf16*, const bf16*, const
    //   bf16*, int, int, int, int, int, int, float)`; both tensors are bf16 (`is_fused`);
    // - bounds: `d_out` holds N * W elements with W >= first + O, `x` N * I (checked in `mod.rs`), `both` two times N * K,
    //   `parts` (O + I) * R for each block along y; rows from N on and columns from O (I) on are not touched; the shared
    //   memory is that of the kernel's stages;
    // - aliasing: the kernel writes `parts` only, which is this call's.
    unsafe { launch.launch(grid) }
}
