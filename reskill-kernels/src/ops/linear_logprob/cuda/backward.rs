//! The backward pass by slabs: gradients of the logits of up to 8192 rows and some 8192 tokens (128 MiB in bf16) at a time, then
//! the two products that read them. Four products in all with the forward pass, without an (N, V) array.

use super::{Block, Problem, Rows, SHARED_F32, STRIP, hopper, products};
use crate::cuda::Grid;
use crate::device::Device;
use crate::error::KernelError;
use crate::ops::linear_logprob::Upstream;
use crate::tensor::Tensor;

/// Rows and tokens of a slab. Square, because the sums kept in memory are read and written once per slab: d_hidden for
/// each block of tokens, d_head for each block of rows.
const SLAB_ROWS: usize = 8192;
const SLAB_TOKENS: usize = 8192;
/// Tokens that a multiprocessor has of a slab by warpgroups, or a multiple: of 8192 rows these are 16 tiles of logits, and of
/// each 512 columns of d_head a tile, so that no multiprocessor waits for others in the end.
const TOKENS_OF_MULTIPROCESSOR: usize = 64;
/// Bytes of shared memory of the tile: three stages of 32 steps of k and 128 rows.
const SHARED_D_LOGITS: usize = 3 * (128 + 128) * 32 * 2;

/// The gradients of the logits of tokens `first..last`, of a block of rows.
#[derive(Debug)]
pub(crate) struct Slab<'s> {
    /// (R, ld) T.
    pub(crate) values: &'s mut Tensor,
    /// (ceil(R / 128), ld / 256): 0 where all gradients are negligible. Only with a filter.
    pub(super) matters: Option<&'s mut Tensor<u32>>,
    /// The block's factors in tiles of 128 rows, if warpgroups multiply them.
    pub(crate) factors: Option<&'s hopper::Factors>,
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
    let tokens = slab.last - slab.first;
    let columns = [upstream.d_logprobs, upstream.d_entropy, upstream.entropy, upstream.lse];
    let (kernel, grid) = match slab.factors {
        Some(_) => {
            ("linear_logprob_d_logits_sm90a_bf16", hopper::Tile::HIGH.staying(problem, block.len, tokens))
        }
        None => {
            let kernel = problem.dtype().pick("linear_logprob_d_logits_f32", "linear_logprob_d_logits_bf16");
            let (height, shared) = (problem.shared(64, 128), problem.shared(SHARED_F32, SHARED_D_LOGITS));
            let blocks = [block.len.div_ceil(height), tokens.div_ceil(STRIP), 1];
            (kernel, Grid { blocks, threads: [256, 1, 1], shared })
        }
    };
    let unit =
        if slab.factors.is_some() { "linear_logprob_backward_sm90a" } else { "linear_logprob_backward" };
    let launch = problem.launch(unit, kernel).output(slab.values);
    let launch = launch.optional_output(slab.matters.as_deref_mut());
    let launch = match slab.factors {
        Some(factors) => launch.map(factors.hidden).map(factors.head),
        None => block.input(launch, problem.hidden).input(problem.head),
    };
    let launch = block.input(block.index(launch), targets);
    let launch = columns.into_iter().fold(launch, |launch, it| block.input(launch, it));
    let launch = launch.size(block.len).size(slab.first).size(slab.last).size(slab.ld).size(problem.width());
    let launch = launch.number(problem.inverse_temperature()).number(filter.map_or(0.0, f32::ln));
    // SAFETY:
    // - arguments: order and types match `linear_logprob_d_logits_T(T*, u32*, const T*, const T*, const u32*, const u32*,
    //   const float* x 4, int x 5, float, float)`, T being the type of `hidden` and `head` (checked in `mod.rs`), and
    //   `linear_logprob_d_logits_sm90a_bf16`, which has maps for the two matrices;
    // - bounds: rows from `len` and tokens from `last` on are read as zeros; rows from `len` are not written, tokens up to
    //   `ld`, whole strips, may be; the slab holds len * ld elements, `matters` a word for each 128 rows and 256 tokens;
    //   columns hold N elements (checked in `mod.rs`);
    // - aliasing: only the slab and `matters`, borrowed mutably, are written.
    unsafe { launch.launch(grid) }
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
    let vocab = problem.vocab();
    for block in rows.dense(SLAB_ROWS) {
        let factors = match hopper::takes(problem) {
            true => Some(hopper::Factors::new(problem, block, hopper::Tile::HIGH)?),
            false => None,
        };
        let by_warpgroups = factors.is_some() && !filtered;
        let tokens = if by_warpgroups { tokens_of_slab(problem) } else { SLAB_TOKENS };
        let widest = vocab.min(tokens).next_multiple_of(STRIP);
        let mut values: Tensor =
            problem.device.scratch_tensor(problem.op, &[block.len, widest], problem.dtype())?;
        let mut partial = products::Partial::new(problem, block, tokens, by_warpgroups, accumulate)?;
        for first in (0..vocab).step_by(tokens) {
            let last = vocab.min(first + tokens);
            let ld = (last - first).next_multiple_of(STRIP);
            let mut matters = match filtered {
                true => Some(unset(problem, block.len.div_ceil(128) * (ld / STRIP))?),
                false => None,
            };
            let (matters, factors) = (matters.as_mut(), factors.as_ref());
            let mut slab = Slab { values: &mut values, matters, factors, first, last, ld };
            gradient(&mut slab, block)?;
            products::add(d_hidden, d_head.as_deref_mut(), &mut partial, &slab, block, problem)?;
        }
    }
    Ok(())
}

/// Tokens of a slab by warpgroups: about [`SLAB_TOKENS`], in whole strips.
fn tokens_of_slab(problem: &Problem<'_>) -> usize {
    let turn = TOKENS_OF_MULTIPROCESSOR * problem.device.properties().multiprocessors.max(1);
    ((SLAB_TOKENS + turn / 2) / turn).max(1).saturating_mul(turn).next_multiple_of(STRIP)
}

fn unset(problem: &Problem<'_>, len: usize) -> Result<Tensor<u32>, KernelError> {
    Tensor::zeros(&[len], &Device::Cuda(problem.device.clone()))
}
