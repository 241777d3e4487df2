//! The forward pass: statistics of each row, tile by tile, joined in the order of the tiles.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use super::{BLOCK, DENSE_ROWS, Problem, TILE, TILE_ROWS, entropy_of, log_sum_exp, tiles};
use crate::panels::with_room;
use crate::simd::{exp, max, sum};
use crate::tensor::Tensor;

/// What one row's logits in one tile add to its softmax.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileStatistics {
    /// Largest logit.
    top: f32,
    /// Sum of `exp(z - top)`.
    total: f32,
    /// Sum of `exp(z - top) (z - top)`.
    weighted: f32,
    /// The target's logit, if it lies in the tile.
    target: Option<f32>,
}

impl TileStatistics {
    pub(crate) fn of(logits: &[f32], target: Option<usize>) -> TileStatistics {
        let (top, total, weighted) = sums(logits);
        TileStatistics { top, total, weighted, target: target.map(|index| logits[index]) }
    }

    /// The same without a target, where all logits may be minus infinity: such a tile is empty.
    pub(crate) fn of_any(logits: &[f32]) -> TileStatistics {
        if max(logits) == f32::NEG_INFINITY {
            return TileStatistics { top: f32::NEG_INFINITY, total: 0.0, weighted: 0.0, target: None };
        }
        TileStatistics::of(logits, None)
    }

    /// Whether no token of it has a probability above 0.
    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0.0
    }

    /// Largest logit.
    pub(crate) fn top(&self) -> f32 {
        self.top
    }

    /// Sum of `exp(z - top)`.
    pub(crate) fn total(&self) -> f32 {
        self.total
    }
}

/// The statistics of a row over the tiles so far, in f64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Joined {
    top: f64,
    total: f64,
    weighted: f64,
    target: f32,
}

impl Default for Joined {
    fn default() -> Self {
        Joined { top: f64::NEG_INFINITY, total: 0.0, weighted: 0.0, target: f32::NAN }
    }
}

impl Joined {
    pub(crate) fn add(&mut self, tile: TileStatistics) {
        let (top, total, weighted) = (f64::from(tile.top), f64::from(tile.total), f64::from(tile.weighted));
        let highest = self.top.max(top);
        // The first tile has nothing to be joined with; minus infinity less itself would be NaN.
        let (mine, other) = (self.top - highest, top - highest);
        let (scale, tile_scale) = if self.total == 0.0 { (0.0, 1.0) } else { (mine.exp(), other.exp()) };
        let before = if self.total == 0.0 { 0.0 } else { scale * (self.weighted + self.total * mine) };
        self.weighted = before + tile_scale * (weighted + total * other);
        self.total = self.total * scale + total * tile_scale;
        self.top = highest;
        self.target = tile.target.unwrap_or(self.target);
    }

    pub(crate) fn lse(&self) -> f32 {
        (self.top + self.total.ln()) as f32
    }

    /// `ln S - (sum exp(z - top) (z - top)) / S`: both terms are small numbers, so nothing cancels.
    fn entropy(&self) -> f32 {
        (self.total.ln() - self.weighted / self.total) as f32
    }
}

pub(crate) fn forward(
    logprobs: &mut Tensor,
    entropy: &mut Tensor,
    lse: &mut Tensor,
    problem: &Problem<'_>,
    targets: &Tensor<u32>,
) {
    let targets = targets.as_slice();
    let (logprobs, entropy, lse) = (logprobs.as_mut_slice(), entropy.as_mut_slice(), lse.as_mut_slice());
    for run in problem.runs(0..targets.len(), DENSE_ROWS) {
        let columns = (&mut logprobs[run.clone()], &mut entropy[run.clone()], &mut lse[run.clone()]);
        if problem.is_dense(run.start) {
            for (row, joined) in dense_statistics(problem, run, targets).into_iter().enumerate() {
                columns.2[row] = joined.lse();
                columns.0[row] = joined.target - columns.2[row];
                columns.1[row] = joined.entropy();
            }
        } else {
            set_rows(columns, run, problem, targets);
        }
    }
}

