//! A bias: one number a column, added to every row.

use crate::error::{KernelError, check_shape};
use crate::parallel::{for_row_blocks, sum_over_row_blocks};
use crate::simd::axpy;
use crate::tensor::Tensor;

/// `out[n, o] += bias[o]`.
///
/// - `out`: (N, O) f32, added to
/// - `bias`: (O) f32
///
/// # Errors
/// [`KernelError::Shape`].
pub fn bias_forward(out: &mut Tensor, bias: &Tensor) -> Result<(), KernelError> {
    check_shape("bias_forward", "bias", bias.shape(), &[out.row_len()])?;
    let width = out.row_len();
    for_row_blocks(out.as_mut_slice(), width, |_, rows| {
        rows.chunks_exact_mut(width.max(1)).for_each(|row| axpy(row, 1.0, bias.as_slice()));
    });
    Ok(())
}

/// `d_bias[o] += sum_n d_out[n, o]`, in blocks of rows that are added in their order.
///
/// - `d_bias`: (O) f32, added to
/// - `d_out`: (N, O) f32
///
/// # Errors
/// [`KernelError::Shape`].
pub fn bias_backward(d_bias: &mut Tensor, d_out: &Tensor) -> Result<(), KernelError> {
    check_shape("bias_backward", "d_bias", d_bias.shape(), &[d_out.row_len()])?;
    let (n, width) = (d_out.rows(), d_out.row_len());
    sum_over_row_blocks(d_bias.as_mut_slice(), n, 256, |first, n_rows, d_bias| {
        let rows = &d_out.as_slice()[first * width..(first + n_rows) * width];
        rows.chunks_exact(width.max(1)).for_each(|row| axpy(d_bias, 1.0, row));
    });
    Ok(())
}
