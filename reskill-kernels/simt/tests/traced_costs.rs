//! The bytes of the formulas in `ops::cost` are those that kernels touch: each byte read and each byte written once.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{ids, tensor};
use reskill_kernels::ops::cost::{self, Cost};
use reskill_kernels::ops::{
    self, AdamWParams, AttentionShape, CachedPlan, CachedSpan, Distribution, GrpoLossInputs, GrpoLossParams,
    LowRank, Moments8, PackedSegment, PackedSegments, RopeTable, Rotation, SamplingFilter, TokenSets,
};
use reskill_kernels::{DType, Device, KernelError, Tensor};
use reskill_simt::counters;

/// Bytes that the launches of `work` read and wrote.
fn touched(work: impl FnOnce() -> Result<(), KernelError>) -> u64 {
    let counted = counters::count(|| work().unwrap()).unwrap();
    counted.read_bytes + counted.written_bytes
}

fn column(device: &Device, n: usize) -> Tensor {
    tensor(device, &[n], DType::F32)
}

/// `work` touches just what the formula says.
fn check(name: &str, cost: Cost, work: impl FnOnce() -> Result<(), KernelError>) {
    assert_eq!(touched(work), cost.bytes, "{name}");
}

/// `work` touches what the formula says and besides `scratch` bytes at most, written and read.
fn check_with_scratch(
    name: &str,
    cost: Cost,
    scratch: usize,
    work: impl FnOnce() -> Result<(), KernelError>,
) {
    let (touched, floor, most) = (touched(work), cost.bytes, cost.bytes + 2 * scratch as u64);
    assert!((floor..=most).contains(&touched), "{name}: {touched} bytes, expected {floor} to {most}");
}

#[test]
fn operations_on_rows_touch_what_the_formulas_say() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, c, s) = (37, 40, dtype.size());
        let (x, weight, mut out) =
            (tensor(&device, &[n, c], dtype), tensor(&device, &[c], dtype), tensor(&device, &[n, c], dtype));
        let mut rstd = column(&device, n);
        check("rms_norm_forward", cost::rms_norm_forward(n, c, s), || {
            ops::rms_norm_forward(&mut out, &mut rstd, &x, &weight, 1e-5)
        });
        let [residual, mut sum] = [(); 2].map(|()| tensor(&device, &[n, c], dtype));
        check("residual_rms_norm_forward", cost::residual_rms_norm_forward(n, c, s), || {
            ops::residual_rms_norm_forward(&mut out, &mut sum, &mut rstd, &x, &residual, &weight, 1e-5)
        });
        let (gate_up, mut d_gate_up) =
            (tensor(&device, &[n, 2 * c], dtype), tensor(&device, &[n, 2 * c], dtype));
        check("swiglu_forward", cost::swiglu_forward(n, c, s), || ops::swiglu_forward(&mut out, &gate_up));
        check("swiglu_backward", cost::swiglu_backward(n, c, s), || {
            ops::swiglu_backward(&mut d_gate_up, &x, &gate_up)
        });
        let table = tensor(&device, &[50, c], dtype);
        let tokens = ids(&device, &(0..n as u32).map(|i| i * 11 % 50).collect::<Vec<u32>>());
        check("embedding_forward", cost::embedding_forward(n, n, c, s), || {
            ops::embedding_forward(&mut out, &table, &tokens)
        });
        // One head of 40; the table's cosines and sines come besides, a row for each position.
        let rope = RopeTable::new(n, c, 10_000.0).unwrap().to_device(&device).unwrap();
        let positions = ids(&device, &(0..n as u32).collect::<Vec<u32>>());
        let mut qkv = tensor(&device, &[n, 3 * c], dtype);
        check_with_scratch("rope_forward", cost::rope(n, c, s), n * c * 4 / 2, || {
            ops::rope_forward(&mut qkv, &positions, &rope, 1)
        });
    }
}

