//! AdamW on a CUDA device.

use super::AdamWParams;
use super::cpu::Numbers;
use crate::cuda::{CudaDevice, Grid, Launch};
use crate::error::KernelError;
use crate::tensor::Tensor;

/// The tensors of one step.
pub(super) struct Step<'a> {
    pub(super) weight: &'a mut Tensor,
    /// f32, where the weight is bf16.
    pub(super) master: Option<&'a mut Tensor>,
    pub(super) m: &'a mut Tensor,
    pub(super) v: &'a mut Tensor,
    pub(super) grad: &'a Tensor,
    /// (1) f32.
    pub(super) scale: &'a Tensor,
}

pub(super) fn step(
    device: &CudaDevice,
    op: &'static str,
    tensors: Step<'_>,
    params: &AdamWParams,
) -> Result<(), KernelError> {
    let Step { weight, master, m, v, grad, scale } = tensors;
    let n = grad.len();
    let (bias1, bias2) = Numbers::new(params).biases();
    let kernel = if master.is_some() { "adamw_bf16" } else { "adamw_f32" };
    let mut launch = Launch::of(device, op, "adamw", kernel).output(weight);
    if let Some(master) = master {
        launch = launch.output(master);
    }
    let launch = launch
        .output(m)
        .output(v)
        .input(grad)
        .input(scale)
        .number(params.learning_rate)
        .number(params.beta1)
        .number(params.beta2)
        .number(params.eps)
        .number(params.weight_decay)
        .number(bias1)
        .number(bias2)
        .number(n as i64);
    let width = if n.is_multiple_of(8) { 8 } else { 1 };
    // SAFETY:
    // - arguments: order and types match `adamw_f32(float*, float*, float*, const float*, const float*, 7 float, i64)`, or
    //   `adamw_bf16` with a bf16* before them: the weight is bf16 exactly if there is a master (checked in `mod.rs`);
    // - bounds: all tensors hold n elements but `scale`, which holds one (checked in `mod.rs`); threads beyond n touch
    //   nothing;
    // - aliasing: the kernel writes `weight`, `master`, `m` and `v` only, all borrowed mutably here.
    unsafe { launch.launch(Grid::items(n.div_ceil(width))) }
}
