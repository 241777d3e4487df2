//! Attention to a paged cache on a CUDA device.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod attention_support;

use attention_support::cached::*;
use attention_support::*;
use reskill_kernels::ops::{
    CachedPlan, CachedSpan, attention_cached, attention_cached_planned, cache_append, cache_append_planned,
};
use reskill_kernels::{DType, Device, Tensor};
use reskill_simt::with_each_order;

#[test]
fn attention_to_the_cache_in_f32_equals_the_f64_version_for_every_page() {
    for (shape, page) in [
        (shape(3, 1, 16), 1),
        (shape(2, 2, 40), 5),
        (shape(7, 1, 64), 32),
        (shape(2, 1, 96), 32),
        (shape(1, 1, 200), 32),
    ] {
        Step::new(shape, DType::F32, page, mixed(page)).check();
    }
}

#[test]
fn attention_to_the_cache_in_bf16_without_tensor_cores_equals_the_f64_version() {
    Step::new(shape(3, 1, 40), DType::Bf16, 32, mixed(32)).check();
    Step::new(shape(2, 1, 64), DType::Bf16, 16, mixed(16)).check();
    Step::new(shape(2, 1, 96), DType::Bf16, 32, mixed(32)).check();
    Step::new(shape(1, 1, 200), DType::Bf16, 32, mixed(32)).check();
}

#[test]
fn attention_to_the_cache_on_tensor_cores_equals_the_f64_version() {
    for shape in [shape(1, 1, 64), shape(6, 2, 64), shape(7, 1, 64), shape(3, 1, 128), shape(20, 1, 64)] {
        Step::new(shape, DType::Bf16, 32, mixed(32)).check();
    }
}

#[test]
fn attention_to_long_sequences_is_merged_from_parts() {
    // 700 positions are cut into three parts; the span's rows begin in the middle of the last.
    for (shape, dtype) in
        [(shape(2, 1, 64), DType::Bf16), (shape(2, 1, 128), DType::Bf16), (shape(2, 1, 16), DType::F32)]
    {
        let rows = vec![(1, 699, blocks(0, 700, 32)), (9, 640, blocks(22, 700, 32))];
        Step::new(shape, dtype, 32, rows).check();
    }
}

#[test]
fn attention_of_rows_that_share_pages_equals_the_f64_version() {
    for (shape, dtype) in [
        (shape(2, 1, 64), DType::Bf16),
        (shape(3, 1, 64), DType::Bf16),
        (shape(5, 1, 64), DType::Bf16),
        (shape(2, 1, 128), DType::Bf16),
        (shape(5, 1, 128), DType::Bf16),
        (shape(2, 1, 16), DType::F32),
    ] {
        // Two groups of their own, and one row that shares nothing. The larger group is one small tile, two, or a large one.
        let mut rows = group(8, 3, 0);
        rows.extend(group(3, 2, 40));
        rows.push((1, 70, blocks(60, 71, 32)));
        Step::new(shape, dtype, 32, rows).check();
    }
}

#[test]
fn attention_of_rows_that_share_pages_level_by_level_equals_the_f64_version() {
    // All share two pages; then two groups share two more each; two rows of the first share all, even the open page.
    let row = |blocks: &[u32], position: usize| (1, position, blocks.to_vec());
    let rows = vec![
        row(&[0, 1, 2, 3, 8], 130),
        row(&[0, 1, 4, 5, 9], 128),
        row(&[0, 1, 2, 3, 8], 140),
        row(&[0, 1, 2, 3, 10], 127),
        row(&[0, 1, 4, 5, 11], 159),
        row(&[0, 1, 12], 64),
        row(&[0, 1], 63),
    ];
    Step::new(shape(2, 1, 64), DType::Bf16, 32, rows.clone()).check();
    Step::new(shape(2, 1, 24), DType::F32, 32, rows).check();
}

#[test]
fn attention_with_shared_pages_equals_that_with_pages_of_their_own() {
    let shared = Step::new(shape(2, 1, 64), DType::Bf16, 32, group(8, 3, 0));
    // The same numbers in blocks of their own.
    let n_blocks = 8 * 5;
    let (width, page) = (shared.shape.kv_width(), shared.page);
    let mut apart = Step {
        keys: poisoned(&shared.keys.device(), DType::Bf16, &[n_blocks, width, page]),
        values: poisoned(&shared.keys.device(), DType::Bf16, &[n_blocks, page, width]),
        qkv: shared.qkv.try_clone().unwrap(),
        rows: Vec::new(),
        ..shared
    };
    let shared = Step::new(shared.shape, DType::Bf16, 32, group(8, 3, 0));
    for (row, (len, position, blocks)) in shared.rows.iter().enumerate() {
        let own: Vec<u32> = (0..5).map(|index| (row * 5 + index) as u32).collect();
        for (&to, &from) in own.iter().zip(blocks) {
            apart.keys.copy_rows_from(to as usize, &shared.keys, from as usize, 1).unwrap();
            apart.values.copy_rows_from(to as usize, &shared.values, from as usize, 1).unwrap();
        }
        apart.rows.push((*len, *position, own));
    }
    let (want, got) = (wide(&apart.run()), wide(&shared.run()));
    // Both round weights below 1 that sum to 1, and the result: twice 2^-8 of values below 1, and less on average.
    assert_close(&got, &want, 2.0 * BF16, "shared");
    assert_rounded(&want, &shared.want(), DType::Bf16, 1.0, F32, "apart");
}

