//! Splitting of a packed product into tasks.

use rayon::prelude::*;

use crate::panels::{Matrix, MatrixMut};
use crate::panels::{PANEL, PanelElement, Panels, packed_product};

/// Outputs a task computes at once.
const OUTPUTS: usize = 8 * PANEL;
/// Rows a task multiplies at once.
const ROWS: usize = 240;
/// A product of fewer multiplications than this is not worth a second task.
const SMALL: usize = 1 << 16;

/// A weight (O, I) in panels (ceil(O / 16), I, 16).
pub(super) fn pack<T: PanelElement>(
    weight: &[f32],
    outputs: usize,
    inputs: usize,
    convert: impl Fn(f32) -> T + Sync,
) -> Vec<T> {
    let mut panels = vec![T::default(); outputs.div_ceil(PANEL) * PANEL * inputs];
    if panels.is_empty() {
        return panels;
    }
    panels.par_chunks_mut(PANEL * inputs).zip(weight.par_chunks(PANEL * inputs)).for_each(|(panel, rows)| {
        for (lane, row) in rows.chunks_exact(inputs).enumerate() {
            for (to, w) in panel[lane..].iter_mut().step_by(PANEL).zip(row) {
                *to = convert(*w);
            }
        }
    });
    panels
}

/// `out (N, O) (+)= x (N, I) * weight^T`.
pub(super) fn forward<T: PanelElement>(
    out: &mut [f32],
    x: &[f32],
    panels: &[T],
    (outputs, inputs): (usize, usize),
    accumulate: bool,
) {
    let rows = out.len() / outputs.max(1);
    let (x, panels) = (Matrix::row_major(x, rows, inputs), Panels::new(panels, inputs, outputs));
    let out = MatrixMut::row_major(out, rows, outputs);
    if rows * outputs * inputs < SMALL {
        packed_product(out, x, panels, accumulate);
        return;
    }
    out.into_blocks(ROWS, OUTPUTS).into_par_iter().for_each(|(row, col, out)| {
        let (x, panels) = (x.rows_from(row, out.rows()), panels.columns(col, out.cols()));
        packed_product(out, x, panels, accumulate);
    });
}
