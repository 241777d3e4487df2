//! The divergence on the CPU, tile by tile.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

use crate::ops::linear_logprob::cpu::backward::{BlockGradient, LogitGradient, backward};
use crate::ops::linear_logprob::cpu::{Problem, TILE, TILE_ROWS, tiles};
use crate::panels::with_room;
use crate::simd::exp;
use crate::tensor::Tensor;

/// Policy and reference over the same rows and tokens.
pub(super) struct Pair<'a> {
    pub(super) policy: Problem<'a>,
    pub(super) reference: Problem<'a>,
    pub(super) lse: &'a [f32],
    pub(super) ref_lse: &'a [f32],
}

impl Pair<'_> {
    pub(super) fn forward(&self, kl: &mut [f32]) {
        for run in self.policy.runs(0..kl.len(), usize::MAX) {
            let kl = &mut kl[run.clone()];
            if self.policy.is_dense(run.start) {
                kl.par_chunks_mut(TILE_ROWS).enumerate().for_each(|(block, kl)| {
                    let start = run.start + block * TILE_ROWS;
                    self.dense_rows(kl, start..start + kl.len());
                });
            } else {
                kl.par_iter_mut().with_min_len(32).zip(run).for_each(|(kl, n)| {
                    let (mut logits, mut ref_logits) = (Vec::new(), Vec::new());
                    self.policy.set_logits(&mut logits, n);
                    self.reference.set_logits(&mut ref_logits, n);
                    *kl = divergence(&logits, &ref_logits, self.lse[n], self.ref_lse[n]) as f32;
                });
            }
        }
    }

    fn dense_rows(&self, kl: &mut [f32], rows: Range<usize>) {
        let mut totals = vec![0.0_f64; kl.len()];
        let (mut logits, mut ref_logits) = (Vec::new(), Vec::new());
        for tile in tiles(self.policy.head.rows(), TILE) {
            self.policy.tile_logits(&mut logits, rows.clone(), tile.clone());
            self.reference.tile_logits(&mut ref_logits, rows.clone(), tile.clone());
            let parts = logits.chunks_exact(tile.len()).zip(ref_logits.chunks_exact(tile.len()));
            for ((total, n), (logits, ref_logits)) in totals.iter_mut().zip(rows.clone()).zip(parts) {
                *total += divergence(logits, ref_logits, self.lse[n], self.ref_lse[n]);
            }
        }
        kl.iter_mut().zip(totals).for_each(|(kl, total)| *kl = total as f32);
    }

    pub(super) fn backward(
        &self,
        d_hidden: &mut Tensor,
        d_head: Option<&mut Tensor>,
        d_kl: &[f32],
        kl: &[f32],
    ) {
        let gradient = KlGradient { pair: self, d_kl, kl };
        backward(d_hidden, d_head, &self.policy, &gradient, true);
    }
}

struct KlGradient<'a> {
    pair: &'a Pair<'a>,
    d_kl: &'a [f32],
    kl: &'a [f32],
}

impl KlGradient<'_> {
    fn of_row(&self, logits: &mut [f32], ref_logits: &[f32], n: usize) {
        let scale = self.d_kl[n] / self.pair.policy.temperature;
        row_backward(logits, ref_logits, (self.pair.lse[n], self.pair.ref_lse[n]), self.kl[n], scale);
    }
}

impl LogitGradient for KlGradient<'_> {
    fn of_tile(&self, blocks: &mut [BlockGradient<'_>], tile: Range<usize>) {
        let Pair { policy, reference, .. } = self.pair;
        with_room(|room| {
            with_room(|ref_room| {
                let prepared = policy.prepare(room, tile.clone());
                let ref_prepared = reference.prepare(ref_room, tile.clone());
                let mut ref_logits = Vec::new();
                for block in blocks {
                    policy.prepared_logits(block.d_logits, block.rows.clone(), &prepared);
                    ref_logits.resize(block.d_logits.len(), 0.0);
                    reference.prepared_logits(&mut ref_logits, block.rows.clone(), &ref_prepared);
                    let logits = block.d_logits.chunks_exact_mut(tile.len());
                    let rows = block.rows.clone().zip(logits.zip(ref_logits.chunks_exact(tile.len())));
                    rows.for_each(|(n, (d_logits, ref_logits))| self.of_row(d_logits, ref_logits, n));
                    *block.matters = true;
                }
            });
        });
    }

    fn of_set(&self, d_logits: &mut Vec<f32>, n: usize) {
        let mut ref_logits = Vec::new();
        self.pair.policy.set_logits(d_logits, n);
        self.pair.reference.set_logits(&mut ref_logits, n);
        self.of_row(d_logits, &ref_logits, n);
    }
}

/// `sum p (log p - log q)` over the logits given.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn divergence(logits: &[f32], ref_logits: &[f32], lse: f32, ref_lse: f32) -> f64 {
    let mut lanes = [0.0_f64; 8];
    for (i, (z, y)) in logits.iter().zip(ref_logits).enumerate() {
        let logprob = z - lse;
        lanes[i % 8] += f64::from(exp(logprob) * (logprob - (y - ref_lse)));
    }
    lanes.iter().sum()
}

/// Turns logits into the gradient of the divergence by them.
#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn row_backward(logits: &mut [f32], ref_logits: &[f32], (lse, ref_lse): (f32, f32), kl: f32, scale: f32) {
    for (z, y) in logits.iter_mut().zip(ref_logits) {
        let logprob = *z - lse;
        *z = scale * exp(logprob) * (logprob - (y - ref_lse) - kl);
    }
}
