//! A tile of a packed product in plain loops, which the compiler turns into vector code.

use multiversion::multiversion;

use super::PANEL;
use super::cpu::{PanelElement, Tile};

/// Rows that one pass over a panel serves.
const ROWS: usize = 4;

/// Computes a tile; `out` has a slice of `tile.outputs` for every row.
pub(super) fn run<T: PanelElement>(out: &mut [&mut [f32]], tile: &Tile<'_, T>) {
    for (p, panel) in tile.panels.chunks_exact(PANEL * tile.inputs).enumerate() {
        let width = PANEL.min(tile.outputs - p * PANEL);
        for (out, x) in out.chunks_mut(ROWS).zip(tile.x.chunks(ROWS * tile.inputs)) {
            let mut sums = [[0.0_f32; PANEL]; ROWS];
            panel_rows(&mut sums, x, panel, tile.inputs);
            for (out, sums) in out.iter_mut().zip(sums) {
                for (out, sum) in out[p * PANEL..][..width].iter_mut().zip(sums) {
                    *out = if tile.accumulate { *out + sum } else { sum };
                }
            }
        }
    }
}

/// `sums[r] = sum_i x[r, i] * panel[i]`, in order of `i`.
#[multiversion(targets("x86_64+avx2+fma"))]
fn panel_rows<T: PanelElement>(sums: &mut [[f32; PANEL]; ROWS], x: &[f32], panel: &[T], inputs: usize) {
    for (sums, x) in sums.iter_mut().zip(x.chunks_exact(inputs)) {
        for (x, panel) in x.iter().zip(panel.chunks_exact(PANEL)) {
            for (sum, w) in sums.iter_mut().zip(panel) {
                *sum += x * w.widen();
            }
        }
    }
}
