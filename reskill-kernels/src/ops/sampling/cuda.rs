//! Sampling straight from hidden states on a CUDA device.

use std::mem::size_of;

use crate::cuda::{Grid, Scratch};
use crate::error::KernelError;
use crate::ops::linear_logprob::TokenSets;
use crate::ops::linear_logprob::cuda::{
    Block, F32, Parts, Problem, SHARED_FEW_BF16, SHARED_FEW_F32, Sets, hopper, null, parts,
};
use crate::tensor::Tensor;

const UNIT: &str = "linear_sample";
/// Rows worked on at once: bounds the memory of the strips' statistics.
const ROWS: usize = 4096;

pub(super) fn sample(
    tokens: &mut Tensor<u32>,
    logprobs: &mut Tensor,
    problem: &Problem<'_>,
    allowed: &TokenSets,
    greedy: bool,
    uniforms: &Tensor,
) -> Result<(), KernelError> {
    let rows = allowed.on(problem.device)?;
    let lse = problem.scratch(problem.hidden.rows() * F32)?;
    for block in rows.dense(ROWS) {
        let parts = parts(problem, block, None)?;
        log_sum_exps(&lse, &parts, block, problem)?;
        let strips = problem.scratch(block.len * size_of::<u32>())?;
        let rest = problem.scratch(block.len * size_of::<f64>())?;
        let launch = problem.launch(UNIT, "linear_sample_strip").scratch(&strips, 0).scratch(&rest, 0);
        let launch = launch.scratch(&parts.strips, 0).scratch(&lse, block.first(1) * F32);
        let launch = block.index(block.input(launch, uniforms));
        let launch = launch.size(block.len).size(problem.n_strips()).number(i32::from(greedy));
        // SAFETY:
        // - arguments: order and types match `linear_sample_strip(u32*, double*, const float4*, const float*, const float*,
        //   const u32*, int, int, int)`;
        // - bounds: a warp a row, rows from `len` on return; `strips` and `rest` hold `len` elements, `lse` and `uniforms`
        //   N (checked in `mod.rs`), the statistics were written by `parts`;
        // - aliasing: only scratch memory of this call is written.
        unsafe { launch.launch(Grid::linear(block.len.div_ceil(8), 256)) }?;
        let drawn = Drawn { lse: &lse, strips: &strips, rest: &rest };
        if hopper::takes(problem) {
            tokens_by_warpgroups(tokens, logprobs, problem, block, &drawn, greedy)?;
        } else {
            tokens_by_warps(tokens, logprobs, problem, block, &drawn, greedy)?;
        }
    }
    match &rows.sets {
        Some(sets) => sample_sets(tokens, logprobs, problem, sets, &lse, greedy, uniforms),
        None => Ok(()),
    }
}

/// What is known of each row before its token.
struct Drawn<'a> {
    /// (N) f32.
    lse: &'a Scratch<'a>,
    /// (R) u32: the strip in which the token lies.
    strips: &'a Scratch<'a>,
    /// (R) f64: what is left of the uniform number there.
    rest: &'a Scratch<'a>,
}

fn tokens_by_warps(
    tokens: &mut Tensor<u32>,
    logprobs: &mut Tensor,
    problem: &Problem<'_>,
    block: Block<'_>,
    drawn: &Drawn<'_>,
    greedy: bool,
) -> Result<(), KernelError> {
    let kernel = problem.dtype().pick("linear_sample_token_f32", "linear_sample_token_bf16");
    let launch = block.output(block.output(problem.launch(UNIT, kernel), tokens), logprobs);
    let launch = block.input(launch, problem.hidden).input(problem.head);
    let launch = launch.scratch(drawn.lse, block.first(1) * F32);
    let launch = block.index(launch.scratch(drawn.strips, 0).scratch(drawn.rest, 0));
    let launch = launch.size(problem.vocab()).size(problem.width());
    let launch = launch.number(problem.inverse_temperature()).number(i32::from(greedy));
    let (threads, shared) = (problem.shared(256, 128), problem.shared(SHARED_FEW_F32, SHARED_FEW_BF16));
    // SAFETY:
    // - arguments: order and types match `linear_sample_token_T(u32*, float*, const T*, const T*, const float*, const
    //   u32*, const double*, const u32*, int, int, float, int)`, T being the type of `hidden` and `head` (checked in
    //   `mod.rs`);
    // - bounds: a block a row; its strip lies inside the vocabulary; `tokens` and `logprobs` hold N elements;
    // - aliasing: `tokens` and `logprobs` are borrowed mutably.
    unsafe { launch.launch(Grid::linear(block.len, threads as u32).with_shared(shared)) }
}

