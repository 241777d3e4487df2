//! Parts of tensors that are looked at: rows by choice and by chance, and whether all of a result is numbers.

use std::collections::BTreeSet;

use anyhow::Result;
use rayon::prelude::*;
use reskill_kernels::{DType, Device, Tensor, ops};

use super::random::Stream;

/// Elements that are brought to the host at once.
const PIECE: usize = 1 << 22;

/// Which parts of a result are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    stream: Stream,
}

impl Sample {
    /// Another one for each `look`.
    pub(super) fn new(seed: u64, look: u64) -> Sample {
        Sample { stream: Stream::new(seed, 1_000_000 + look) }
    }

    /// Of `n` rows both ends, the edges of tiles, and sixteen by chance; in order.
    pub(super) fn rows(&self, n: usize) -> Vec<usize> {
        let last = n / 128 * 128;
        let edges = [15, 16, 31, 32, 63, 64, 127, 128, 255, 256, last.saturating_sub(1), last];
        self.some(n, &edges, 16)
    }

    /// The same in less, for what is dear to check: both ends, an edge, four by chance.
    pub(super) fn few(&self, n: usize) -> Vec<usize> {
        self.some(n, &[127, 128], 4)
    }

    fn some(&self, n: usize, edges: &[usize], n_random: usize) -> Vec<usize> {
        let random = (0..n_random).map(|index| self.stream.below(index, n.max(1)));
        let all = [0, n.saturating_sub(1)].into_iter().chain(edges.iter().copied()).chain(random);
        all.filter(|&row| row < n).collect::<BTreeSet<usize>>().into_iter().collect()
    }
}

/// Rows `first..first + n` of a tensor.
fn read(tensor: &Tensor, first: usize, n: usize) -> Result<Vec<f32>> {
    let mut rows = Tensor::zeros(&[n, tensor.row_len()], &Device::Cpu)?;
    rows.copy_rows_from(0, tensor, first, n)?;
    Ok(rows.as_slice().to_vec())
}

/// Row `index` of a tensor in f64.
pub(super) fn row_of(tensor: &Tensor, index: usize) -> Result<Vec<f64>> {
    Ok(read(tensor, index, 1)?.into_iter().map(f64::from).collect())
}

/// The value at `index` of a column.
pub(super) fn value_of(column: &Tensor, index: usize) -> Result<f64> {
    Ok(row_of(column, index)?.into_iter().sum())
}

/// Gives all rows of a tensor to `take`, some at once: the number of the first, and their values.
pub(super) fn for_pieces(tensor: &Tensor, mut take: impl FnMut(usize, &[f32])) -> Result<()> {
    let n_rows = tensor.rows();
    let at_once = (PIECE / tensor.row_len().max(1)).clamp(1, n_rows.max(1));
    for first in (0..n_rows).step_by(at_once) {
        take(first, &read(tensor, first, at_once.min(n_rows - first))?);
    }
    Ok(())
}

/// Columns of a tensor in f64.
pub(super) fn columns_of(tensor: &Tensor, columns: &[usize]) -> Result<Vec<Vec<f64>>> {
    let width = tensor.row_len();
    let mut all = vec![Vec::with_capacity(tensor.rows()); columns.len()];
    for_pieces(tensor, |_, rows| {
        for row in rows.chunks_exact(width) {
            all.iter_mut().zip(columns).for_each(|(all, &column)| all.push(f64::from(row[column])));
        }
    })?;
    Ok(all)
}

/// How many elements are no finite numbers. The device sums squares, which are finite if all elements are; the elements are
/// brought here only if not.
pub(super) fn not_finite(tensor: &Tensor) -> Result<usize> {
    let device = tensor.device();
    let mut total = Tensor::<f64>::zeros(&[1], &device)?;
    if tensor.dtype() == DType::F32 {
        ops::add_sum_squares(&mut total, tensor)?;
    } else {
        let (n_rows, width) = (tensor.rows(), tensor.row_len());
        let at_once = (PIECE / width.max(1)).clamp(1, n_rows.max(1));
        let mut piece = Tensor::zeros(&[at_once, width], &device)?;
        for first in (0..n_rows).step_by(at_once) {
            let n = at_once.min(n_rows - first);
            piece.set_rows(n)?;
            piece.copy_rows_from(0, tensor, first, n)?;
            ops::add_sum_squares(&mut total, &piece)?;
        }
    }
    if total.to_vec()?.iter().all(|total| total.is_finite()) {
        return Ok(0);
    }
    let mut count = 0;
    for_pieces(tensor, |_, values| count += values.par_iter().filter(|x| !x.is_finite()).count())?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_ends_edges_and_others_by_chance() {
        let rows = Sample::new(3, 0).rows(1000);
        for row in [0, 63, 64, 127, 128, 895, 896, 999] {
            assert!(rows.contains(&row), "{row} of {rows:?}");
        }
        assert!(rows.len() > 20 && rows.is_sorted() && rows.iter().all(|&row| row < 1000));
        assert_ne!(rows, Sample::new(3, 1).rows(1000));
        assert_eq!(Sample::new(3, 0).few(2), [0, 1]);
        assert_eq!(Sample::new(3, 0).rows(0), [0_usize; 0]);
    }

    #[test]
    fn poison_anywhere_is_counted() {
        let mut tensor = Tensor::zeros(&[70, 3], &Device::Cpu).unwrap();
        assert_eq!(not_finite(&tensor).unwrap(), 0);
        tensor.as_mut_slice()[77] = f32::NAN;
        tensor.as_mut_slice()[209] = f32::INFINITY;
        assert_eq!(not_finite(&tensor).unwrap(), 2);
    }

    #[test]
    fn parts_of_a_tensor_are_read() {
        let tensor = Tensor::from_vec(&[2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(row_of(&tensor, 1).unwrap(), [4.0, 5.0, 6.0]);
        assert_eq!(columns_of(&tensor, &[0, 2]).unwrap(), [[1.0, 4.0], [3.0, 6.0]]);
    }
}