#[test]
fn the_output_head_touches_what_the_formulas_say() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, c, v, s) = (5, 40, 300, dtype.size());
        let (hidden, head) = (tensor(&device, &[n, c], dtype), tensor(&device, &[v, c], dtype));
        let targets = ids(&device, &[1, 299, 7, 30, 256]);
        let mut everything = TokenSets::new();
        (0..n).for_each(|_| everything.push(&[]));
        let [mut logprobs, mut entropy, mut lse, d] = [(); 4].map(|()| column(&device, n));
        // Two strips of 16 bytes a row, and the target's logit; the targets are read in both launches.
        let strips = n * (2 * 16 + 4 + 4);
        check_with_scratch(
            "linear_logprob_forward",
            cost::linear_logprob_forward(n, c, v, s),
            strips,
            || {
                ops::linear_logprob_forward(
                    &mut logprobs,
                    &mut entropy,
                    &mut lse,
                    &hidden,
                    &head,
                    &targets,
                    &everything,
                    1.0,
                )
            },
        );
        let (mut d_hidden, mut d_head) =
            (tensor(&device, &[n, c], dtype), tensor(&device, &[v, c], DType::F32));
        // The slab, and hidden states and head once more for the products.
        let slab = n * 512 * s + (n + v) * c * s;
        check_with_scratch(
            "linear_logprob_backward",
            cost::linear_logprob_backward(n, c, v, s),
            slab,
            || {
                ops::linear_logprob_backward(
                    &mut d_hidden,
                    &mut d_head,
                    &d,
                    &d,
                    &entropy,
                    &lse,
                    &hidden,
                    &head,
                    &targets,
                    &everything,
                    1.0,
                )
            },
        );
    }
}

#[test]
fn token_sets_touch_what_the_formulas_say() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, c, v, s) = (5, 40, 300, dtype.size());
        let (hidden, head) = (tensor(&device, &[n, c], dtype), tensor(&device, &[v, c], dtype));
        let targets = ids(&device, &[1, 299, 7, 30, 256]);
        let mut allowed = TokenSets::new();
        [&[1_u32, 7, 9][..], &[299], &[3, 7, 9, 1], &[30, 1], &[256, 299]]
            .iter()
            .for_each(|set| allowed.push(set));
        let (e, distinct) = (12, 7);
        let [mut logprobs, mut entropy, mut lse, d] = [(); 4].map(|()| column(&device, n));
        // The logits, written and read, and sets and rows once more.
        check_with_scratch(
            "linear_logprob_forward",
            cost::linear_logprob_sets_forward(n, c, e, distinct, s),
            6 * e + 6 * n + 4,
            || {
                ops::linear_logprob_forward(
                    &mut logprobs,
                    &mut entropy,
                    &mut lse,
                    &hidden,
                    &head,
                    &targets,
                    &allowed,
                    1.0,
                )
            },
        );
        let (mut d_hidden, mut d_head) =
            (tensor(&device, &[n, c], dtype), tensor(&device, &[v, c], DType::F32));
        // Hidden states and head once more for the products; logits and their gradients; tables of four launches.
        let again = (n + distinct) * c * s;
        let lists = 4 * (5 * e + 6 * e + 2 * distinct + 5 * n + 8);
        check_with_scratch(
            "linear_logprob_backward",
            cost::linear_logprob_sets_backward(n, c, e, distinct, s),
            (again + lists).div_ceil(2),
            || {
                ops::linear_logprob_backward(
                    &mut d_hidden,
                    &mut d_head,
                    &d,
                    &d,
                    &entropy,
                    &lse,
                    &hidden,
                    &head,
                    &targets,
                    &allowed,
                    1.0,
                )
            },
        );
    }
}

