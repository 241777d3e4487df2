//! SwiGLU on a CUDA device.

use crate::cuda::{CudaDevice, Grid, Launch};
use crate::error::KernelError;
use crate::tensor::Tensor;

const UNIT: &str = "swiglu";

pub(super) fn forward(device: &CudaDevice, out: &mut Tensor, gate_up: &Tensor) -> Result<(), KernelError> {
    let (n, f) = (out.rows(), out.row_len());
    let kernel = gate_up.dtype().pick("swiglu_forward_f32", "swiglu_forward_bf16");
    let launch = Launch::of(device, "swiglu_forward", UNIT, kernel).output(out).input(gate_up).size(f);
    // SAFETY:
    // - arguments: order and types match `swiglu_forward_T(T*, const T*, int)`, T being the type of both tensors (checked
    //   in `mod.rs`);
    // - bounds: `out` holds N * F elements, `gate_up` twice as many (checked in `mod.rs`); blocks of x = n touch row n
    //   only, and elements from F on are left alone;
    // - aliasing: the kernel writes `out` only, borrowed mutably here.
    unsafe { launch.launch(Grid::row_runs(n, f)) }
}

pub(super) fn backward(
    device: &CudaDevice,
    d_gate_up: &mut Tensor,
    d_out: &Tensor,
    gate_up: &Tensor,
) -> Result<(), KernelError> {
    let (n, f) = (d_out.rows(), d_out.row_len());
    let kernel = gate_up.dtype().pick("swiglu_backward_f32", "swiglu_backward_bf16");
    let launch = Launch::of(device, "swiglu_backward", UNIT, kernel)
        .output(d_gate_up)
        .input(d_out)
        .input(gate_up)
        .size(f);
    // SAFETY:
    // - arguments: order and types match `swiglu_backward_T(T*, const T*, const T*, int)`, T being the type of all three
    //   tensors (checked in `mod.rs`);
    // - bounds: `d_out` holds N * F elements, the others twice as many (checked in `mod.rs`); blocks of x = n touch row n
    //   only, and elements from F on are left alone;
    // - aliasing: the kernel writes `d_gate_up` only, borrowed mutably here.
    unsafe { launch.launch(Grid::row_runs(n, f)) }
}
