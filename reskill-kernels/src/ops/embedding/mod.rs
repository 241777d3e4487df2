//! Embedding: one row of a table per token.

mod cpu;

use crate::error::{KernelError, check_range, check_shape};
use crate::tensor::Tensor;

/// `out[n] = table[tokens[n]]`.
///
/// - `out`: (N, C) f32, overwritten
/// - `table`: (V, C) f32
/// - `tokens`: (N) u32, each below V
///
/// # Errors
/// [`KernelError::Shape`]; [`KernelError::Range`] for a token outside the table.
pub fn embedding_forward(out: &mut Tensor, table: &Tensor, tokens: &Tensor<u32>) -> Result<(), KernelError> {
    check("embedding_forward", "out", out, table, tokens)?;
    cpu::forward(out, table, tokens);
    Ok(())
}

/// `d_table[tokens[n]] += d_out[n]`, in the order of `n`: deterministic.
///
/// - `d_table`: (V, C) f32, added to
/// - `d_out`: (N, C) f32
/// - `tokens`: (N) u32, each below V
///
/// # Errors
/// As [`embedding_forward`].
pub fn embedding_backward(
    d_table: &mut Tensor,
    d_out: &Tensor,
    tokens: &Tensor<u32>,
) -> Result<(), KernelError> {
    check("embedding_backward", "d_out", d_out, d_table, tokens)?;
    cpu::backward(d_table, d_out, tokens);
    Ok(())
}

fn check(
    op: &'static str,
    arg: &'static str,
    rows: &Tensor,
    table: &Tensor,
    tokens: &Tensor<u32>,
) -> Result<(), KernelError> {
    check_shape(op, arg, rows.shape(), &[tokens.len(), table.row_len()])?;
    let vocab_size = table.rows();
    for &token in tokens.as_slice() {
        check_range((token as usize) < vocab_size, op, "tokens", token, format!("< {vocab_size}"))?;
    }
    Ok(())
}
