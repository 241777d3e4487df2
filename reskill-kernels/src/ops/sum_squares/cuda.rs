//! Sums of squares on a CUDA device.

use crate::cuda::{CudaDevice, Grid, Launch};
use crate::dtype::DType;
use crate::error::KernelError;
use crate::tensor::Tensor;

const UNIT: &str = "sum_squares";

pub(super) fn add(device: &CudaDevice, total: &mut Tensor<f64>, x: &Tensor) -> Result<(), KernelError> {
    const OP: &str = "add_sum_squares";
    let n = x.len();
    let n_parts = n.div_ceil(8192).min(1024);
    let mut parts = device.scratch_tensor::<f64>(OP, &[n_parts], DType::F64)?;
    let launch =
        Launch::of(device, OP, UNIT, "sum_squares_parts_f32").output(&mut parts).input(x).number(n as i64);
    // SAFETY:
    // - arguments: order and types match `sum_squares_parts_f32(double*, const float*, i64)`;
    // - bounds: `x` holds n elements, `parts` one f64 for each block;
    // - aliasing: the kernel writes `parts` only, borrowed mutably here.
    unsafe { launch.launch(Grid::linear(n_parts, 256)) }?;
    if n_parts == 0 {
        return Ok(());
    }
    let launch =
        Launch::of(device, OP, UNIT, "sum_squares_add_f64").output(total).input(&parts).size(n_parts);
    // SAFETY:
    // - arguments: order and types match `sum_squares_add_f64(double*, const double*, int)`;
    // - bounds: `total` holds one f64 (checked in `mod.rs`), `parts` as many as the size says;
    // - aliasing: the kernel writes `total` only, borrowed mutably here.
    unsafe { launch.launch(Grid::linear(1, 256)) }
}

pub(super) fn clip(
    device: &CudaDevice,
    scale: &mut Tensor,
    total: &Tensor<f64>,
    limit: f32,
) -> Result<(), KernelError> {
    let launch = Launch::of(device, "clip_scale", UNIT, "sum_squares_clip_f32")
        .output(scale)
        .input(total)
        .number(limit);
    // SAFETY:
    // - arguments: order and types match `sum_squares_clip_f32(float*, const double*, float)`;
    // - bounds: both tensors hold one number (checked in `mod.rs`), and there is one thread;
    // - aliasing: the kernel writes `scale` only, borrowed mutably here.
    unsafe { launch.launch(Grid::linear(1, 1)) }
}