fn set_rows(
    (logprobs, entropy, lse): (&mut [f32], &mut [f32], &mut [f32]),
    run: Range<usize>,
    problem: &Problem<'_>,
    targets: &[u32],
) {
    let columns =
        logprobs.par_chunks_mut(BLOCK).zip(entropy.par_chunks_mut(BLOCK)).zip(lse.par_chunks_mut(BLOCK));
    columns.enumerate().for_each(|(block, ((logprobs, entropy), lse))| {
        let first = run.start + block * BLOCK;
        problem.for_each_row(first, logprobs.len(), |n, logits| {
            let row = n - first;
            lse[row] = log_sum_exp(logits);
            logprobs[row] = logits[problem.index_of(n, targets[n])] - lse[row];
            entropy[row] = entropy_of(logits, lse[row]);
        });
    });
}

/// Statistics of dense rows. A task takes one tile of the head and some blocks of [`TILE_ROWS`] rows: all of them where
/// there are tiles enough, so that each is laid out once.
fn dense_statistics(problem: &Problem<'_>, run: Range<usize>, targets: &[u32]) -> Vec<Joined> {
    let tiles: Vec<Range<usize>> = tiles(problem.head.rows(), TILE).collect();
    let blocks: Vec<Range<usize>> =
        super::tiles(run.len(), TILE_ROWS).map(|rows| run.start + rows.start..run.start + rows.end).collect();
    let groups: Vec<&[Range<usize>]> = blocks.chunks(blocks_per_task(blocks.len(), tiles.len())).collect();
    let parts: Vec<Vec<TileStatistics>> = (0..tiles.len() * groups.len())
        .into_par_iter()
        .map_init(Vec::new, |logits, task| {
            let (tile, blocks) = (&tiles[task / groups.len()], groups[task % groups.len()]);
            with_room(|room| {
                let prepared = problem.prepare(room, tile.clone());
                let mut part = Vec::with_capacity(blocks.len() * TILE_ROWS);
                for rows in blocks {
                    logits.resize(rows.len() * tile.len(), 0.0);
                    problem.prepared_logits(logits, rows.clone(), &prepared);
                    let rows = rows.clone().zip(logits.chunks_exact(tile.len()));
                    part.extend(
                        rows.map(|(n, logits)| TileStatistics::of(logits, position(tile, targets[n]))),
                    );
                }
                part
            })
        })
        .collect();
    let mut joined = vec![Joined::default(); run.len()];
    for (task, part) in parts.into_iter().enumerate() {
        let rows = &mut joined[groups[task % groups.len()][0].start - run.start..];
        for (joined, statistics) in rows.iter_mut().zip(part) {
            joined.add(statistics);
        }
    }
    joined
}

/// Blocks of rows that a task multiplies with its tile, such that there are some 32 tasks. Changes no result.
pub(super) fn blocks_per_task(n_blocks: usize, n_tiles: usize) -> usize {
    (n_blocks * n_tiles / 32).clamp(1, n_blocks.max(1))
}

/// Where `token` stands in `tile`.
pub(crate) fn position(tile: &Range<usize>, token: u32) -> Option<usize> {
    tile.contains(&(token as usize)).then(|| token as usize - tile.start)
}

/// Largest logit, and the sums of `exp(z - top)` and `exp(z - top) (z - top)`.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn sums(logits: &[f32]) -> (f32, f32, f32) {
    let top = max(logits);
    let (mut terms, mut weighted_terms) = ([0.0; 64], [0.0; 64]);
    let (mut total, mut weighted) = (0.0, 0.0);
    for chunk in logits.chunks(64) {
        for ((term, weighted), z) in terms.iter_mut().zip(&mut weighted_terms).zip(chunk) {
            let shifted = z - top;
            *term = exp(shifted);
            // Where the exponential has left its range the product must not grow again.
            *weighted = *term * shifted.max(-87.0);
        }
        total += sum(&terms[..chunk.len()]);
        weighted += sum(&weighted_terms[..chunk.len()]);
    }
    (top, total, weighted)
}
