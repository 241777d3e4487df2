//! Products of matrices on the CPU, with the right factor in panels of 16 columns.
//!
//! ```text
//! out (M, N) (+)= left (M, K) right (K, N)
//!
//! right  columns 16 p .. 16 p + 16 are panel p, (K, 16) row-major and contiguous; missing columns are 0
//! tile   6 rows by 4 panels: 24 vectors of sums stay in registers over the depth, a step of which loads 4 vectors of
//!        the panels and spreads 6 elements of the left factor
//! ```
//!
//! **Order of summation.** An element of `out` is a sum over the depth in order, one fused multiplication and addition a
//! term, begun anew every [`DEPTH`] terms; these parts are added to `out` in order. Nothing else decides its bits: not
//! the number of rows or columns, nor how the product was cut into tasks. That is why a row of a batch equals that row
//! alone, and why `matmul` and `packed_matmul` agree to the bit.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod matrix;
mod pack;
mod portable;

use std::cell::RefCell;

use half::bf16;
use rayon::prelude::*;

pub(crate) use matrix::{Matrix, MatrixMut};
pub(crate) use pack::{Packed, pack};

/// Columns of a panel: the lanes of one AVX-512 register of f32.
pub(crate) const PANEL: usize = 16;
/// Terms that are summed in one chain. Part of the numerical definition.
pub(crate) const DEPTH: usize = 1024;
/// Rows of a tile of the product.
const TILE_ROWS: usize = 6;
/// Columns whose panels are made and used at once: half a megabyte at full depth, which stays in the second cache.
const GROUP: usize = 128;
/// Rows from which on panels of bf16 are widened once instead of at every use.
const WIDEN_ROWS: usize = 4 * TILE_ROWS;

/// What a panel can hold.
pub(crate) trait PanelElement: Copy + Default + Send + Sync {
    /// Whether the elements are bf16.
    const IS_BF16: bool;
    /// The element as f32, exactly.
    fn widen(self) -> f32;
}

impl PanelElement for f32 {
    const IS_BF16: bool = false;
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl PanelElement for bf16 {
    const IS_BF16: bool = true;
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// A factor (depth, cols) in panels, or rows `start .. start + depth` of one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Panels<'a, T> {
    /// (panels, `stride`), of which this part begins at the first element.
    data: &'a [T],
    /// Elements from a panel to the next.
    stride: usize,
    depth: usize,
    cols: usize,
}

impl<'a, T: PanelElement> Panels<'a, T> {
    /// Panels (ceil(cols / 16), depth, 16).
    pub(crate) fn new(data: &'a [T], depth: usize, cols: usize) -> Panels<'a, T> {
        assert_eq!(data.len(), cols.div_ceil(PANEL) * PANEL * depth, "every column has its panel");
        Panels { data, stride: PANEL * depth, depth, cols }
    }

    /// Panels `first / 16 ..` of `cols` columns; `first` begins a panel.
    pub(crate) fn columns(self, first: usize, cols: usize) -> Panels<'a, T> {
        assert!(first.is_multiple_of(PANEL) && first + cols <= self.cols, "columns of whole panels");
        Panels { data: &self.data[first / PANEL * self.stride..], cols, ..self }
    }

    /// Terms `start .. start + depth` of the sums.
    fn part(self, start: usize, depth: usize) -> Panels<'a, T> {
        assert!(start + depth <= self.depth, "part of the depth");
        Panels { data: &self.data[(start * PANEL).min(self.data.len())..], depth, ..self }
    }
}

