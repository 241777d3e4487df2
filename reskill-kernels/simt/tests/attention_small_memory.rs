//! Attention on tensor cores where a block has 99 KiB of shared memory: the kernels of one buffer. In a program of its own,
//! since the device's capability holds for the process.

mod attention_support;

use attention_support::*;
use reskill_kernels::ops::{attention_backward, attention_forward};
use reskill_kernels::{DType, Device};

#[test]
fn attention_with_little_shared_memory_equals_the_f64_version() {
    reskill_simt::set_capability(86);
    let device = reskill_simt::device();
    if let (Device::Cuda(cuda), true) = (&device, reskill_simt::is_stand_in()) {
        assert_eq!(cuda.properties().shared_memory_per_block, 99 << 10);
    }
    let shape = shape(2, 1, 128);
    let branches: Vec<(usize, usize)> = (0..10).map(|index| (10 + 5 * index, 9)).collect();
    for (segments, n) in [odd_batch(), packed(&[(70, &branches)])] {
        let (qkv, held) = random(&device, DType::Bf16, &[n, shape.qkv_width()], 1, 1.0);
        let (d_out, held_d_out) = random(&device, DType::Bf16, &[n, shape.out_width()], 2, 1.0);
        let mut out = poisoned(&device, DType::Bf16, &[n, shape.out_width()]);
        let mut lse = poisoned(&device, DType::F32, &[n, shape.n_heads]);
        let mut d_qkv = poisoned(&device, DType::Bf16, &[n, shape.qkv_width()]);
        let counters = reskill_simt::counters::count(|| {
            attention_forward(&mut out, &mut lse, &qkv, &segments, shape).unwrap();
            attention_backward(&mut d_qkv, &d_out, &out, &lse, &qkv, &segments, shape).unwrap();
        });
        assert!(counters.is_none_or(|counters| counters.multiply_adds > 0), "not on tensor cores");
        let seen = visible(&segments);
        // As in the tests of the forward and of the backward pass.
        assert_rounded(&wide(&out), &reference(&held, &seen, shape).0, DType::Bf16, 1.0, 4e-6, "out");
        let want = reference_gradient(&held, &held_d_out, &seen, shape);
        assert_rounded(&wide(&d_qkv), &want, DType::Bf16, 1.5, 3e-5, "d_qkv");
    }
}
