//! Definitions in f64 that several operations share.

/// Inner product.
pub(super) fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Row `index` of a matrix.
pub(super) fn row(matrix: &[f64], width: usize, index: usize) -> &[f64] {
    &matrix[index * width..][..width]
}

/// `log softmax` of logits.
pub(super) fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = top + logits.iter().map(|z| (z - top).exp()).sum::<f64>().ln();
    logits.iter().map(|z| z - lse).collect()
}

/// Logits of hidden row `n`.
pub(super) fn logits(hidden: &[f64], head: &[f64], c: usize, n: usize) -> Vec<f64> {
    head.chunks_exact(c).map(|head| inner(row(hidden, c, n), head)).collect()
}