/// The left factor as the tiles read it.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// In place, its rows contiguous.
    InPlace(Matrix<'a>),
    /// Blocks of [`TILE_ROWS`] rows, the last one shorter; a block is (depth, its rows).
    Packed(&'a [f32]),
}

/// Whether products by panels run on vector code written for this processor.
pub(crate) fn is_fast() -> bool {
    #[cfg(target_arch = "x86_64")]
    return avx512::is_available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

thread_local! {
    /// Memory for panels and for packed rows that each thread keeps: at most half a megabyte, and rows of a task by
    /// [`DEPTH`].
    static SCRATCH: RefCell<(Packed, Packed)> = const { RefCell::new((Packed::new(), Packed::new())) };
    /// Memory for a factor that is laid out once for several products.
    static SHARED: RefCell<Vec<Packed>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with memory for a factor, which the thread keeps for the next call.
pub(crate) fn with_room<R>(work: impl FnOnce(&mut Packed) -> R) -> R {
    // Taken out while it is used: `work` may wait for tasks, and this thread run one that needs room as well.
    let mut room = SHARED.with_borrow_mut(Vec::pop).unwrap_or_default();
    let result = work(&mut room);
    SHARED.with_borrow_mut(|rooms| rooms.push(room));
    result
}

/// `out (+)= left * right`, on this thread.
pub(crate) fn product(mut out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, accumulate: bool) {
    assert!(left.rows() == out.rows() && right.cols() == out.cols() && left.cols() == right.rows());
    if right.rows() == 0 && !accumulate {
        out.fill(0.0);
    }
    SCRATCH.with_borrow_mut(|(panels, packed_left)| {
        for start in (0..right.rows()).step_by(DEPTH) {
            let depth = DEPTH.min(right.rows() - start);
            let (left, right) = (left.columns(start, depth), right.rows_from(start, depth));
            let left = if left.rows_are_contiguous() {
                Left::InPlace(left)
            } else {
                Left::Packed(pack::pack_left(packed_left, left))
            };
            for first in (0..out.cols()).step_by(GROUP) {
                let cols = GROUP.min(out.cols() - first);
                let panels = pack(panels, right.columns(first, cols));
                run(&mut out.columns(first, cols), left, panels, accumulate || start > 0);
            }
        }
    });
}

/// `out (+)= left * panels`, on this thread. The rows of `left` are contiguous.
pub(crate) fn packed_product<T: PanelElement>(
    mut out: MatrixMut<'_>,
    left: Matrix<'_>,
    panels: Panels<'_, T>,
    accumulate: bool,
) {
    assert!(left.rows() == out.rows() && panels.cols == out.cols() && left.cols() == panels.depth);
    assert!(left.rows_are_contiguous(), "the left factor is used in place");
    if panels.depth == 0 && !accumulate {
        out.fill(0.0);
    }
    for start in (0..panels.depth).step_by(DEPTH) {
        let depth = DEPTH.min(panels.depth - start);
        let left = Left::InPlace(left.columns(start, depth));
        let (part, accumulate) = (panels.part(start, depth), accumulate || start > 0);
        if T::IS_BF16 && out.rows() >= WIDEN_ROWS {
            run_widened(&mut out, left, part, accumulate);
        } else {
            run(&mut out, left, part, accumulate);
        }
    }
}

/// `out += left^T * right` with `left` (K, M) and `right` (K, N), both row-major, in tasks of at most `rows` rows.
pub(crate) fn transposed_product(out: MatrixMut<'_>, left: Matrix<'_>, right: Matrix<'_>, rows: usize) {
    assert!(left.cols() == out.rows() && right.cols() == out.cols() && left.rows() == right.rows());
    let cols = out.cols();
    let mut blocks = out.into_blocks(rows, cols.max(1));
    with_room(|room| {
        for start in (0..right.rows()).step_by(DEPTH) {
            let depth = DEPTH.min(right.rows() - start);
            let left = left.rows_from(start, depth);
            let panels = pack::pack_in_tasks(room, right.rows_from(start, depth));
            blocks.par_iter_mut().for_each(|(first, _, out)| {
                SCRATCH.with_borrow_mut(|(_, packed_left)| {
                    let left = left.columns(*first, out.rows()).transposed();
                    run(out, Left::Packed(pack::pack_left(packed_left, left)), panels, true);
                });
            });
        }
    });
}

/// As [`run`], over panels that are widened before.
fn run_widened<T: PanelElement>(
    out: &mut MatrixMut<'_>,
    left: Left<'_>,
    panels: Panels<'_, T>,
    accumulate: bool,
) {
    SCRATCH.with_borrow_mut(|(wide, _)| {
        for first in (0..panels.cols).step_by(GROUP) {
            let cols = GROUP.min(panels.cols - first);
            let wide = pack::widen(wide, panels.columns(first, cols));
            run(&mut out.columns(first, cols), left, wide, accumulate);
        }
    });
}

/// One part of the depth, by the widest instructions of this processor.
fn run<T: PanelElement>(out: &mut MatrixMut<'_>, left: Left<'_>, panels: Panels<'_, T>, accumulate: bool) {
    #[cfg(target_arch = "x86_64")]
    if avx512::is_available() {
        avx512::run(out, left, panels, accumulate);
        return;
    }
    portable::run(out, left, panels, accumulate);
}

#[cfg(test)]
mod tests;
