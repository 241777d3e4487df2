//! Factors laid out as the tiles of a product read them.

use rayon::prelude::*;

use super::{Matrix, PANEL, PanelElement, Panels, TILE_ROWS};

/// Alignment of packed factors in elements: a cache line.
const LINE: usize = 16;
/// Panels of a task that packs.
const TASK_PANELS: usize = 8;
/// Columns of a left factor that are packed at once.
const COLUMNS: usize = 16;

/// Memory for a packed factor, which grows to the largest one.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    data: Vec<f32>,
}

impl Packed {
    pub(crate) const fn new() -> Packed {
        Packed { data: Vec::new() }
    }

    /// `len` elements on a line of the cache, with any values.
    fn room(&mut self, len: usize) -> &mut [f32] {
        if self.data.len() < len + LINE {
            self.data.resize(len + LINE, 0.0);
        }
        // The offset is an optimisation: where there is none to be had, any place will do.
        let skip = self.data.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        &mut self.data[skip..skip + len]
    }
}

/// A right factor in panels.
pub(crate) fn pack<'a>(room: &'a mut Packed, right: Matrix<'_>) -> Panels<'a, f32> {
    let (depth, cols) = (right.rows(), right.cols());
    let room = room.room(cols.div_ceil(PANEL) * PANEL * depth);
    pack_panels(room, right, 0);
    Panels::new(room, depth, cols)
}

/// [`pack`], some panels a task.
pub(super) fn pack_in_tasks<'a>(room: &'a mut Packed, right: Matrix<'_>) -> Panels<'a, f32> {
    let (depth, cols) = (right.rows(), right.cols());
    let room = room.room(cols.div_ceil(PANEL) * PANEL * depth);
    room.par_chunks_mut((TASK_PANELS * PANEL * depth).max(1))
        .enumerate()
        .for_each(|(task, panels)| pack_panels(panels, right, task * TASK_PANELS));
    Panels::new(room, depth, cols)
}

/// Panels `first ..` of a right factor, as many as there is room for.
fn pack_panels(panels: &mut [f32], right: Matrix<'_>, first: usize) {
    let depth = right.rows();
    if depth == 0 {
        return;
    }
    let from = first * PANEL;
    let cols = (panels.len() / depth).min(right.cols() - from);
    let right = right.columns(from, cols);
    if !right.rows_are_contiguous() {
        for (p, panel) in panels.chunks_exact_mut(PANEL * depth).enumerate() {
            transpose(panel, right.columns(p * PANEL, PANEL.min(cols - p * PANEL)));
        }
        return;
    }
    // Row by row over all panels: what is read lies together.
    for i in 0..depth {
        let (full, rest) = right.row(i).as_chunks::<PANEL>();
        let mut to = panels.chunks_exact_mut(PANEL * depth).map(|panel| &mut panel[i * PANEL..][..PANEL]);
        full.iter().zip(&mut to).for_each(|(from, to)| to.copy_from_slice(from));
        if let Some(to) = to.next() {
            to[..rest.len()].copy_from_slice(rest);
            to[rest.len()..].fill(0.0);
        }
    }
}

/// One panel of a factor whose rows are not contiguous.
fn transpose(panel: &mut [f32], columns: Matrix<'_>) {
    #[cfg(target_arch = "x86_64")]
    if columns.columns_are_contiguous() && super::avx512::is_available() {
        super::avx512::transpose(panel, columns);
        return;
    }
    for (i, to) in panel.chunks_exact_mut(PANEL).enumerate() {
        for (j, to) in to.iter_mut().enumerate() {
            *to = if j < columns.cols() { columns.at(i, j) } else { 0.0 };
        }
    }
}

/// A left factor in blocks of [`TILE_ROWS`] rows, the last one shorter: (depth, its rows) each.
pub(super) fn pack_left<'a>(room: &'a mut Packed, left: Matrix<'_>) -> &'a [f32] {
    let depth = left.cols();
    let room = room.room(left.rows() * depth);
    let columns = left.transposed();
    // Some columns at a time, so that what is read stays in the nearest cache until the last block has taken its part.
    for first in (0..depth).step_by(COLUMNS) {
        let last = depth.min(first + COLUMNS);
        for (block, to) in room.chunks_mut(TILE_ROWS * depth).enumerate() {
            let rows = to.len() / depth;
            let to = to[first * rows..last * rows].chunks_exact_mut(rows);
            for (k, to) in (first..last).zip(to) {
                copy_rows(to, columns, k, block * TILE_ROWS);
            }
        }
    }
    room
}

/// Rows `first ..` of column `k` of a left factor, as many as there is room for.
#[inline(always)]
fn copy_rows(to: &mut [f32], columns: Matrix<'_>, k: usize, first: usize) {
    if columns.rows_are_contiguous() {
        let from = &columns.row(k)[first..first + to.len()];
        match (<&[f32; TILE_ROWS]>::try_from(from), to.first_chunk_mut()) {
            (Ok(from), Some(to)) => *to = *from,
            _ => to.copy_from_slice(from),
        }
    } else {
        to.iter_mut().enumerate().for_each(|(r, to)| *to = columns.at(k, first + r));
    }
}

/// Panels of bf16 as f32.
pub(super) fn widen<'a, T: PanelElement>(room: &'a mut Packed, panels: Panels<'_, T>) -> Panels<'a, f32> {
    let len = PANEL * panels.depth;
    let room = room.room(panels.cols.div_ceil(PANEL) * len);
    for (to, from) in room.chunks_exact_mut(len).zip(panels.data.chunks(panels.stride)) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.widen();
        }
    }
    Panels::new(room, panels.depth, panels.cols)
}