#[test]
fn attention_to_the_cache_has_the_same_bits_in_every_order_of_threads() {
    for (shape, dtype) in
        [(shape(2, 1, 64), DType::Bf16), (shape(2, 1, 128), DType::Bf16), (shape(2, 1, 24), DType::F32)]
    {
        let mut rows = group(8, 3, 0);
        rows.push((40, 300, blocks(20, 340, 32)));
        let step = Step::new(shape, dtype, 32, rows);
        let out = bits(&step.run());
        with_each_order(|order| assert_eq!(bits(&step.run()), out, "{order:?}"));
    }
}

#[test]
fn cache_append_writes_as_the_processor_does() {
    for (dtype, page) in [(DType::F32, 5), (DType::Bf16, 32)] {
        // 80 columns are one tile and a part of one; 49 rows too.
        let step = Step::new(shape(2, 2, 40), dtype, page, mixed(page));
        let host = |tensor: &Tensor| tensor.to_device_as(&Device::Cpu, DType::F32).unwrap();
        let (mut host_keys, mut host_values) = (host(&step.keys), host(&step.values));
        cache_append(&mut host_keys, &mut host_values, &host(&step.qkv), &step.spans(), step.shape).unwrap();
        with_each_order(|order| {
            let (mut keys, mut values) = (step.keys.try_clone().unwrap(), step.values.try_clone().unwrap());
            cache_append(&mut keys, &mut values, &step.qkv, &step.spans(), step.shape).unwrap();
            assert_eq!(bits(&keys), bits(&host_keys), "{order:?}");
            assert_eq!(bits(&values), bits(&host_values), "{order:?}");
        });
    }
}

#[test]
fn attention_from_the_cache_equals_packed_attention() {
    // A sequence in pieces through the cache, and in one.
    let (device, shape) = (reskill_simt::device(), shape(3, 1, 64));
    for dtype in [DType::F32, DType::Bf16] {
        let n = 101;
        let (qkv, held) = random(&device, dtype, &[n, shape.qkv_width()], 1, 1.0);
        let blocks = [3, 1, 0, 2];
        let mut keys = poisoned(&device, dtype, &[4, shape.kv_width(), 32]);
        let mut values = poisoned(&device, dtype, &[4, 32, shape.kv_width()]);
        let (mut all, mut position) = (Vec::new(), 0);
        for len in [60, 1, 1, 38, 1] {
            let mut new = poisoned(&device, dtype, &[len, shape.qkv_width()]);
            new.copy_rows_from(0, &qkv, position, len).unwrap();
            let span = [CachedSpan { row: 0, len, position, blocks: &blocks }];
            cache_append(&mut keys, &mut values, &new, &span, shape).unwrap();
            let mut out = poisoned(&device, dtype, &[len, shape.out_width()]);
            attention_cached(&mut out, &new, &keys, &values, &span, shape).unwrap();
            all.extend(wide(&out));
            position += len;
        }
        let want = reference(&held, &visible(&packed(&[(n, &[])]).0), shape).0;
        assert_rounded(&all, &want, dtype, 1.0, F32, "out");
    }
}

/// A plan's run, with one row of padding.
fn planned(step: &Step, plan: &CachedPlan) -> Tensor {
    let device = step.qkv.device();
    let n = step.qkv.rows();
    let mut qkv = poisoned(&device, step.qkv.dtype(), &[n + 1, step.shape.qkv_width()]);
    qkv.copy_rows_from(0, &step.qkv, 0, n).unwrap();
    let mut out = poisoned(&device, step.qkv.dtype(), &[n + 1, step.shape.out_width()]);
    let (mut keys, mut values) = (step.keys.try_clone().unwrap(), step.values.try_clone().unwrap());
    cache_append_planned(&mut keys, &mut values, &qkv, plan).unwrap();
    attention_cached_planned(&mut out, &qkv, &keys, &values, plan).unwrap();
    out
}