#[test]
fn low_rank_additions_touch_what_the_formulas_say() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, i, r, o, width, s) = (37, 40, 8, 24, 72, dtype.size());
        let [x, mut d_x] = [(); 2].map(|()| tensor(&device, &[n, i], dtype));
        let (a, b) = (tensor(&device, &[r, i], dtype), tensor(&device, &[o, r], dtype));
        let [mut out, d_out] = [(); 2].map(|()| tensor(&device, &[n, width], dtype));
        let pair = LowRank { a: &a, b: &b, scale: 0.5, first_column: 24 };
        // In bf16 one kernel does it all. In f32 inner values and what is added are written and read.
        let scratch = if dtype == DType::Bf16 { 0 } else { n * r * s + n * o * 4 };
        check_with_scratch("low_rank_forward", cost::low_rank_forward(n, i, r, o, s), scratch, || {
            ops::low_rank_forward(&mut out, &x, &pair)
        });
        let mut d_a = tensor(&device, &[r, i], DType::F32);
        let mut d_b = tensor(&device, &[o, r], DType::F32);
        let scratch = if dtype == DType::Bf16 {
            // Inputs and gradient once more, two arrays of inner values in rows of 16, and one part of the factors' gradients.
            n * (i + o) * s / 2 + 2 * n * 16 * s + r * (i + o) * 4
        } else {
            // The columns of the gradient and two arrays of inner values, each written and read twice at most; inputs and
            // the first factor once more.
            (3 * n * (o + 2 * r) * s + (n + r) * i * s).div_ceil(2)
        };
        check_with_scratch("low_rank_backward", cost::low_rank_backward(n, i, r, o, s), scratch, || {
            ops::low_rank_backward(&mut d_x, (&mut d_a, &mut d_b), &d_out, &x, &pair)
        });
    }
}

#[test]
fn casts_and_fills_touch_each_element_once() {
    let device = reskill_simt::device();
    let n = 777;
    let bytes = |bytes: usize| Cost { bytes: bytes as u64, flops: 0 };
    let mut wide = column(&device, n);
    let mut narrow = tensor(&device, &[n], DType::Bf16);
    check("f32 to bf16", bytes(n * (4 + 2)), || narrow.copy_from(&wide));
    check("bf16 to f32", bytes(n * (4 + 2)), || wide.copy_from(&narrow));
    check("fill of f32", bytes(n * 4), || wide.fill(0.5));
    check("fill of bf16", bytes(n * 2), || narrow.fill(0.5));
}

#[test]
fn loss_sampling_and_optimizer_touch_what_the_formulas_say() {
    let device = reskill_simt::device();
    let n = 600;
    let (x, sequences) = (column(&device, n), ids(&device, &vec![0; n]));
    let [mut d_logprobs, mut d_entropy] = [(); 2].map(|()| column(&device, n));
    let mut sums = Tensor::<f64>::zeros(&[9], &device).unwrap();
    let [logprobs, old, reference, entropy, advantages] = [(); 5].map(|()| column(&device, n));
    let inputs = GrpoLossInputs {
        logprobs: &logprobs,
        old_logprobs: &old,
        sampler_logprobs: &x,
        ref_logprobs: &reference,
        entropy: &entropy,
        advantages: &advantages,
        weights: &x,
        sequences: &sequences,
    };
    let params = GrpoLossParams { clip_low: 0.2, clip_high: 0.2, kl_coef: 0.1, ..GrpoLossParams::default() };
    // Three blocks of nine sums.
    check_with_scratch("grpo_loss", cost::grpo_loss(n, 1), 3 * 72, || {
        ops::grpo_loss_into(&mut d_logprobs, &mut d_entropy, &mut sums, &inputs, &params)
    });
    let (mut weight, grad) = (column(&device, n), column(&device, n));
    let mut moments = Moments8::zeros(n, &device).unwrap();
    let step = AdamWParams {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.0,
        step: 1,
        grad_scale: 1.0,
    };
    // A factor on the gradient is read.
    check_with_scratch("adamw_8bit", cost::adamw_8bit(n), 4, || {
        ops::adamw_8bit(&mut weight, &mut moments, &grad, &step)
    });
    let mut m_and_v = [(); 2].map(|()| column(&device, n));
    let [m, v] = &mut m_and_v;
    check_with_scratch("adamw", cost::adamw(n), 4, || ops::adamw(&mut weight, m, v, &grad, &step));
    let mut rounded = tensor(&device, &[n], DType::Bf16);
    let scale = Tensor::from_slice(&[1], &[1.0], &device, DType::F32).unwrap();
    check_with_scratch("adamw in bf16", cost::adamw_bf16(n), 4, || {
        ops::adamw_scaled(&mut rounded, Some(&mut weight), (m, v), &grad, &scale, &step)
    });
    // One block's sum.
    check_with_scratch("sum_squares", cost::sum_squares(n, 4), 16, || ops::sum_squares(&grad).map(drop));
    let logits = tensor(&device, &[3, 700], DType::Bf16);
    check("sample_logits", cost::sample_logits(3, 700, 2), || {
        ops::sample_logits(&logits, &[SamplingFilter::default(); 3], &[0.1, 0.5, 0.9]).map(drop)
    });
}

