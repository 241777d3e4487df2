//! AdamW on the CPU.

use multiversion::multiversion;
use rayon::prelude::*;

use super::AdamWParams;

/// Elements that a task takes at once.
const BLOCK: usize = 1 << 16;

/// The numbers of a step as the loop needs them.
pub(super) struct Numbers {
    params: AdamWParams,
    bias1: f32,
    bias2: f32,
}

impl Numbers {
    pub(super) fn new(params: &AdamWParams) -> Numbers {
        let [bias1, bias2] = params.bias_corrections();
        Numbers { params: *params, bias1, bias2 }
    }

    /// `1 - beta^step` of both moments.
    #[cfg(feature = "cuda")]
    pub(super) fn biases(&self) -> (f32, f32) {
        (self.bias1, self.bias2)
    }

    /// One element.
    #[inline(always)]
    pub(super) fn element(&self, weight: &mut f32, m: &mut f32, v: &mut f32, grad: f32) {
        let AdamWParams { learning_rate, beta1, beta2, eps, weight_decay, grad_scale, .. } = self.params;
        let grad = grad * grad_scale;
        *m = beta1 * *m + (1.0 - beta1) * grad;
        *v = beta2 * *v + (1.0 - beta2) * grad * grad;
        let update = (*m / self.bias1) / ((*v / self.bias2).sqrt() + eps);
        *weight -= learning_rate * (update + weight_decay * *weight);
    }
}

pub(super) fn step(weight: &mut [f32], m: &mut [f32], v: &mut [f32], grad: &[f32], params: &AdamWParams) {
    let numbers = Numbers::new(params);
    let moments = m.par_chunks_mut(BLOCK).zip(v.par_chunks_mut(BLOCK));
    let blocks = weight.par_chunks_mut(BLOCK).zip(grad.par_chunks(BLOCK)).zip(moments);
    blocks.for_each(|((weight, grad), (m, v))| block_step(weight, m, v, grad, &numbers));
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn block_step(weight: &mut [f32], m: &mut [f32], v: &mut [f32], grad: &[f32], numbers: &Numbers) {
    for (((weight, m), v), grad) in weight.iter_mut().zip(m).zip(v).zip(grad) {
        numbers.element(weight, m, v, *grad);
    }
}
