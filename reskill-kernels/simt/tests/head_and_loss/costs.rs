//! What the formulas say an operation multiplies is what its matrix instructions multiply.

use reskill_kernels::DType;
use reskill_kernels::ops::cost;

use crate::head::Case;
use crate::support::device;

/// Multiply-adds of the matrix instructions while `f` runs; none on a real device, which does not count.
fn multiplied(f: impl FnOnce()) -> Option<u64> {
    reskill_simt::counters::count(f).map(|counters| counters.multiply_adds)
}

#[test]
fn matrix_instructions_do_what_the_formulas_say() {
    let device = device();
    // Whole tiles of all kernels, so that nothing is padded: 128 rows, 256 tokens or columns, steps of 64.
    let (n, c, vocab) = (128, 256, 512);
    let case = Case::random(n, c, vocab, false, 1.0);
    let half = |cost: cost::Cost| cost.flops / 2;
    let forward = half(cost::linear_logprob_forward(n, c, vocab, 2));
    let Some(done) = multiplied(|| drop(case.forward(&device, DType::Bf16))) else { return };
    assert_eq!(done, forward);
    let d = vec![0.5; n];
    // `Case::backward` runs the forward pass first.
    let done = multiplied(|| drop(case.backward(&device, DType::Bf16, &d, &d, None)));
    assert_eq!(done, Some(forward + half(cost::linear_logprob_backward(n, c, vocab, 2))));
}