#[test]
fn gradients_of_operations_on_rows_touch_what_the_formulas_say() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, c, v, s) = (37, 40, 50, dtype.size());
        let [x, d_out, mut d_x] = [(); 3].map(|()| tensor(&device, &[n, c], dtype));
        let weight = tensor(&device, &[c], dtype);
        let [mut d_weight, mut d_bias] = [(); 2].map(|()| column(&device, c));
        let rstd = column(&device, n);
        // Parts of d_weight of a block for each row at most.
        check_with_scratch("rms_norm_backward", cost::rms_norm_backward(n, c, s), n * c * 4, || {
            ops::rms_norm_backward(&mut d_x, &mut d_weight, &d_out, &x, &weight, &rstd)
        });
        // 37 tokens, 25 of them different. The table of ends is set, changed for each token, and read; the 12 that occur twice
        // are listed.
        let tokens = ids(&device, &(0..n as u32).map(|i| i % 25).collect::<Vec<u32>>());
        let mut d_table = tensor(&device, &[v, c], DType::F32);
        check_with_scratch(
            "embedding_backward",
            cost::embedding_backward(n, 25, c, s),
            2 * 4 * v + 2 * 4 * n + 4 * 12,
            || ops::embedding_backward(&mut d_table, &d_out, &tokens),
        );
        check("bias_forward", cost::bias_forward(n, c, s), || ops::bias_forward(&mut d_x, &weight));
        check_with_scratch("bias_backward", cost::bias_backward(n, c, s), n * c * 4, || {
            ops::bias_backward(&mut d_bias, &d_out)
        });
        let shape = AttentionShape { n_heads: 3, n_kv_heads: 1, head_dim: 8 };
        let (heads, d) = (4, 8);
        let mut qkv = tensor(&device, &[n, shape.qkv_width()], dtype);
        let mut raw = tensor(&device, &[n, heads * d], dtype);
        let mut rstd = tensor(&device, &[n, heads], DType::F32);
        let [q_weight, k_weight] = [(); 2].map(|()| tensor(&device, &[d], dtype));
        check("qk_norm_forward", cost::qk_norm_forward(n, heads, d, s), || {
            ops::qk_norm_forward(&mut qkv, &mut raw, &mut rstd, (&q_weight, &k_weight), shape, 1e-6)
        });
        let [mut d_q_weight, mut d_k_weight] = [(); 2].map(|()| column(&device, d));
        check_with_scratch("qk_norm_backward", cost::qk_norm_backward(n, heads, d, s), n * 2 * d * 4, || {
            let d_weights = (&mut d_q_weight, &mut d_k_weight);
            ops::qk_norm_backward(&mut qkv, d_weights, &raw, &rstd, (&q_weight, &k_weight), shape)
        });
        rotated_heads_touch_what_the_formulas_say(dtype);
    }
}