fn tokens_by_warpgroups(
    tokens: &mut Tensor<u32>,
    logprobs: &mut Tensor,
    problem: &Problem<'_>,
    block: Block<'_>,
    drawn: &Drawn<'_>,
    greedy: bool,
) -> Result<(), KernelError> {
    // A row is the first of its box of hidden states, in a low tile.
    const ROWS_OF_BOX: usize = 8;
    let (tile, first) = (hopper::Tile::LOW, block.first(problem.width()));
    let rows = problem.hidden.rows() - block.first(1);
    let hidden = hopper::map(problem, (problem.hidden, first), rows, ROWS_OF_BOX)?;
    let launch = problem.launch("linear_sample_sm90a", "linear_sample_token_sm90a_bf16");
    let launch =
        block.output(block.output(launch, tokens), logprobs).map(hidden).map(hopper::head(problem, tile)?);
    let launch = launch.scratch(drawn.lse, block.first(1) * F32);
    let launch = block.index(launch.scratch(drawn.strips, 0).scratch(drawn.rest, 0));
    let launch = launch.size(problem.vocab()).size(problem.width());
    let launch = launch.number(problem.inverse_temperature()).number(i32::from(greedy));
    // SAFETY:
    // - arguments: order and types match `linear_sample_token_sm90a_bf16(u32*, float*, TensorMap, TensorMap, const float*,
    //   const u32*, const double*, const u32*, int, int, float, int)`;
    // - bounds: a block a row; its strip lies inside the vocabulary; the maps end where hidden states and head do; `tokens`
    //   and `logprobs` hold N elements;
    // - aliasing: `tokens` and `logprobs` are borrowed mutably.
    unsafe { launch.launch(tile.grid(block.len)) }
}

fn log_sum_exps(
    lse: &Scratch<'_>,
    parts: &Parts<'_>,
    block: Block<'_>,
    problem: &Problem<'_>,
) -> Result<(), KernelError> {
    let launch = null(null(problem.launch("linear_logprob_forward", "linear_logprob_join")));
    let launch = launch.scratch(lse, block.first(1) * F32).scratch(&parts.strips, 0);
    let launch = block.index(null(null(launch)));
    let launch = launch.size(block.len).size(problem.n_strips()).size(problem.vocab());
    // SAFETY:
    // - arguments: order and types match `linear_logprob_join(float*, float*, float*, const float4*, const float*, const
    //   u32*, const u32*, int, int, int)`; with null for log-probabilities and entropy it writes `lse` alone;
    // - bounds: a warp a row, rows from `len` on return; `lse` holds N f32, the statistics were written by `parts`;
    // - aliasing: only scratch memory of the caller is written.
    unsafe { launch.launch(Grid::linear(block.len.div_ceil(8), 256)) }
}

fn sample_sets(
    tokens: &mut Tensor<u32>,
    logprobs: &mut Tensor,
    problem: &Problem<'_>,
    sets: &Sets,
    lse: &Scratch<'_>,
    greedy: bool,
    uniforms: &Tensor,
) -> Result<(), KernelError> {
    let logits = sets.logits(problem)?;
    sets.log_sum_exps(lse, problem, &logits)?;
    let launch = problem.launch(UNIT, "linear_sample_set").output(tokens).output(logprobs);
    let launch = launch.scratch(&logits, 0).scratch(lse, 0).input(uniforms);
    let launch = launch.input(&sets.rows).input(&sets.offsets).input(&sets.ids).number(i32::from(greedy));
    // SAFETY:
    // - arguments: order and types match `linear_sample_set(u32*, float*, const float* x 3, const u32* x 3, int)`;
    // - bounds: block b reads the entries of row rows[b], of which there is at least one, and touches that row of the
    //   columns (N elements, checked in `mod.rs`);
    // - aliasing: `tokens` and `logprobs` are borrowed mutably.
    unsafe { launch.launch(Grid::linear(sets.len(), 128)) }
}
