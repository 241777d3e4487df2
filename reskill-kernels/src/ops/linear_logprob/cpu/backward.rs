//! The backward pass: logits are computed again, turned into their gradients, and multiplied at once with hidden states
//! and head. What the gradients are is the caller's: log-probability and entropy here, a divergence in `linear_kl`.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::forward::{blocks_per_task, position};
use super::{BLOCK, DENSE_ROWS, Problem, TILE, TILE_ROWS, tiles};
use crate::ops::matmul::cpu as matmul;
use crate::ops::matmul::cpu::Prepared;
use crate::panels::with_room;
use crate::simd::{axpy, exp, max};
use crate::tensor::Tensor;

/// Tokens whose gradients by the logits are held at once, for [`DENSE_ROWS`] rows: 32 MiB.
const SLAB: usize = 8 * TILE;
/// Width of a tile that may be skipped.
const FILTERED_TILE: usize = 256;

/// Gradients from above and values kept from the forward pass, each (N).
pub(crate) struct Upstream<'a> {
    pub(crate) d_logprobs: &'a [f32],
    pub(crate) d_entropy: &'a [f32],
    pub(crate) entropy: &'a [f32],
    pub(crate) lse: &'a [f32],
}

/// One block of rows in one tile.
pub(crate) struct BlockGradient<'a> {
    pub(crate) rows: Range<usize>,
    /// (rows, tile)
    pub(crate) d_logits: &'a mut [f32],
    /// Whether any of the gradients counts.
    pub(crate) matters: &'a mut bool,
}

/// Gradients by the logits of a problem.
pub(crate) trait LogitGradient: Sync {
    /// Writes the gradients of some blocks of rows by the logits of `tile`; where all of a block are negligible it says
    /// so, whatever was written.
    fn of_tile(&self, blocks: &mut [BlockGradient<'_>], tile: Range<usize>);
    /// Writes the gradients of row `n` by the logits of its set, in the order of the set.
    fn of_set(&self, d_logits: &mut Vec<f32>, n: usize);
    /// Whether tiles may be negligible.
    fn is_filtered(&self) -> bool {
        false
    }
}

/// Log-probability and entropy.
pub(crate) struct LogprobGradient<'a> {
    pub(crate) problem: &'a Problem<'a>,
    pub(crate) upstream: Upstream<'a>,
    pub(crate) targets: &'a [u32],
    /// Tiles in which no row gives a token this probability, and which hold no target, are skipped.
    pub(crate) filter: Option<f32>,
}

impl LogprobGradient<'_> {
    /// Whether any row of a block gives a token of the tile a probability that counts, or has its target there.
    fn matters(&self, block: &BlockGradient<'_>, tile: &Range<usize>) -> bool {
        let Some(filter) = self.filter else { return true };
        let limit = filter.ln();
        block.rows.clone().zip(block.d_logits.chunks_exact(tile.len())).any(|(n, logits)| {
            position(tile, self.targets[n]).is_some() || max(logits) - self.upstream.lse[n] >= limit
        })
    }

    fn of_block(&self, block: &mut BlockGradient<'_>, tile: &Range<usize>, prepared: &Prepared<'_>) {
        self.problem.prepared_logits(block.d_logits, block.rows.clone(), prepared);
        *block.matters = self.matters(block, tile);
        if !*block.matters {
            return;
        }
        for (n, d_logits) in block.rows.clone().zip(block.d_logits.chunks_exact_mut(tile.len())) {
            let target = position(tile, self.targets[n]);
            logits_backward(d_logits, n, target, &self.upstream, self.problem.temperature);
            if let Some(target) = target.filter(|_| tile.len() == self.problem.head.rows()) {
                balance(d_logits, target);
            }
        }
    }
}

impl LogitGradient for LogprobGradient<'_> {
    fn of_tile(&self, blocks: &mut [BlockGradient<'_>], tile: Range<usize>) {
        with_room(|room| {
            let prepared = self.problem.prepare(room, tile.clone());
            blocks.iter_mut().for_each(|block| self.of_block(block, &tile, &prepared));
        });
    }

    fn of_set(&self, d_logits: &mut Vec<f32>, n: usize) {
        self.problem.set_logits(d_logits, n);
        let target = self.problem.index_of(n, self.targets[n]);
        logits_backward(d_logits, n, Some(target), &self.upstream, self.problem.temperature);
    }

    fn is_filtered(&self) -> bool {
        self.filter.is_some()
    }
}

