//! Sum of squares: the part of a gradient norm that one tensor adds.

use rayon::prelude::*;

use crate::tensor::Tensor;

/// Elements that one task sums.
const BLOCK: usize = 1 << 16;

/// `sum x^2` over all elements, accumulated in f64 in a fixed order: element by element in blocks of 65,536, then block by
/// block.
#[must_use]
pub fn sum_squares(x: &Tensor) -> f64 {
    let blocks = x.as_slice().par_chunks(BLOCK);
    let sums: Vec<f64> =
        blocks.map(|block| block.iter().map(|&x| f64::from(x) * f64::from(x)).sum()).collect();
    sums.iter().sum()
}
