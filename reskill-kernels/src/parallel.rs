//! Splitting work over threads in blocks whose size never depends on the number of threads, so that results do not.

use rayon::prelude::*;

/// Rows a task takes at once.
pub(crate) const ROW_BLOCK: usize = 64;

/// Calls `f(first_row, rows_of_out)` for each block of rows of `out`.
pub(crate) fn for_row_blocks<F>(out: &mut [f32], row_len: usize, f: F)
where
    F: Fn(usize, &mut [f32]) + Sync + Send,
{
    if out.len() <= ROW_BLOCK * row_len {
        f(0, out);
        return;
    }
    out.par_chunks_mut(ROW_BLOCK * row_len).enumerate().for_each(|(block, rows)| f(block * ROW_BLOCK, rows));
}

/// Sums `partial(block)` over blocks of `block_rows` rows into `out`, in block order.
///
/// `partial(first_row, n_rows, accumulator)` adds to a zeroed accumulator of `out.len()` elements.
pub(crate) fn sum_over_row_blocks<F>(out: &mut [f32], n_rows: usize, block_rows: usize, partial: F)
where
    F: Fn(usize, usize, &mut [f32]) + Sync + Send,
{
    let n_blocks = n_rows.div_ceil(block_rows);
    if n_blocks <= 1 {
        partial(0, n_rows, out);
        return;
    }
    let partials: Vec<Vec<f32>> = (0..n_blocks)
        .into_par_iter()
        .map(|block| {
            let first = block * block_rows;
            let mut accumulator = vec![0.0; out.len()];
            partial(first, block_rows.min(n_rows - first), &mut accumulator);
            accumulator
        })
        .collect();
    for accumulator in &partials {
        for (total, part) in out.iter_mut().zip(accumulator) {
            *total += part;
        }
    }
}
