//! The tiles of a product in plain loops, which the compiler turns into vector code.

use multiversion::multiversion;

use super::{Left, MatrixMut, PANEL, PanelElement, Panels, TILE_ROWS};

/// One part of the depth.
pub(super) fn run<T: PanelElement>(
    out: &mut MatrixMut<'_>,
    left: Left<'_>,
    panels: Panels<'_, T>,
    accumulate: bool,
) {
    let mut row = vec![0.0; panels.depth];
    for n in 0..out.rows() {
        match left {
            Left::InPlace(left) => row.copy_from_slice(left.row(n)),
            Left::Packed(data) => {
                let first = n / TILE_ROWS * TILE_ROWS;
                let rows = TILE_ROWS.min(out.rows() - first);
                let block = &data[first * panels.depth..][..rows * panels.depth];
                row.iter_mut().zip(block.chunks_exact(rows)).for_each(|(to, from)| *to = from[n - first]);
            }
        }
        let cells = out.row_mut(n).chunks_mut(PANEL);
        for (cells, panel) in cells.zip(panels.data.chunks(panels.stride)) {
            let mut sums = [0.0_f32; PANEL];
            panel_row(&mut sums, &row, panel);
            for (out, sum) in cells.iter_mut().zip(sums) {
                *out = if accumulate { *out + sum } else { sum };
            }
        }
    }
}

/// `sums = sum_k row[k] * panel[k]`, in order of `k`.
#[multiversion(targets("x86_64+avx2+fma"))]
fn panel_row<T: PanelElement>(sums: &mut [f32; PANEL], row: &[f32], panel: &[T]) {
    for (x, panel) in row.iter().zip(panel.chunks_exact(PANEL)) {
        for (sum, w) in sums.iter_mut().zip(panel) {
            *sum += x * w.widen();
        }
    }
}
