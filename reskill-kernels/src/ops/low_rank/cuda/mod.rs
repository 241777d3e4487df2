//! The low-rank addition on a CUDA device: fused kernels where they reach, else one product after the other.

mod fused;
mod products;

use super::{LowRank, sizes};
use crate::cuda::CudaDevice;
use crate::dtype::DType;
use crate::error::KernelError;
use crate::tensor::Tensor;

/// Largest rank of the fused kernels.
const LARGEST_RANK: usize = 64;

pub(super) fn forward(
    device: &CudaDevice,
    out: &mut Tensor,
    x: &Tensor,
    pair: &LowRank<'_>,
) -> Result<(), KernelError> {
    let run = if is_fused(x, out.row_len(), pair) { fused::forward } else { products::forward };
    run(device, out, x, pair)
}

pub(super) fn backward(
    device: &CudaDevice,
    d_x: &mut Tensor,
    d_factors: (&mut Tensor, &mut Tensor),
    d_out: &Tensor,
    x: &Tensor,
    pair: &LowRank<'_>,
) -> Result<(), KernelError> {
    let run = if is_fused(x, d_out.row_len(), pair) { fused::backward } else { products::backward };
    run(device, d_x, d_factors, d_out, x, pair)
}

/// The fused kernels take bf16, 16 bytes at a time.
fn is_fused(x: &Tensor, width: usize, pair: &LowRank<'_>) -> bool {
    let (outputs, rank, inputs) = sizes(pair);
    let whole = [outputs, rank, inputs, width, pair.first_column].iter().all(|size| size.is_multiple_of(8));
    x.dtype() == DType::Bf16 && rank <= LARGEST_RANK && whole
}