fn rotated_heads_touch_what_the_formulas_say(dtype: DType) {
    let device = reskill_simt::device();
    let (n, heads, d, s) = (9, 4, 16, dtype.size());
    let shape = AttentionShape { n_heads: 3, n_kv_heads: 1, head_dim: d };
    let mut qkv = tensor(&device, &[n, shape.qkv_width()], dtype);
    let mut raw = tensor(&device, &[n, heads * d], dtype);
    let mut rstd = tensor(&device, &[n, heads], DType::F32);
    let [q_weight, k_weight] = [(); 2].map(|()| tensor(&device, &[d], dtype));
    let positions = ids(&device, &(0..n as u32).collect::<Vec<u32>>());
    let table = RopeTable::new(n, d, 10_000.0).unwrap().to_device(&device).unwrap();
    // Each row has a position of its own here, so each reads its rows of both tables: cosines and sines for half a head.
    let (turns, weights) = (Rotation { positions: &positions, table: &table }, (&q_weight, &k_weight));
    let of_tables = 2 * n * (d / 2) * 4;
    check_with_scratch("qk_norm_rope_forward", cost::qk_norm_rope_forward(n, heads, d, s), of_tables, || {
        ops::qk_norm_rope_forward(&mut qkv, &mut raw, &mut rstd, weights, turns, shape, 1e-6)
    });
    let [mut d_q_weight, mut d_k_weight] = [(); 2].map(|()| column(&device, d));
    let cost = cost::qk_norm_rope_backward(n, heads, d, s);
    check_with_scratch("qk_norm_rope_backward", cost, of_tables + 2 * d * 4, || {
        let d_weights = (&mut d_q_weight, &mut d_k_weight);
        ops::qk_norm_rope_backward(&mut qkv, d_weights, &raw, &rstd, weights, turns, shape)
    });
}

#[test]
fn gradients_of_products_touch_what_the_formulas_say() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, i, o, s) = (70, 40, 24, dtype.size());
        let [x, mut d_x] = [(); 2].map(|()| tensor(&device, &[n, i], dtype));
        let (weight, d_out) = (tensor(&device, &[o, i], dtype), tensor(&device, &[n, o], dtype));
        let mut d_weight = tensor(&device, &[o, i], DType::F32);
        check("matmul_backward_input", cost::matmul(n, o, i, s), || {
            ops::matmul_backward_input(&mut d_x, &d_out, &weight, false)
        });
        check("matmul_backward_weight", cost::matmul_backward_weight(n, i, o, s), || {
            ops::matmul_backward_weight(&mut d_weight, &d_out, &x)
        });
    }
}

#[test]
fn divergence_and_sampling_touch_what_the_formulas_say() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, c, ref_c, v, s) = (5, 40, 24, 300, dtype.size());
        let [hidden, mut d_hidden] = [(); 2].map(|()| tensor(&device, &[n, c], dtype));
        let (head, ref_hidden) = (tensor(&device, &[v, c], dtype), tensor(&device, &[n, ref_c], dtype));
        let ref_head = tensor(&device, &[v, ref_c], dtype);
        let mut d_head = tensor(&device, &[v, c], DType::F32);
        let [lse, ref_lse, d_kl, mut kl, mut logprobs, uniforms] = [(); 6].map(|()| column(&device, n));
        let mut everything = TokenSets::new();
        (0..n).for_each(|_| everything.push(&[]));
        let policy = Distribution { hidden: &hidden, head: &head, lse: &lse };
        let reference = Distribution { hidden: &ref_hidden, head: &ref_head, lse: &ref_lse };
        // The sums of two strips a row.
        check_with_scratch(
            "linear_kl_forward",
            cost::linear_kl_forward(n, c, ref_c, v, s),
            n * 2 * 4,
            || ops::linear_kl_forward(&mut kl, policy, reference, &everything, 1.0),
        );
        // The slab, and hidden states and head once more for the products.
        check_with_scratch(
            "linear_kl_backward",
            cost::linear_kl_backward(n, c, ref_c, v, s),
            n * 512 * s + (n + v) * c * s,
            || {
                ops::linear_kl_backward(
                    &mut d_hidden,
                    &mut d_head,
                    &d_kl,
                    &kl,
                    policy,
                    reference,
                    &everything,
                    1.0,
                )
            },
        );
        // The strips' statistics, the strip and the rest of each row, and one strip of the head again for each row.
        let mut tokens = ids(&device, &[0; 5]);
        let uniforms = uniforms.to_vec().unwrap().iter().map(|x| x + 0.5).collect::<Vec<f32>>();
        let uniforms = Tensor::from_slice(&[n], &uniforms, &device, DType::F32).unwrap();
        check_with_scratch(
            "linear_sample",
            cost::linear_sample(n, c, v, s),
            n * (2 * 16 + 4 + 4 + 8 + 4) * 2 + n * 256 * c * s + n * c * s,
            || ops::linear_sample(&mut tokens, &mut logprobs, &hidden, &head, &everything, 1.0, &uniforms),
        );
    }
}

