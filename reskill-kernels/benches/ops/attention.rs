//! Attention over packed batches and to a paged cache.

use reskill_kernels::ops::{
    self, AttentionShape, CachedPlan, CachedSpan, Cost, PackedSegment, PackedSegments, cached_cost, cost,
    packed_cost,
};
use reskill_kernels::{Device, KernelError};

use crate::{Bench, random};

/// The default run's policy, and SmolLM2-135M.
const POLICY: AttentionShape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim: 32 };
const LARGE: AttentionShape = AttentionShape { n_heads: 9, n_kv_heads: 3, head_dim: 64 };
/// Positions of a page.
const PAGE: usize = 32;

pub(crate) fn run(bench: &Bench) -> Result<(), KernelError> {
    for (name, shape, trunk, branches, episodes) in [
        ("branches", POLICY, 64, 4, 32),
        ("causal", POLICY, 256, 0, 16),
        ("causal", LARGE, 512, 0, 1),
        ("causal", LARGE, 128, 0, 4),
    ] {
        packed(bench, name, shape, &episodes_of(trunk, branches, episodes))?;
    }
    for (shape, sequences, len, position) in [
        (POLICY, 128, 1, 200),
        (POLICY, 128, 24, 150),
        (LARGE, 8, 1, 500),
        (LARGE, 1, 1, 500),
        (LARGE, 1, 512, 0),
    ] {
        cached(bench, shape, sequences, len, position)?;
    }
    Ok(())
}

/// Episodes of a trunk and branches of 16 rows that see 16, 32, .. of it.
fn episodes_of(trunk: usize, branches: usize, episodes: usize) -> PackedSegments {
    let (mut segments, mut n) = (PackedSegments::new(), 0);
    for _ in 0..episodes {
        let start = n;
        segments.push(PackedSegment { start, len: trunk, prefix_start: start, prefix_len: 0 });
        n += trunk;
        for branch in 1..=branches {
            segments.push(PackedSegment { start: n, len: 16, prefix_start: start, prefix_len: 16 * branch });
            n += 16;
        }
    }
    segments
}

fn packed(
    bench: &Bench,
    name: &str,
    shape: AttentionShape,
    segments: &PackedSegments,
) -> Result<(), KernelError> {
    let n = segments.iter().map(|segment| segment.len).sum();
    let (width, out_width) = (shape.qkv_width(), shape.out_width());
    let (qkv, mut out, mut lse) =
        (random(&[n, width])?, random(&[n, out_width])?, random(&[n, shape.n_heads])?);
    let sizes = [("N", n), ("H", shape.n_heads), ("K", shape.n_kv_heads), ("D", shape.head_dim)];
    let least = packed_cost(segments, shape, 4);
    let cost = Cost { bytes: least.forward_bytes as u64, flops: least.forward_flops as u64 };
    bench.run(&format!("attention_forward_{name}"), &sizes, cost, || {
        ops::attention_forward(&mut out, &mut lse, &qkv, segments, shape)
    })?;
    let (d_out, mut d_qkv) = (random(&[n, out_width])?, random(&[n, width])?);
    let cost = Cost { bytes: least.backward_bytes as u64, flops: least.backward_flops as u64 };
    bench.run(&format!("attention_backward_{name}"), &sizes, cost, || {
        ops::attention_backward(&mut d_qkv, &d_out, &out, &lse, &qkv, segments, shape)
    })
}

/// `sequences` of `position` positions each that get `len` more.
fn cached(
    bench: &Bench,
    shape: AttentionShape,
    sequences: usize,
    len: usize,
    position: usize,
) -> Result<(), KernelError> {
    let (n, pages) = (sequences * len, (position + len).div_ceil(PAGE));
    let (qkv, mut out) = (random(&[n, shape.qkv_width()])?, random(&[n, shape.out_width()])?);
    let mut keys = random(&[sequences * pages, shape.kv_width(), PAGE])?;
    let mut values = random(&[sequences * pages, PAGE, shape.kv_width()])?;
    let blocks: Vec<u32> = (0..(sequences * pages) as u32).collect();
    let span = |(index, blocks)| CachedSpan { row: index * len, len, position, blocks };
    let spans: Vec<CachedSpan<'_>> = blocks.chunks(pages).enumerate().map(span).collect();
    let mut plan = CachedPlan::new(&Device::Cpu, shape, PAGE)?;
    plan.set(&spans, n, sequences * pages)?;
    let sizes = [
        ("N", n),
        ("T", position + len),
        ("H", shape.n_heads),
        ("K", shape.n_kv_heads),
        ("D", shape.head_dim),
    ];
    bench.run("cache_append", &sizes, cost::cache_append(n, shape.kv_width(), 4), || {
        ops::cache_append_planned(&mut keys, &mut values, &qkv, &plan)
    })?;
    let (flops, bytes) = cached_cost(&spans, shape, 4, PAGE, false);
    let cost = Cost { bytes: bytes as u64, flops: flops as u64 };
    bench.run("attention_cached", &sizes, cost, || {
        ops::attention_cached_planned(&mut out, &qkv, &keys, &values, &plan)
    })
}
