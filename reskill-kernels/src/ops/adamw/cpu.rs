//! AdamW on the CPU.

use multiversion::multiversion;

use super::AdamWParams;

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
pub(super) fn step(weight: &mut [f32], m: &mut [f32], v: &mut [f32], grad: &[f32], params: &AdamWParams) {
    let &AdamWParams { learning_rate, beta1, beta2, eps, weight_decay, step, grad_scale } = params;
    let bias = |beta: f32| (1.0 - f64::from(beta).powf(step as f64)) as f32;
    let (bias1, bias2) = (bias(beta1), bias(beta2));
    for (((weight, m), v), grad) in weight.iter_mut().zip(m).zip(v).zip(grad) {
        let grad = grad * grad_scale;
        *m = beta1 * *m + (1.0 - beta1) * grad;
        *v = beta2 * *v + (1.0 - beta2) * grad * grad;
        let update = (*m / bias1) / ((*v / bias2).sqrt() + eps);
        *weight -= learning_rate * (update + weight_decay * *weight);
    }
}
