//! Sampling from hidden states on the CPU.

use std::ops::Range;

use rayon::prelude::*;

use super::inversion::{arg_max, draw_tile, draw_token};
use crate::ops::linear_logprob::cpu::forward::{Joined, TileStatistics};
use crate::ops::linear_logprob::cpu::{Problem, TILE, tiles};
use crate::ops::packed_matmul::PackedWeight;
use crate::tensor::Tensor;

/// Rows with a set, or over a vocabulary of one tile, that one task takes at once.
const BLOCK: usize = 8;
/// Rows over a larger vocabulary whose logits are held at once. Each tile of the head is read once for all of them.
const DENSE_ROWS: usize = 32;

/// How tokens are drawn.
#[derive(Clone, Copy)]
pub(super) struct Draw<'a> {
    /// Whether the likeliest is taken.
    pub(super) greedy: bool,
    /// (N)
    pub(super) uniforms: &'a [f32],
}

/// Draws a token for every row.
///
/// - `panels`: the head in panels, if there is a copy of it
pub(super) fn sample(
    tokens: &mut Tensor<u32>,
    logprobs: &mut Tensor,
    problem: &Problem<'_>,
    panels: Option<&PackedWeight>,
    draw: Draw<'_>,
) {
    let (tokens, logprobs) = (tokens.as_mut_slice(), logprobs.as_mut_slice());
    let mut logits = Vec::new();
    for run in problem.runs(0..tokens.len(), usize::MAX) {
        if !problem.is_dense(run.start) || problem.head.rows() <= TILE {
            few_logits(&mut tokens[run.clone()], &mut logprobs[run.clone()], run.start, problem, draw);
            continue;
        }
        for rows in tiles(run.len(), DENSE_ROWS) {
            let rows = run.start + rows.start..run.start + rows.end;
            let (tokens, logprobs) = (&mut tokens[rows.clone()], &mut logprobs[rows.clone()]);
            many_logits(tokens, logprobs, &mut logits, rows, problem, panels, draw);
        }
    }
}

/// Rows of few logits each, the first of them row `first` of the problem.
fn few_logits(tokens: &mut [u32], logprobs: &mut [f32], first: usize, problem: &Problem<'_>, draw: Draw<'_>) {
    let blocks = tokens.par_chunks_mut(BLOCK).zip(logprobs.par_chunks_mut(BLOCK));
    blocks.enumerate().for_each(|(block, (tokens, logprobs))| {
        let first = first + block * BLOCK;
        problem.for_each_row(first, tokens.len(), |n, logits| {
            let lse = problem.log_sum_exp(n, logits);
            let index = if draw.greedy {
                arg_max(logits)
            } else {
                draw_token(logits, lse, f64::from(draw.uniforms[n]))
            };
            tokens[n - first] = problem.token_at(n, index);
            logprobs[n - first] = logits[index] - lse;
        });
    });
}

/// Rows `rows` of the problem over all tiles of the vocabulary. `logits` is memory for them.
fn many_logits(
    tokens: &mut [u32],
    logprobs: &mut [f32],
    logits: &mut Vec<f32>,
    rows: Range<usize>,
    problem: &Problem<'_>,
    panels: Option<&PackedWeight>,
    draw: Draw<'_>,
) {
    let tiles: Vec<Range<usize>> = tiles(problem.head.rows(), TILE).collect();
    // Tile by tile (rows, tile).
    logits.resize(rows.len() * problem.head.rows(), 0.0);
    let statistics: Vec<Vec<TileStatistics>> = logits
        .par_chunks_mut(rows.len() * TILE)
        .zip(&tiles)
        .map(|(logits, tile)| {
            match panels {
                Some(panels) => problem.packed_logits(logits, rows.clone(), panels, tile.clone()),
                None => problem.logits(logits, rows.clone(), tile.clone()),
            }
            logits.chunks_exact(tile.len()).map(|row| TileStatistics::of(row, None)).collect()
        })
        .collect();
    let logits = logits.as_slice();
    tokens.par_iter_mut().zip(logprobs).enumerate().for_each(|(row, (token, logprob))| {
        let of_tile = |index: usize| {
            let tile = &tiles[index];
            &logits[rows.len() * tile.start + row * tile.len()..][..tile.len()]
        };
        let of_row = || statistics.iter().map(move |tile| tile[row]);
        let mut joined = Joined::default();
        of_row().for_each(|tile| joined.add(tile));
        let lse = joined.lse();
        let (tile, index) = if draw.greedy {
            let tops: Vec<f32> = of_row().map(|tile| tile.top()).collect();
            let tile = arg_max(&tops);
            (tile, arg_max(of_tile(tile)))
        } else {
            let (tile, rest) = draw_tile(of_row(), draw.uniforms[rows.start + row]);
            (tile, draw_token(of_tile(tile), statistics[tile][row].top(), rest))
        };
        *token = (tiles[tile].start + index) as u32;
        *logprob = of_tile(tile)[index] - lse;
    });
}
