//! Sum of squares: the part of a gradient norm that one tensor adds.

use crate::tensor::Tensor;

/// `sum x^2` over all elements, accumulated in f64 in a fixed order.
#[must_use]
pub fn sum_squares(x: &Tensor) -> f64 {
    x.as_slice().iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}