#[test]
fn attention_touches_what_the_formulas_say() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, s) = (70, dtype.size());
        let shape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim: 64 };
        let segment = |start, len, prefix_len| PackedSegment { start, len, prefix_start: 0, prefix_len };
        let segments: PackedSegments =
            vec![segment(0, 40, 0), segment(40, 13, 30), segment(53, 17, 40)].into();
        let [qkv, mut d_qkv] = [(); 2].map(|()| tensor(&device, &[n, shape.qkv_width()], dtype));
        let [mut out, d_out] = [(); 2].map(|()| tensor(&device, &[n, shape.out_width()], dtype));
        let mut lse = tensor(&device, &[n, shape.n_heads], DType::F32);
        let cost = ops::packed_cost(&segments, shape, s);
        let floor = |bytes: f64, flops: f64| Cost { bytes: bytes as u64, flops: flops as u64 };
        // A view of 16 bytes for each row, tiles of 32 bytes, runs of 16: fewer than rows.
        let lists = n * (16 + 32 + 16);
        let forward = floor(cost.forward_bytes, cost.forward_flops);
        check_with_scratch("attention_forward", forward, lists, || {
            ops::attention_forward(&mut out, &mut lse, &qkv, &segments, shape)
        });
        // Two launches more than one: both read queries, keys, values, the upstream gradient and the statistics, and the
        // second writes slots of keys that many rows see.
        let row = shape.qkv_width() + 2 * shape.out_width();
        let again = n * (row * s + 4 * 4 * shape.n_heads) + 2 * 64 * 2 * shape.kv_width() * 4 + 2 * lists;
        let backward = floor(cost.backward_bytes, cost.backward_flops);
        check_with_scratch("attention_backward", backward, again, || {
            ops::attention_backward(&mut d_qkv, &d_out, &out, &lse, &qkv, &segments, shape)
        });
    }
}

#[test]
fn attention_to_the_cache_reads_a_shared_page_once_and_writes_new_rows_alone() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, page, n_blocks, s) = (8, 32, 20, dtype.size());
        let shape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim: 64 };
        let width = shape.kv_width();
        // Four pages that all share, and one of its own for each.
        let pages: Vec<Vec<u32>> = (0..n as u32).map(|row| vec![3, 1, 0, 2, 4 + row]).collect();
        let span = |(row, blocks)| CachedSpan { row, len: 1, position: 4 * page + 5, blocks };
        let spans: Vec<CachedSpan<'_>> = pages.iter().map(Vec::as_slice).enumerate().map(span).collect();
        let device_of = device.clone().with_precision(dtype).unwrap();
        let mut plan = CachedPlan::new(&device_of, shape, page).unwrap();
        plan.set(&spans, n, n_blocks).unwrap();
        let mut keys = tensor(&device, &[n_blocks, width, page], dtype);
        let mut values = tensor(&device, &[n_blocks, page, width], dtype);
        let qkv = tensor(&device, &[n, shape.qkv_width()], dtype);
        let mut out = tensor(&device, &[n, shape.out_width()], dtype);
        check_with_scratch("cache_append", cost::cache_append(n, width, s), 4 * n, || {
            ops::cache_append_planned(&mut keys, &mut values, &qkv, &plan)
        });
        let (flops, bytes) = ops::cached_cost(&spans, shape, s, page, false);
        // Whole pages are read where six positions are seen; partial results of the two levels; tiles and tables.
        let whole = n * 2 * (page - 6) * width * s;
        let partial = 2 * n * (shape.out_width() + shape.n_heads) * 4;
        let tables = 64 * (2 * n + 8) + 4 * 5 * n + 256;
        check_with_scratch(
            "attention_cached",
            Cost { bytes: bytes as u64, flops: flops as u64 },
            whole + partial + tables,
            || ops::attention_cached_planned(&mut out, &qkv, &keys, &values, &plan),
        );
    }
}
