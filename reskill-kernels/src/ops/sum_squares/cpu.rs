//! Sums of squares on the CPU.

use rayon::prelude::*;

/// Elements that one task sums.
const BLOCK: usize = 1 << 16;

/// Element by element in blocks of 65,536, then block by block.
pub(super) fn sum(x: &[f32]) -> f64 {
    let blocks = x.par_chunks(BLOCK);
    let sums: Vec<f64> =
        blocks.map(|block| block.iter().map(|&x| f64::from(x) * f64::from(x)).sum()).collect();
    sums.iter().sum()
}