/// Adds the gradient of the head to `d_head`, unless it is frozen, and writes that of the hidden states to `d_hidden` or adds it.
pub(crate) fn backward(
    d_hidden: &mut Tensor,
    mut d_head: Option<&mut Tensor>,
    problem: &Problem<'_>,
    gradient: &impl LogitGradient,
    accumulate: bool,
) {
    let (n, c) = (problem.hidden.rows(), problem.head.row_len());
    if !accumulate {
        d_hidden.as_mut_slice().fill(0.0);
    }
    let mut slab = Vec::new();
    for run in problem.runs(0..n, DENSE_ROWS) {
        let d_hidden = &mut d_hidden.as_mut_slice()[run.start * c..run.end * c];
        if problem.is_dense(run.start) {
            let width = if gradient.is_filtered() { FILTERED_TILE } else { TILE };
            let tiles: Vec<Range<usize>> = tiles(problem.head.rows(), width).collect();
            for tiles in tiles.chunks(SLAB / width) {
                slab.resize(run.len() * tiles.iter().map(ExactSizeIterator::len).sum::<usize>(), 0.0);
                backward_slab(
                    d_hidden,
                    d_head.as_deref_mut(),
                    run.clone(),
                    tiles,
                    &mut slab,
                    problem,
                    gradient,
                );
            }
        } else {
            backward_sets(d_hidden, d_head.as_deref_mut(), run, problem, gradient);
        }
    }
}

/// The gradients by the logits of one tile: which blocks of rows matter, and (rows, tile) of all.
struct TileGradient<'a> {
    tile: Range<usize>,
    matters: Vec<bool>,
    d_logits: &'a mut [f32],
}

impl TileGradient<'_> {
    /// Rows that matter; neighbouring blocks are joined.
    fn runs(&self, block_rows: &impl Fn(usize) -> Range<usize>) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (block, _) in self.matters.iter().enumerate().filter(|(_, matters)| **matters) {
            let rows = block_rows(block);
            match runs.last_mut() {
                Some(last) if last.end == rows.start => last.end = rows.end,
                _ => runs.push(rows),
            }
        }
        runs
    }
}

fn backward_slab(
    d_hidden: &mut [f32],
    d_head: Option<&mut Tensor>,
    run: Range<usize>,
    tiles: &[Range<usize>],
    slab: &mut [f32],
    problem: &Problem<'_>,
    gradient: &impl LogitGradient,
) {
    let c = problem.head.row_len();
    let block_rows = |block: usize| {
        let start = run.start + block * TILE_ROWS;
        start..run.end.min(start + TILE_ROWS)
    };
    let n_blocks = run.len().div_ceil(TILE_ROWS);
    let mut parts = Vec::with_capacity(tiles.len());
    let mut rest = slab;
    for tile in tiles {
        let (d_logits, after) = rest.split_at_mut(run.len() * tile.len());
        rest = after;
        parts.push(TileGradient { tile: tile.clone(), matters: vec![false; n_blocks], d_logits });
    }
    let mut tasks = Vec::with_capacity(parts.len());
    for part in &mut parts {
        let blocks = part.d_logits.chunks_mut(TILE_ROWS * part.tile.len()).zip(&mut part.matters).enumerate();
        let mut blocks: Vec<_> = blocks
            .map(|(block, (d_logits, matters))| BlockGradient { rows: block_rows(block), d_logits, matters })
            .collect();
        while !blocks.is_empty() {
            let rest = blocks.split_off(blocks_per_task(n_blocks, tiles.len()).min(blocks.len()));
            tasks.push((part.tile.clone(), std::mem::replace(&mut blocks, rest)));
        }
    }
    tasks.into_par_iter().for_each(|(tile, mut blocks)| gradient.of_tile(&mut blocks, tile));
    if let Some(d_head) = d_head {
        slab_head(d_head, tiles, &parts, &block_rows, run.start, problem);
    }
    for part in &parts {
        let width = part.tile.len();
        for rows in part.runs(&block_rows) {
            let rows = rows.start - run.start..rows.end - run.start;
            let d_logits = &part.d_logits[rows.start * width..rows.end * width];
            let d_hidden = &mut d_hidden[rows.start * c..rows.end * c];
            matmul::backward_input(d_hidden, d_logits, problem.head_rows(part.tile.clone()), width, c, true);
        }
    }
}

