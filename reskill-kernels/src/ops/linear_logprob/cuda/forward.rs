//! The forward pass: statistics of strips of 256 tokens, joined row by row.

use std::mem::size_of;

use super::{Block, F32, Problem, Rows, SHARED_F32, SHARED_FEW_F32, hopper, null};
use crate::cuda::{Grid, Scratch};
use crate::error::KernelError;
use crate::tensor::Tensor;

const UNIT: &str = "linear_logprob_forward";
/// Rows worked on at once: bounds the memory of the strips' statistics, 16 bytes a row and strip.
const ROWS: usize = 4096;
/// Up to this many rows the lower tile is used: the head is read from memory once all the same, and less is multiplied
/// that is not there.
const FEW: usize = 32;
/// Bytes of shared memory: three stages of 32 steps of k, 128 rows (or 16) and 128 columns.
const SHARED_BF16: usize = 3 * (128 + 128) * 32 * 2;
pub(crate) const SHARED_FEW_BF16: usize = 3 * (16 + 128) * 32 * 2;

/// Statistics of strips, and the targets' logits.
#[derive(Debug)]
pub(crate) struct Parts<'d> {
    pub(crate) strips: Scratch<'d>,
    target_logits: Scratch<'d>,
}

pub(crate) fn forward(
    logprobs: &mut Tensor,
    entropy: &mut Tensor,
    lse: &mut Tensor,
    problem: &Problem<'_>,
    rows: &Rows,
    targets: &Tensor<u32>,
) -> Result<(), KernelError> {
    for block in rows.dense(ROWS) {
        let parts = parts(problem, block, Some(targets))?;
        let launch = problem.launch(UNIT, "linear_logprob_join");
        let launch = block.output(block.output(block.output(launch, logprobs), entropy), lse);
        let launch = launch.scratch(&parts.strips, 0).scratch(&parts.target_logits, 0);
        let launch = block.index(block.input(launch, targets));
        let launch = launch.size(block.len).size(problem.n_strips()).size(problem.vocab());
        // SAFETY:
        // - arguments: order and types match `linear_logprob_join(float*, float*, float*, const float4*, const float*,
        //   const u32*, const u32*, int, int, int)`;
        // - bounds: a warp a row, rows from `len` on return; row r reads its `n_strips` statistics, which `parts` wrote,
        //   and writes one element of each column at its place in the batch (N elements, checked in `mod.rs`);
        // - aliasing: the three columns are borrowed mutably here, nothing else is written.
        unsafe { launch.launch(Grid::linear(block.len.div_ceil(8), 256)) }?;
    }
    match &rows.sets {
        Some(sets) => sets.forward(logprobs, entropy, lse, problem, targets),
        None => Ok(()),
    }
}

/// Statistics of the strips of a block's rows, and the logits of `targets`.
pub(crate) fn parts<'d>(
    problem: &Problem<'d>,
    block: Block<'_>,
    targets: Option<&Tensor<u32>>,
) -> Result<Parts<'d>, KernelError> {
    let strips = problem.device.scratch(problem.op, block.len * problem.n_strips() * 4 * F32)?;
    let target_logits = problem.device.scratch(problem.op, block.len * size_of::<f32>())?;
    let parts = Parts { strips, target_logits };
    if hopper::takes(problem) {
        by_warpgroups(&parts, problem, block, targets)?;
    } else {
        by_warps(&parts, problem, block, targets)?;
    }
    Ok(parts)
}

fn by_warpgroups(
    parts: &Parts<'_>,
    problem: &Problem<'_>,
    block: Block<'_>,
    targets: Option<&Tensor<u32>>,
) -> Result<(), KernelError> {
    let (tile, kernel) = if block.len <= hopper::Tile::LOW.height {
        (hopper::Tile::LOW, "linear_logprob_parts_few_sm90a_bf16")
    } else {
        (hopper::Tile::HIGH, "linear_logprob_parts_sm90a_bf16")
    };
    let factors = hopper::Factors::new(problem, block, tile)?;
    let launch = problem.launch("linear_logprob_forward_sm90a", kernel);
    let launch = launch.scratch(&parts.strips, 0).scratch(&parts.target_logits, 0);
    let launch = block.index(launch.map(factors.hidden).map(factors.head));
    let launch = match targets {
        Some(targets) => block.input(launch, targets),
        None => null(launch),
    };
    let launch = launch.size(block.len).size(problem.vocab()).size(problem.width());
    let launch = launch.number(problem.inverse_temperature());
    // SAFETY:
    // - arguments: order and types match `linear_logprob_parts_sm90a_bf16(float4*, float*, TensorMap, TensorMap, const
    //   u32*, const u32*, int, int, int, float)`;
    // - bounds: the maps end after `len` rows and the vocabulary, beyond which nothing is written; `strips` holds len *
    //   n_strips float4, `target_logits` len f32; the index names rows of the batch;
    // - aliasing: only the two pieces of scratch memory are written.
    unsafe { launch.launch(tile.staying(problem, block.len, problem.vocab())) }
}

fn by_warps(
    parts: &Parts<'_>,
    problem: &Problem<'_>,
    block: Block<'_>,
    targets: Option<&Tensor<u32>>,
) -> Result<(), KernelError> {
    let few = block.len <= FEW;
    let kernel = if few {
        problem.dtype().pick("linear_logprob_parts_few_f32", "linear_logprob_parts_few_bf16")
    } else {
        problem.dtype().pick("linear_logprob_parts_f32", "linear_logprob_parts_bf16")
    };
    let (height, threads, shared) = match (few, problem.shared(0, 1)) {
        (true, 0) => (16, 256, SHARED_FEW_F32),
        (true, _) => (16, 128, SHARED_FEW_BF16),
        (false, 0) => (64, 256, SHARED_F32),
        (false, _) => (128, 256, SHARED_BF16),
    };
    let launch = problem.launch(UNIT, kernel);
    let launch = launch.scratch(&parts.strips, 0).scratch(&parts.target_logits, 0);
    let launch = block.index(block.input(launch, problem.hidden).input(problem.head));
    let launch = match targets {
        Some(targets) => block.input(launch, targets),
        None => null(launch),
    };
    let launch = launch.size(block.len).size(problem.vocab()).size(problem.width());
    let launch = launch.number(problem.inverse_temperature());
    let blocks = [block.len.div_ceil(height), problem.n_strips(), 1];
    // SAFETY:
    // - arguments: order and types match `linear_logprob_parts_T(float4*, float*, const T*, const T*, const u32*, const
    //   u32*, int, int, int, float)`, T being the type of `hidden` and `head` (checked in `mod.rs`);
    // - bounds: rows and tokens beyond `len` and `vocab` are read as zeros and not written; `strips` holds len * n_strips
    //   float4, `target_logits` len f32; the index names rows of the batch;
    // - aliasing: only the two pieces of scratch memory are written.
    unsafe { launch.launch(Grid { blocks, threads: [threads, 1, 1], shared }) }
}
