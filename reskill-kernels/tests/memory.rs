//! The memory of the fused log-probability: a counting allocator around one call of each pass, on one thread of the test.

mod counting;

use reskill_kernels::ops::{TokenSets, linear_logprob_backward, linear_logprob_forward};
use reskill_kernels::{Device, Tensor};

use counting::peak_of;

#[test]
fn neither_pass_holds_the_logits_of_the_batch() {
    let (n, vocab, c) = (700, 60_000, 8);
    let filled = |shape: &[usize]| {
        let len = shape.iter().product();
        Tensor::from_vec(shape, (0..len).map(|i: usize| (i % 17) as f32 * 0.01).collect()).unwrap()
    };
    let column = || Tensor::<f32>::zeros(&[n], &Device::Cpu).unwrap();
    let (hidden, head) = (filled(&[n, c]), filled(&[vocab, c]));
    let targets = Tensor::from_vec(&[n], (0..n as u32).collect()).unwrap();
    let mut allowed = TokenSets::new();
    (0..n).for_each(|_| allowed.push(&[]));
    let (mut logprobs, mut entropy, mut lse) = (column(), column(), column());
    let mut forward = || {
        linear_logprob_forward(
            &mut logprobs,
            &mut entropy,
            &mut lse,
            &hidden,
            &head,
            &targets,
            &allowed,
            1.0,
        )
        .unwrap();
    };
    // The first call starts the threads and takes the scratch that `gemm` keeps.
    forward();
    let forward_peak = peak_of(forward);
    let ones = filled(&[n]);
    let (mut d_hidden, mut d_head) = (filled(&[n, c]), filled(&[vocab, c]));
    let backward_peak = peak_of(|| {
        linear_logprob_backward(
            &mut d_hidden,
            &mut d_head,
            &ones,
            &ones,
            &entropy,
            &lse,
            &hidden,
            &head,
            &targets,
            &allowed,
            1.0,
        )
        .unwrap();
    });
    // All logits would be 168 MB. The forward pass keeps 16 bytes a row and tile and some tiles of 128 rows, the backward
    // pass eight tiles of all 700 rows: 23 MB.
    assert!(forward_peak < 12 << 20, "forward: {forward_peak} bytes");
    assert!(backward_peak < 32 << 20, "backward: {backward_peak} bytes");
    assert!(backward_peak > 700 * 8192 * 4, "the allocator counts nothing");
}