/// Adds what the tiles of a slab give to the head.
fn slab_head(
    d_head: &mut Tensor,
    tiles: &[Range<usize>],
    parts: &[TileGradient<'_>],
    block_rows: &(impl Fn(usize) -> Range<usize> + Sync),
    run_start: usize,
    problem: &Problem<'_>,
) {
    let c = problem.head.row_len();
    let first = tiles.first().map_or(0, |tile| tile.start) * c;
    let tile_len = tiles.first().map_or(1, ExactSizeIterator::len) * c;
    let d_head = &mut d_head.as_mut_slice()[first..];
    d_head.par_chunks_mut(tile_len).zip(parts).for_each(|(d_head, part)| {
        let width = part.tile.len();
        for rows in part.runs(block_rows) {
            let d_logits = &part.d_logits[(rows.start - run_start) * width..(rows.end - run_start) * width];
            let hidden = problem.hidden_rows(rows);
            matmul::backward_weight(&mut d_head[..width * c], d_logits, hidden, width, c);
        }
    });
}

fn backward_sets(
    d_hidden: &mut [f32],
    d_head: Option<&mut Tensor>,
    rows: Range<usize>,
    problem: &Problem<'_>,
    gradient: &impl LogitGradient,
) {
    let (head, c) = (problem.head.as_slice(), problem.head.row_len());
    let d_logits: Vec<Vec<f32>> = d_hidden
        .par_chunks_mut(c)
        .with_min_len(BLOCK)
        .zip(rows.clone())
        .map(|(d_hidden, n)| {
            let mut d_logits = Vec::new();
            gradient.of_set(&mut d_logits, n);
            for (&token, &d_logit) in problem.allowed.row(n).iter().zip(&d_logits) {
                axpy(d_hidden, d_logit, &head[token as usize * c..][..c]);
            }
            d_logits
        })
        .collect();
    let Some(d_head) = d_head else { return };
    // Sets are small: adding their rows one after the other costs less than sums of parts as large as the head.
    for (n, d_logits) in rows.zip(&d_logits) {
        for (&token, &d_logit) in problem.allowed.row(n).iter().zip(d_logits) {
            let d_row = &mut d_head.as_mut_slice()[token as usize * c..][..c];
            axpy(d_row, d_logit, problem.hidden_rows(n..n + 1));
        }
    }
}

/// Sets the target's gradient to minus the sum of the others, which it is: where its probability is near 1, `1 - p` would
/// keep few digits. Needs the whole vocabulary in one tile.
fn balance(d_logits: &mut [f32], target: usize) {
    let (before, after) = d_logits.split_at(target);
    let others: f64 = before.iter().chain(&after[1..]).map(|&x| f64::from(x)).sum();
    d_logits[target] = -others as f32;
}

/// Turns logits over the temperature into the gradient of the loss by the logits themselves.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn logits_backward(
    logits: &mut [f32],
    n: usize,
    target: Option<usize>,
    upstream: &Upstream<'_>,
    temperature: f32,
) {
    let (d_logprob, d_entropy) = (upstream.d_logprobs[n], upstream.d_entropy[n]);
    let (entropy, lse) = (upstream.entropy[n], upstream.lse[n]);
    let inverse = 1.0 / temperature;
    for z in logits.iter_mut() {
        let logprob = *z - lse;
        *z = -exp(logprob) * (d_logprob + d_entropy * (logprob + entropy)) * inverse;
    }
    if let Some(target) = target {
        logits[target] += d_logprob * inverse;
    }
}
