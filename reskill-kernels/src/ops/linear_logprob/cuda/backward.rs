//! The backward pass by slabs: gradients of the logits of up to 8192 rows and 8192 tokens (128 MiB in bf16) at a time, then
//! the two products that read them. Four products in all with the forward pass, without an (N, V) array.

use super::{Block, F32, Problem, Rows, SHARED_F32, STRIP};
use crate::cuda::{Grid, Scratch};
use crate::device::Device;
use crate::error::KernelError;
use crate::ops::linear_logprob::Upstream;
use crate::tensor::Tensor;

/// Rows and tokens of a slab. Square, because the sums kept in memory are read and written once per slab: d_hidden for
/// each block of tokens, d_head for each block of rows.
const SLAB_ROWS: usize = 8192;
const SLAB_TOKENS: usize = 8192;
/// Bytes of shared memory of the tiles: three stages of 32 steps of k and 128 rows; a factor that is read across k pads 128
/// by 8.
const SHARED_D_LOGITS: usize = 3 * (128 + 128) * 32 * 2;
const SHARED_D_HIDDEN: usize = 3 * (128 * 32 + 32 * 136) * 2;
const SHARED_D_HEAD: usize = 3 * 2 * 32 * 136 * 2;
/// Bits of `flags` of the kernel of d_hidden.
const FIRST: i32 = 1;
const LAST: i32 = 2;
const ADD: i32 = 4;

/// The gradients of the logits of tokens `first..last`, of a block of rows.
#[derive(Debug)]
pub(crate) struct Slab<'s> {
    /// (R, ld) T.
    pub(crate) values: &'s Scratch<'s>,
    /// (ceil(R / 128), ld / 256): 0 where all gradients are negligible. Only with a filter.
    matters: Option<&'s mut Tensor<u32>>,
    pub(crate) first: usize,
    pub(crate) last: usize,
    /// Elements from row to row: the tokens, rounded up to whole strips.
    pub(crate) ld: usize,
}

pub(crate) fn backward(
    d_hidden: &mut Tensor,
    mut d_head: Option<&mut Tensor>,
    problem: &Problem<'_>,
    rows: &Rows,
    upstream: &Upstream<'_>,
    targets: &Tensor<u32>,
    filter: Option<f32>,
) -> Result<(), KernelError> {
    let gradient =
        |slab: &mut Slab<'_>, block: Block<'_>| d_logits(slab, block, problem, upstream, targets, filter);
    add_slabs(d_hidden, d_head.as_deref_mut(), problem, rows, false, filter.is_some(), gradient)?;
    match &rows.sets {
        Some(sets) => sets.backward(d_hidden, d_head, problem, upstream, targets),
        None => Ok(()),
    }
}

fn d_logits(
    slab: &mut Slab<'_>,
    block: Block<'_>,
    problem: &Problem<'_>,
    upstream: &Upstream<'_>,
    targets: &Tensor<u32>,
    filter: Option<f32>,
) -> Result<(), KernelError> {
    let kernel = problem.dtype().pick("linear_logprob_d_logits_f32", "linear_logprob_d_logits_bf16");
    let (height, shared) = (problem.shared(64, 128), problem.shared(SHARED_F32, SHARED_D_LOGITS));
    let tokens = slab.last - slab.first;
    let launch = problem.launch("linear_logprob_backward", kernel).scratch(slab.values, 0);
    let launch = launch.optional_output(slab.matters.as_deref_mut());
    let launch = block.index(block.input(launch, problem.hidden).input(problem.head));
    let columns = [upstream.d_logprobs, upstream.d_entropy, upstream.entropy, upstream.lse];
    let launch = columns.into_iter().fold(block.input(launch, targets), |launch, it| block.input(launch, it));
    let launch = launch.size(block.len).size(slab.first).size(slab.last).size(slab.ld).size(problem.width());
    let launch = launch.number(problem.inverse_temperature()).number(filter.map_or(0.0, f32::ln));
    let blocks = [block.len.div_ceil(height), tokens.div_ceil(STRIP), 1];
    // SAFETY:
    // - arguments: order and types match `linear_logprob_d_logits_T(T*, u32*, const T*, const T*, const u32*, const u32*,
    //   const float* x 4, int x 5, float, float)`, T being the type of `hidden` and `head` (checked in `mod.rs`);
    // - bounds: rows from `len` and tokens from `last` on are read as zeros and not written; the slab holds len * ld
    //   elements, `matters` a word for each 128 rows and 256 tokens; columns hold N elements (checked in `mod.rs`);
    // - aliasing: only the slab and `matters`, borrowed mutably, are written.
    unsafe { launch.launch(Grid { blocks, threads: [256, 1, 1], shared }) }
}

