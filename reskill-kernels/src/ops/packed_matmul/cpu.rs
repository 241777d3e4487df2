//! Splitting of a packed product into tiles, and the choice of the instructions that compute them.

use half::bf16;
use rayon::prelude::*;

use super::{PANEL, portable};

/// Panels a task multiplies at once.
const GROUP: usize = 8;
/// Rows a task multiplies at once.
const ROWS: usize = 240;
/// A product of fewer multiplications than this is not worth a second task.
const SMALL: usize = 1 << 16;

/// What a panel can hold.
pub(super) trait PanelElement: Copy + Default + Send + Sync {
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

/// The part of a product that one task computes: all of `x`'s rows by some panels.
pub(super) struct Tile<'a, T> {
    /// (rows, inputs)
    pub(super) x: &'a [f32],
    /// (panels, inputs, 16)
    pub(super) panels: &'a [T],
    pub(super) inputs: usize,
    /// Outputs of these panels; fewer than 16 a panel in the last one only.
    pub(super) outputs: usize,
    pub(super) accumulate: bool,
}

/// Rows of `out` restricted to the outputs of a tile.
///
/// Tasks write disjoint columns of the same rows, which slices cannot express; each row is split once and handed out.
pub(super) type OutRows<'a> = Vec<&'a mut [f32]>;

/// `out (N, O) (+)= x (N, I) * weight^T`.
pub(super) fn forward<T: PanelElement>(
    out: &mut [f32],
    x: &[f32],
    panels: &[T],
    (outputs, inputs): (usize, usize),
    accumulate: bool,
) {
    if out.is_empty() {
        return;
    }
    if inputs == 0 {
        if !accumulate {
            out.fill(0.0);
        }
        return;
    }
    let small = out.len() * inputs < SMALL;
    let group_width = if small { outputs } else { GROUP * PANEL };
    let n_groups = outputs.div_ceil(group_width);
    let n_rows = out.len() / outputs;
    let mut tasks: Vec<(usize, usize, OutRows<'_>)> = Vec::with_capacity(n_groups * n_rows.div_ceil(ROWS));
    for (block, rows) in out.chunks_mut(ROWS * outputs).enumerate() {
        let first = tasks.len();
        let height = rows.len() / outputs;
        tasks.extend((0..n_groups).map(|group| (block, group, Vec::with_capacity(height))));
        for row in rows.chunks_mut(outputs) {
            for (task, part) in tasks[first..].iter_mut().zip(row.chunks_mut(group_width)) {
                task.2.push(part);
            }
        }
    }
    let run = |(block, group, out): (usize, usize, OutRows<'_>)| {
        let from = group * group_width * inputs;
        let to = (from + group_width.next_multiple_of(PANEL) * inputs).min(panels.len());
        let rows = block * ROWS * inputs;
        let tile = Tile {
            x: &x[rows..rows + out.len() * inputs],
            panels: &panels[from..to],
            inputs,
            outputs: group_width.min(outputs - group * group_width),
            accumulate,
        };
        run_tile(out, &tile);
    };
    if tasks.len() == 1 {
        tasks.into_iter().for_each(run);
    } else {
        tasks.into_par_iter().for_each(run);
    }
}

/// One tile, by the widest instructions of this processor.
fn run_tile<T: PanelElement>(mut out: OutRows<'_>, tile: &Tile<'_, T>) {
    #[cfg(target_arch = "x86_64")]
    if super::avx512::is_available() {
        super::avx512::run(&mut out, tile);
        return;
    }
    portable::run(&mut out, tile);
}