#[test]
fn padding_rows_get_zeros_and_leave_the_cache_alone() {
    for dtype in [DType::F32, DType::Bf16] {
        let device = reskill_simt::device().with_precision(dtype).unwrap();
        let step = Step::new(shape(2, 1, 64), dtype, 32, group(5, 2, 0));
        let mut plan = CachedPlan::new(&device, step.shape, 32).unwrap();
        plan.set(&step.spans(), 6, step.keys.rows()).unwrap();
        let out = wide(&planned(&step, &plan));
        let (rows, padding) = out.split_at(5 * step.shape.out_width());
        assert!(padding.iter().all(|&x| x == 0.0), "{padding:?}");
        // The step's own keys were written over those of its last positions.
        let (mut keys, mut values) = (step.keys.try_clone().unwrap(), step.values.try_clone().unwrap());
        cache_append(&mut keys, &mut values, &step.qkv, &step.spans(), step.shape).unwrap();
        let want = wide(&Step { keys, values, ..step }.run());
        assert_eq!(rows, want);
    }
}

#[test]
fn a_recorded_step_serves_later_steps_with_other_tables() {
    let device = reskill_simt::device().with_precision(DType::Bf16).unwrap();
    let (shape, n_blocks) = (shape(2, 1, 64), 100);
    let (keys, _) = random(&device, DType::Bf16, &[n_blocks, shape.kv_width(), 32], 1, 1.0);
    let (values, _) = random(&device, DType::Bf16, &[n_blocks, 32, shape.kv_width()], 2, 1.0);
    let (qkv, _) = random(&device, DType::Bf16, &[8, shape.qkv_width()], 3, 1.0);
    let steps = [group(8, 3, 0), group(8, 2, 30), group(7, 3, 50)];
    let mut plan = CachedPlan::new(&device, shape, 32).unwrap();
    let set = |plan: &mut CachedPlan, rows: &[Row]| {
        plan.set(&spans(rows), 8, n_blocks).unwrap();
    };
    set(&mut plan, &steps[0]);
    let mut out = poisoned(&device, DType::Bf16, &[8, shape.out_width()]);
    // Once before it is recorded: kernels are loaded and scratch memory is taken.
    attention_cached_planned(&mut out, &qkv, &keys, &values, &plan).unwrap();
    let generation = plan.generation();
    let graph = device.record(|| attention_cached_planned(&mut out, &qkv, &keys, &values, &plan)).unwrap();
    for rows in &steps {
        set(&mut plan, rows);
        assert_eq!(plan.generation(), generation);
        out.fill(f32::NAN).unwrap();
        graph.launch().unwrap();
        let got = bits(&out);
        let mut want = poisoned(&device, DType::Bf16, &[8, shape.out_width()]);
        attention_cached_planned(&mut want, &qkv, &keys, &values, &plan).unwrap();
        assert_eq!(got, bits(&want));
        assert!(wide(&out).iter().all(|x| x.is_finite()));
    }
    // A step with more tiles does not fit what was recorded, and says so.
    let mut more: Vec<Row> = (0..8).map(|row| (1, 383, blocks(12 * row, 384, 32))).collect();
    more[0] = (1, 1599, (0..50).collect());
    set(&mut plan, &more);
    assert_ne!(plan.generation(), generation);
}

#[test]
fn plans_of_other_caches_are_refused() {
    let device = reskill_simt::device();
    let step = Step::new(shape(2, 1, 16), DType::F32, 32, group(2, 2, 0));
    let (n, n_blocks) = (step.qkv.rows(), step.keys.rows());
    let mut plan = CachedPlan::new(&device, step.shape, 32).unwrap();
    plan.set(&step.spans(), n, n_blocks).unwrap();
    let mut out = poisoned(&device, DType::F32, &[n, step.shape.out_width()]);
    let mut run = |plan: &CachedPlan| {
        attention_cached_planned(&mut out, &step.qkv, &step.keys, &step.values, plan)
            .map_err(|e| e.to_string())
    };
    assert_eq!(run(&plan), Ok(()));
    plan.set(&step.spans(), n + 1, n_blocks).unwrap();
    assert_eq!(run(&plan).unwrap_err(), "attention_cached: `qkv.rows()` = 2, expected 3 rows of the plan");
    plan.set(&step.spans(), n, n_blocks + 1).unwrap();
    let expected =
        format!("attention_cached: `values.rows()` = {n_blocks}, expected at least {}", n_blocks + 1);
    assert_eq!(run(&plan).unwrap_err(), expected);
    let mut on_host = CachedPlan::new(&Device::Cpu, step.shape, 32).unwrap();
    on_host.set(&step.spans(), n, n_blocks).unwrap();
    let expected = "attention_cached: `plan` is on cpu, expected cuda:0; copy it with `Tensor::to_device`";
    assert_eq!(run(&on_host).unwrap_err(), expected);
    let err = plan.set(&step.spans(), n, 1).unwrap_err().to_string();
    assert_eq!(err, "CachedPlan::set: `spans[].blocks` = 1, expected < 1");
    let err = plan.set(&step.spans(), 1, n_blocks).unwrap_err().to_string();
    assert_eq!(err, "CachedPlan::set: `spans` = 2 rows, expected at most 1 rows");
}
