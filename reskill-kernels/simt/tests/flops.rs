//! The operations that the formulas of attention and of the divergence count are those of the matrix instructions.
//!
//! Tiles on the diagonal and at the end of a segment are multiplied whole though half of them is masked, so attention is
//! measured by what more whole tiles of a visible prefix add. A device that does not count leaves nothing to compare.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::tensor;
use reskill_kernels::ops::{
    self, AttentionShape, CachedPlan, CachedSpan, Distribution, PackedSegment, PackedSegments, TokenSets,
    cost,
};
use reskill_kernels::{DType, Device, KernelError};
use reskill_simt::counters;

const SHAPE: AttentionShape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim: 64 };

/// Multiply-adds of the matrix instructions of `work`.
fn multiplied(work: impl FnOnce() -> Result<(), KernelError>) -> Option<u64> {
    counters::count(|| work().unwrap()).map(|counters| counters.multiply_adds)
}

/// Multiply-adds of attention forward and backward, and what the formula says of them, for a trunk of 256 rows and 64 rows
/// that see `visible` of it.
fn packed(device: &Device, visible: usize) -> Option<[(u64, f64); 2]> {
    let segment = |start, len, prefix_len| PackedSegment { start, len, prefix_start: 0, prefix_len };
    let segments: PackedSegments = vec![segment(0, 256, 0), segment(256, 64, visible)].into();
    let n = 320;
    let [qkv, mut d_qkv] = [(); 2].map(|()| tensor(device, &[n, SHAPE.qkv_width()], DType::Bf16));
    let [mut out, d_out] = [(); 2].map(|()| tensor(device, &[n, SHAPE.out_width()], DType::Bf16));
    let mut lse = tensor(device, &[n, SHAPE.n_heads], DType::F32);
    let cost = ops::packed_cost(&segments, SHAPE, 2);
    let forward = multiplied(|| ops::attention_forward(&mut out, &mut lse, &qkv, &segments, SHAPE))?;
    let backward =
        multiplied(|| ops::attention_backward(&mut d_qkv, &d_out, &out, &lse, &qkv, &segments, SHAPE))?;
    Some([(forward, cost.forward_flops / 2.0), (backward, cost.backward_flops / 2.0)])
}

#[test]
fn a_visible_prefix_costs_attention_what_the_formula_says() {
    let device = reskill_simt::device();
    let (Some(less), Some(more)) = (packed(&device, 64), packed(&device, 192)) else { return };
    for (pass, ((less, less_floor), (more, more_floor))) in less.into_iter().zip(more).enumerate() {
        // The backward pass is two launches, which both compute scores and their gradients: seven products, not five.
        let launches = [1.0, 7.0 / 5.0][pass];
        assert_eq!((more - less) as f64, launches * (more_floor - less_floor), "pass {pass}");
        assert!(less as f64 >= less_floor && more as f64 >= more_floor, "pass {pass}: {less} {more}");
    }
}

#[test]
fn pages_of_the_cache_cost_attention_what_the_formula_says() {
    let device = reskill_simt::device();
    let (n, page, n_blocks) = (16, 32, 16);
    let blocks: Vec<u32> = (0..n_blocks as u32).collect();
    let width = SHAPE.kv_width();
    let on = device.clone().with_precision(DType::Bf16).unwrap();
    let keys = tensor(&device, &[n_blocks, width, page], DType::Bf16);
    let values = tensor(&device, &[n_blocks, page, width], DType::Bf16);
    let qkv = tensor(&device, &[n, SHAPE.qkv_width()], DType::Bf16);
    let mut out = tensor(&device, &[n, SHAPE.out_width()], DType::Bf16);
    let mut costs = Vec::new();
    for position in [4 * page, 12 * page] {
        let spans = [CachedSpan { row: 0, len: n, position, blocks: &blocks }];
        let mut plan = CachedPlan::new(&on, SHAPE, page).unwrap();
        plan.set(&spans, n, n_blocks).unwrap();
        let done = multiplied(|| ops::attention_cached_planned(&mut out, &qkv, &keys, &values, &plan));
        let Some(done) = done else { return };
        costs.push((done as f64, ops::cached_cost(&spans, SHAPE, 2, page, false).0 / 2.0));
    }
    let [(less, less_floor), (more, more_floor)] = costs[..] else { unreachable!("two positions") };
    assert_eq!(more - less, more_floor - less_floor);
    assert!(less >= less_floor, "{less} {less_floor}");
}

#[test]
fn the_divergence_costs_what_the_formula_says() {
    let device = reskill_simt::device();
    // Whole tiles: 64 rows or 128, 128 tokens, 128 columns of d_hidden, steps of 32.
    let (n, c, ref_c, v) = (128, 128, 64, 512);
    let [hidden, mut d_hidden] = [(); 2].map(|()| tensor(&device, &[n, c], DType::Bf16));
    let (head, ref_hidden) =
        (tensor(&device, &[v, c], DType::Bf16), tensor(&device, &[n, ref_c], DType::Bf16));
    let ref_head = tensor(&device, &[v, ref_c], DType::Bf16);
    let mut d_head = tensor(&device, &[v, c], DType::F32);
    let [lse, ref_lse, d_kl, mut kl] = [(); 4].map(|()| tensor(&device, &[n], DType::F32));
    let mut everything = TokenSets::new();
    (0..n).for_each(|_| everything.push(&[]));
    let policy = Distribution { hidden: &hidden, head: &head, lse: &lse };
    let reference = Distribution { hidden: &ref_hidden, head: &ref_head, lse: &ref_lse };
    let done = multiplied(|| ops::linear_kl_forward(&mut kl, policy, reference, &everything, 1.0));
    let Some(done) = done else { return };
    assert_eq!(done, cost::linear_kl_forward(n, c, ref_c, v, 2).flops / 2);
    let done = multiplied(|| {
        ops::linear_kl_backward(&mut d_hidden, &mut d_head, &d_kl, &kl, policy, reference, &everything, 1.0)
    });
    assert_eq!(done, Some(cost::linear_kl_backward(n, c, ref_c, v, 2).flops / 2));
}
