//! AdamW with eight-bit moments on a CUDA device.

use super::AdamWParams;
use super::eight_bit::Moments8;
use crate::cuda::{CudaDevice, Grid, Launch};
use crate::error::KernelError;
use crate::tensor::Tensor;

const OP: &str = "adamw_8bit";
/// Elements of a block of threads: eight warps, each a block of moments.
const BLOCK: usize = 2048;

pub(super) fn step(
    device: &CudaDevice,
    weight: &mut Tensor,
    moments: &mut Moments8,
    grad: &Tensor,
    scale: &Tensor,
    params: &AdamWParams,
) -> Result<(), KernelError> {
    let n = weight.len();
    let Moments8 { m, v } = moments;
    let launch = Launch::of(device, OP, OP, OP).output(weight).output(&mut m.codes).output(&mut v.codes);
    let launch = launch.output(&mut m.scales).output(&mut v.scales).input(grad).input(scale).number(n as i64);
    let &AdamWParams { learning_rate, beta1, beta2, eps, weight_decay, .. } = params;
    let [bias1, bias2] = params.bias_corrections();
    let numbers = [learning_rate, beta1, beta2, eps, weight_decay, bias1, bias2];
    let launch = numbers.into_iter().fold(launch, |launch, number| launch.number(number));
    // SAFETY:
    // - arguments: order and types match `adamw_8bit(float*, u8*, u8*, float*, float*, const float*, const float*, i64,
    //   float x 7)`;
    // - bounds: weights, codes and gradient hold n elements, scales one for each 256 of them, `scale` one (checked in
    //   `mod.rs`); a warp whose block begins at n or beyond returns, others stop at n;
    // - aliasing: all that is written is borrowed mutably.
    unsafe { launch.launch(Grid::linear(n.div_ceil(BLOCK), 256)) }
}
