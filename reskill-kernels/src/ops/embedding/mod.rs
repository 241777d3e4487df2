//! Embedding: one row of a table per token.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_range, check_shape};
use crate::tensor::Tensor;

/// `out[n] = table[tokens[n]]`.
///
/// - `out`: (N, C) T, overwritten
/// - `table`: (V, C) T
/// - `tokens`: (N) u32, each below V
///
/// T is f32, or bf16 on a CUDA device.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`]; [`KernelError::Range`] for a token outside
/// the table. Tokens on a CUDA device are not read back: there, one outside the table gives a row of NaN.
pub fn embedding_forward(out: &mut Tensor, table: &Tensor, tokens: &Tensor<u32>) -> Result<(), KernelError> {
    const OP: &str = "embedding_forward";
    check(OP, "out", out, table, tokens)?;
    let t = table.dtype();
    match placed(OP, &[table.is("table", t), out.is("out", t), tokens.is("tokens", DType::U32)])? {
        Device::Cpu => cpu::forward(out, table, tokens),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::forward(&device, out, table, tokens)?,
    }
    Ok(())
}

/// `d_table[tokens[n]] += d_out[n]`, in an order that depends on the tokens alone: deterministic.
///
/// - `d_table`: (V, C) f32, added to
/// - `d_out`: (N, C) f32, or bf16 on a CUDA device
/// - `tokens`: (N) u32, each below V
///
/// # Errors
/// As [`embedding_forward`]; on a CUDA device a token outside the table adds to nothing.
pub fn embedding_backward(
    d_table: &mut Tensor,
    d_out: &Tensor,
    tokens: &Tensor<u32>,
) -> Result<(), KernelError> {
    const OP: &str = "embedding_backward";
    check(OP, "d_out", d_out, d_table, tokens)?;
    let arguments = [
        d_out.is("d_out", d_out.dtype()),
        d_table.is("d_table", DType::F32),
        tokens.is("tokens", DType::U32),
    ];
    match placed(OP, &arguments)? {
        Device::Cpu => cpu::backward(d_table, d_out, tokens),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::backward(&device, d_table, d_out, tokens)?,
    }
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
    let Ok(tokens) = tokens.host() else { return Ok(()) };
    for &token in tokens {
        check_range((token as usize) < vocab_size, op, "tokens", token, format_args!("< {vocab_size}"))?;
    }
    Ok(())
}
