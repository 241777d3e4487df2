//! Attention of many rows to a paged cache by the kernel for compute capability 9.0. In a program of its own, since the
//! device's capability holds for the process.

mod attention_support;

use attention_support::cached::*;
use attention_support::*;
use reskill_kernels::ops::{AttentionShape, CachedPlan, attention_cached_planned};
use reskill_kernels::{DType, Device};
use reskill_simt::{counters, with_each_order};

/// The only type that these kernels take.
const BF16_ROWS: DType = DType::Bf16;

fn device() -> Device {
    reskill_simt::set_capability(90);
    reskill_simt::device()
}

fn step(shape: AttentionShape, rows: Vec<Row>) -> Step {
    device();
    Step::new(shape, BF16_ROWS, 32, rows)
}

/// Spans of these lengths and positions, in blocks of their own in odd order.
fn rows(spans: &[(usize, usize)]) -> Vec<Row> {
    let mut next = 0;
    let row = |&(len, position): &(usize, usize)| {
        let blocks = blocks(next, position + len, 32);
        next += blocks.len() as u32;
        (len, position, blocks)
    };
    spans.iter().map(row).collect()
}

#[test]
fn attention_to_the_cache_on_warpgroups_equals_the_f64_version() {
    for shape in [shape(1, 1, 64), shape(6, 2, 64), shape(7, 1, 64), shape(3, 1, 128), shape(4, 2, 128)] {
        step(shape, mixed(32)).check();
        // Before the rows nothing, pages and parts of pages; ends within a page, at its end and at that of 128 positions.
        step(shape, rows(&[(65, 0), (1, 40), (70, 58), (33, 31), (96, 160), (0, 3), (40, 97)])).check();
    }
}

#[test]
fn long_spans_on_warpgroups_equal_the_f64_version() {
    // More tiles of keys than there are stages, whole or cut into parts that some rows of a tile do not see.
    step(shape(1, 1, 64), rows(&[(300, 500), (140, 0)])).check();
    step(shape(2, 1, 64), rows(&[(600, 0)])).check();
    step(shape(2, 1, 128), rows(&[(90, 650)])).check();
    step(shape(7, 1, 128), rows(&[(130, 333), (5, 700), (1, 699)])).check();
}

#[test]
fn rows_that_share_pages_on_warpgroups_equal_the_f64_version() {
    for shape in [shape(2, 1, 64), shape(5, 1, 128)] {
        // One large tile of half a block or two of them, with what each row has for itself in small ones.
        let mut rows = group(24, 3, 0);
        rows.extend(group(40, 6, 60));
        rows.push((80, 70, blocks(150, 150, 32)));
        step(shape, rows).check();
    }
}

#[test]
fn attention_to_the_cache_on_warpgroups_has_the_same_bits_in_every_order_of_threads() {
    for shape in [shape(3, 1, 64), shape(2, 1, 128)] {
        let step = step(shape, rows(&[(75, 500), (50, 13), (1, 300)]));
        let out = bits(&step.run());
        with_each_order(|order| assert_eq!(bits(&step.run()), out, "{order:?}"));
    }
}

#[test]
fn attention_to_the_cache_on_warpgroups_multiplies_what_a_tile_sees() {
    let step = step(shape(1, 1, 64), rows(&[(256, 0), (64, 200)]));
    let Some(counters) = counters::count(|| drop(step.run())) else { return };
    // Tiles of 128 keys: one and two for the halves of the first span, three for the second, which is one warpgroup's.
    assert_eq!(counters.multiply_adds, 2 * 64 * 128 * 64 * (2 + 2 * 2 + 3));
}

#[test]
fn a_recorded_prefill_on_warpgroups_serves_later_spans() {
    let device = device().with_precision(BF16_ROWS).unwrap();
    let (shape, n, n_blocks) = (shape(2, 1, 64), 150, 60);
    let (keys, _) = random(&device, BF16_ROWS, &[n_blocks, shape.kv_width(), 32], 1, 1.0);
    let (values, _) = random(&device, BF16_ROWS, &[n_blocks, 32, shape.kv_width()], 2, 1.0);
    let (qkv, _) = random(&device, BF16_ROWS, &[n, shape.qkv_width()], 3, 1.0);
    let mut plan = CachedPlan::new(&device, shape, 32).unwrap();
    let steps = [[(90, 100), (60, 200)], [(70, 10), (60, 333)], [(100, 0), (50, 270)]];
    plan.set(&spans(&rows(&steps[0])), n, n_blocks).unwrap();
    let mut out = poisoned(&device, BF16_ROWS, &[n, shape.out_width()]);
    attention_cached_planned(&mut out, &qkv, &keys, &values, &plan).unwrap();
    let generation = plan.generation();
    let graph = device.record(|| attention_cached_planned(&mut out, &qkv, &keys, &values, &plan)).unwrap();
    for step in &steps {
        plan.set(&spans(&rows(step)), n, n_blocks).unwrap();
        assert_eq!(plan.generation(), generation);
        out.fill(f32::NAN).unwrap();
        graph.launch().unwrap();
        let got = bits(&out);
        let mut want = poisoned(&device, BF16_ROWS, &[n, shape.out_width()]);
        attention_cached_planned(&mut want, &qkv, &keys, &values, &plan).unwrap();
        assert_eq!(got, bits(&want));
        assert!(wide(&out).iter().all(|x| x.is_finite()));
    }
}