/// Adds to `d_head`, unless it is frozen, and writes `d_hidden` or adds to it, for the rows that allow everything;
/// `gradient` launches what fills a slab.
pub(crate) fn add_slabs(
    d_hidden: &mut Tensor,
    mut d_head: Option<&mut Tensor>,
    problem: &Problem<'_>,
    rows: &Rows,
    accumulate: bool,
    filtered: bool,
    gradient: impl Fn(&mut Slab<'_>, Block<'_>) -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    let (vocab, c) = (problem.vocab(), problem.width());
    for block in rows.dense(SLAB_ROWS) {
        let widest = vocab.min(SLAB_TOKENS).next_multiple_of(STRIP);
        let values = problem.scratch(block.len * widest * problem.dtype().size())?;
        let partial = problem.scratch(if vocab > SLAB_TOKENS { block.len * c * F32 } else { 0 })?;
        for first in (0..vocab).step_by(SLAB_TOKENS) {
            let last = vocab.min(first + SLAB_TOKENS);
            let ld = (last - first).next_multiple_of(STRIP);
            let mut matters = match filtered {
                true => Some(unset(problem, block.len.div_ceil(128) * (ld / STRIP))?),
                false => None,
            };
            gradient(&mut Slab { values: &values, matters: matters.as_mut(), first, last, ld }, block)?;
            let slab = Slab { values: &values, matters: matters.as_mut(), first, last, ld };
            if let Some(d_head) = d_head.as_deref_mut() {
                add_to_head(d_head, &slab, block, problem)?;
            }
            let ends = [(first == 0, FIRST), (last == vocab, LAST), (accumulate, ADD)];
            let flags = ends.iter().map(|&(holds, bit)| if holds { bit } else { 0 }).sum();
            hidden_of_slab(d_hidden, &partial, &slab, block, problem, flags)?;
        }
    }
    Ok(())
}

fn unset(problem: &Problem<'_>, len: usize) -> Result<Tensor<u32>, KernelError> {
    Tensor::zeros(&[len], &Device::Cuda(problem.device.clone()))
}

fn hidden_of_slab(
    d_hidden: &mut Tensor,
    partial: &Scratch<'_>,
    slab: &Slab<'_>,
    block: Block<'_>,
    problem: &Problem<'_>,
    flags: i32,
) -> Result<(), KernelError> {
    let c = problem.width();
    let kernel = problem.dtype().pick("linear_logprob_d_hidden_f32", "linear_logprob_d_hidden_bf16");
    let (size, shared) = (problem.shared(64, 128), problem.shared(SHARED_F32, SHARED_D_HIDDEN));
    let launch = block.output(problem.launch("linear_logprob_products", kernel), d_hidden);
    let launch = launch.scratch(partial, 0).scratch(slab.values, 0);
    let launch = block.index(launch.input_at(problem.head, slab.first * c));
    let launch = launch.optional_input(slab.matters.as_deref());
    let launch = launch.size(block.len).size(slab.last - slab.first).size(slab.ld).size(c).number(flags);
    let blocks = [c.div_ceil(size), block.len.div_ceil(size), 1];
    // SAFETY:
    // - arguments: order and types match `linear_logprob_d_hidden_T(T*, float*, const T*, const T*, const u32*, const
    //   u32*, int, int, int, int, int)`, T being the type of `hidden`, `head` and `d_hidden` (checked in `mod.rs`);
    // - bounds: `d_hidden` holds N * C elements and the index names rows of it; `partial` holds len * C f32 if there are
    //   several slabs, and is not touched if one is the first and the last; the slab holds len * ld elements and the
    //   head's rows `first..last` are there;
    // - aliasing: `d_hidden` is borrowed mutably, `partial` is scratch of this call.
    unsafe { launch.launch(Grid { blocks, threads: [256, 1, 1], shared }) }
}

fn add_to_head(
    d_head: &mut Tensor,
    slab: &Slab<'_>,
    block: Block<'_>,
    problem: &Problem<'_>,
) -> Result<(), KernelError> {
    let (c, tokens) = (problem.width(), slab.last - slab.first);
    let kernel = problem.dtype().pick("linear_logprob_d_head_f32", "linear_logprob_d_head_bf16");
    let (size, shared) = (problem.shared(64, 128), problem.shared(SHARED_F32, SHARED_D_HEAD));
    let launch = problem.launch("linear_logprob_products", kernel).output_at(d_head, slab.first * c);
    let launch = block.index(block.input(launch.scratch(slab.values, 0), problem.hidden));
    let launch = launch.optional_input(slab.matters.as_deref());
    let launch = launch.size(block.len).size(tokens).size(slab.ld).size(c);
    let blocks = [c.div_ceil(size), tokens.div_ceil(size), 1];
    // SAFETY:
    // - arguments: order and types match `linear_logprob_d_head_T(float*, const T*, const T*, const u32*, const u32*, int,
    //   int, int, int)`, T being the type of `hidden` (checked in `mod.rs`), `d_head` f32;
    // - bounds: rows `first..last` of `d_head` (V * C f32) are written; `hidden` holds N rows, the slab len * ld elements;
    // - aliasing: only `d_head`, borrowed mutably, is written.
    unsafe { launch.launch(Grid { blocks, threads: [256, 1, 1], shared }) }
}
