//! Inversion of a cumulative distribution over a whole vocabulary: first which tile, then which token of it.
//!
//! A tile's probability is the sum that its log-sum-exp was made of, so no token outside the tile that is drawn from is
//! looked at twice.

use std::ops::Range;

use crate::ops::linear_logprob::cpu::forward::{Joined, TileStatistics};
use crate::ops::linear_logprob::cpu::{TILE, tiles};
use crate::simd::{exp, max};

/// A logit this far below the unit of a sum adds nothing to it.
const LEAST: f32 = -87.0;

/// The first tile at which the cumulative probability exceeds `uniform`, and what is left of `uniform` for its tokens, as
/// [`draw_token`] counts it from the tile's largest logit. Rounding can leave the total below `uniform`; then the last tile
/// with a probability above zero is taken.
pub(super) fn draw_tile(tiles: impl Iterator<Item = TileStatistics> + Clone, uniform: f32) -> (usize, f64) {
    let top = tiles.clone().map(|tile| tile.top()).fold(f32::NEG_INFINITY, f32::max);
    let scale = |tile: &TileStatistics| {
        let below = tile.top() - top;
        if below > LEAST { f64::from(below).exp() } else { 0.0 }
    };
    let weight = |tile: &TileStatistics| f64::from(tile.total()) * scale(tile);
    let goal = f64::from(uniform) * tiles.clone().map(|tile| weight(&tile)).sum::<f64>();
    let mut cumulative = 0.0;
    let mut last = (0, goal);
    for (index, tile) in tiles.enumerate() {
        let weight = weight(&tile);
        if weight > 0.0 {
            last = (index, (goal - cumulative) / scale(&tile));
        }
        cumulative += weight;
        if goal < cumulative {
            break;
        }
    }
    last
}

/// First index at which the sum of `exp(logit - unit)` exceeds `goal`: with the log-sum-exp as unit, at which the cumulative
/// probability exceeds it. Rounding can leave the total below `goal`; then the last index with a probability above zero is
/// taken. Below e^-87 of the unit nothing is drawn: the exponential falls no further there.
pub(super) fn draw_token(logits: &[f32], unit: f32, goal: f64) -> usize {
    let mut cumulative = 0.0_f64;
    let mut last = 0;
    for (index, &logit) in logits.iter().enumerate() {
        let above = logit - unit;
        let p = if above > LEAST { f64::from(exp(above)) } else { 0.0 };
        if p > 0.0 {
            last = index;
        }
        cumulative += p;
        if goal < cumulative {
            return index;
        }
    }
    last
}

/// Index of the largest logit, the first on ties.
pub(super) fn arg_max(logits: &[f32]) -> usize {
    let top = max(logits);
    logits.iter().position(|&logit| logit == top).unwrap_or(0)
}

/// Draws from `softmax(logits / temperature)`: the index, and its log-probability.
///
/// - `best`: index of the largest logit; some logit is finite
/// - `temperature`: > 0
pub(super) fn draw_from_all(logits: &[f32], best: usize, temperature: f32, uniform: f32) -> (usize, f32) {
    let mut room = [0.0; TILE];
    // Less the largest logit, so that a small temperature does not make them infinite.
    let top = logits[best];
    let scale = |room: &mut [f32; TILE], tile: Range<usize>| {
        room.iter_mut().zip(&logits[tile]).for_each(|(to, logit)| *to = (logit - top) / temperature);
    };
    let statistics: Vec<TileStatistics> = tiles(logits.len(), TILE)
        .map(|tile| {
            scale(&mut room, tile.clone());
            TileStatistics::of_any(&room[..tile.len()])
        })
        .collect();
    let mut joined = Joined::default();
    statistics.iter().filter(|tile| !tile.is_empty()).for_each(|tile| joined.add(*tile));
    let lse = joined.lse();
    let (drawn, rest) = draw_tile(statistics.iter().copied(), uniform);
    let tile = drawn * TILE..logits.len().min((drawn + 1) * TILE);
    scale(&mut room, tile.clone());
    let index = draw_token(&room[..tile.len()], statistics[drawn].top(), rest);
    (tile.start + index, room[index] - lse)
}
