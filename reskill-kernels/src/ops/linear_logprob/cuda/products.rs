//! The two products of a slab of gradients of logits: d_hidden and d_head.

use super::backward::Slab;
use super::{Block, Problem, SHARED_F32};
use crate::cuda::Grid;
use crate::dtype::DType;
use crate::error::KernelError;
use crate::ops::matmul::cuda::{Layout, Product, View, ViewMut, warpgroup_product};
use crate::tensor::Tensor;

const UNIT: &str = "linear_logprob_products";
/// Bytes of shared memory of the tiles: three stages of 32 steps of k and 128 rows; a factor that is read across k pads 128
/// by 8.
const SHARED_D_HIDDEN: usize = 3 * (128 * 32 + 32 * 136) * 2;
const SHARED_D_HEAD: usize = 3 * 2 * 32 * 136 * 2;
/// Bits of `flags` of the kernel of d_hidden.
const FIRST: i32 = 1;
const LAST: i32 = 2;
const ADD: i32 = 4;

/// d_hidden of a block of rows, over the slabs so far.
#[derive(Debug)]
pub(super) struct Partial {
    /// (R, C) f32; empty if nothing is to be kept from slab to slab.
    sums: Tensor,
    /// Whether the old `d_hidden` is added in the end.
    accumulate: bool,
}

impl Partial {
    pub(super) fn new(
        problem: &Problem<'_>,
        block: Block<'_>,
        slab_tokens: usize,
        by_warpgroups: bool,
        accumulate: bool,
    ) -> Result<Partial, KernelError> {
        let rows = if by_warpgroups || problem.vocab() > slab_tokens { block.len } else { 0 };
        let sums = problem.device.scratch_tensor(problem.op, &[rows, problem.width()], DType::F32)?;
        Ok(Partial { sums, accumulate })
    }
}

/// Adds a slab's part to `d_head`, and to `partial` or, with the last slab, to `d_hidden`.
pub(super) fn add(
    d_hidden: &mut Tensor,
    d_head: Option<&mut Tensor>,
    partial: &mut Partial,
    slab: &Slab<'_>,
    block: Block<'_>,
    problem: &Problem<'_>,
) -> Result<(), KernelError> {
    if slab.factors.is_some() && slab.matters.is_none() {
        if let Some(d_head) = d_head {
            head_by_warpgroups(d_head, slab, block, problem)?;
        }
        return hidden_by_warpgroups(d_hidden, partial, slab, block, problem);
    }
    if let Some(d_head) = d_head {
        head_by_warps(d_head, slab, block, problem)?;
    }
    hidden_by_warps(d_hidden, partial, slab, block, problem)
}

/// A slab as a factor.
fn view<'s>(slab: &'s Slab<'_>) -> View<'s> {
    View { tensor: &*slab.values, first: 0, stride: slab.ld }
}

fn hidden_by_warpgroups(
    d_hidden: &mut Tensor,
    partial: &mut Partial,
    slab: &Slab<'_>,
    block: Block<'_>,
    problem: &Problem<'_>,
) -> Result<(), KernelError> {
    let (c, tokens) = (problem.width(), slab.last - slab.first);
    let head = View { tensor: problem.head, first: slab.first * c, stride: c };
    let product = Product::new(Layout::Nn, block.len, c, tokens, slab.first > 0);
    let out = &mut ViewMut::of(&mut partial.sums);
    warpgroup_product(problem.device, problem.op, out, view(slab), head, &product)?;
    if slab.last < problem.vocab() {
        return Ok(());
    }
    let launch = problem.launch(UNIT, "linear_logprob_d_hidden_rows_bf16");
    let launch = block.index(block.output(launch, d_hidden).input(&partial.sums));
    let launch = launch.size(block.len).size(c).number(i32::from(partial.accumulate));
    // SAFETY:
    // - arguments: order and types match `linear_logprob_d_hidden_rows_bf16(bf16*, const float*, const u32*, int, int,
    //   int)`; `d_hidden` is bf16 as `hidden` is;
    // - bounds: a block a row, `len` of them; `d_hidden` holds N * C elements, C a multiple of 8 and the index names rows of
    //   it; the sums hold len * C f32;
    // - aliasing: only `d_hidden`, borrowed mutably, is written.
    unsafe { launch.launch(Grid::linear(block.len, 128)) }
}

fn head_by_warpgroups(
    d_head: &mut Tensor,
    slab: &Slab<'_>,
    block: Block<'_>,
    problem: &Problem<'_>,
) -> Result<(), KernelError> {
    let (c, tokens) = (problem.width(), slab.last - slab.first);
    let (hidden, first) = match slab.factors {
        Some(factors) => factors.rows(problem, block),
        None => (problem.hidden, block.first(c)),
    };
    let hidden = View { tensor: hidden, first, stride: c };
    let product = Product::new(Layout::Tn, tokens, c, block.len, true);
    let out = &mut ViewMut { tensor: d_head, first: slab.first * c, stride: c };
    warpgroup_product(problem.device, problem.op, out, view(slab), hidden, &product)
}

fn hidden_by_warps(
    d_hidden: &mut Tensor,
    partial: &mut Partial,
    slab: &Slab<'_>,
    block: Block<'_>,
    problem: &Problem<'_>,
) -> Result<(), KernelError> {
    let c = problem.width();
    let ends = [(slab.first == 0, FIRST), (slab.last == problem.vocab(), LAST), (partial.accumulate, ADD)];
    let flags: i32 = ends.iter().map(|&(holds, bit)| if holds { bit } else { 0 }).sum();
    let kernel = problem.dtype().pick("linear_logprob_d_hidden_f32", "linear_logprob_d_hidden_bf16");
    let (size, shared) = (problem.shared(64, 128), problem.shared(SHARED_F32, SHARED_D_HIDDEN));
    let launch = block.output(problem.launch(UNIT, kernel), d_hidden);
    let launch = launch.output(&mut partial.sums).input(&*slab.values);
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

fn head_by_warps(
    d_head: &mut Tensor,
    slab: &Slab<'_>,
    block: Block<'_>,
    problem: &Problem<'_>,
) -> Result<(), KernelError> {
    let (c, tokens) = (problem.width(), slab.last - slab.first);
    let kernel = problem.dtype().pick("linear_logprob_d_head_f32", "linear_logprob_d_head_bf16");
    let (size, shared) = (problem.shared(64, 128), problem.shared(SHARED_F32, SHARED_D_HEAD));
    let launch = problem.launch(UNIT, kernel).output_at(d_head, slab.first * c);
    let launch = block.index(block.input(launch.input(&*slab.values), problem.hidden));
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
