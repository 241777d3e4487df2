//! Speed of every operation: `cargo bench -p reskill-kernels --bench ops [-- FILTER]`.
//!
//! One JSON line per operation and shape: the best and the median of at least five runs in seconds, GFLOP/s and GB/s at
//! the best. Bytes are the least that must move: every argument once. Shapes are those of a layer of SmolLM2-135M (512
//! rows) and of the default run's policy (4096 rows in 32 episodes). Times vary on a busy machine: compare bests.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::ops::{
    self, AdamWParams, AttentionShape, CachedSpan, GrpoLossInputs, GrpoLossParams, PackedSegment,
    PackedSegments, PackedWeight, RopeTable, TokenSets, WeightStorage,
};
use reskill_kernels::{Device, KernelError, Tensor};
use serde_json::json;

struct Bench {
    filter: String,
}

impl Bench {
    fn run(
        &self,
        op: &str,
        shape: &[usize],
        flops: f64,
        bytes: f64,
        mut work: impl FnMut() -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        if !op.contains(&self.filter) {
            return Ok(());
        }
        work()?;
        let mut seconds = Vec::new();
        let begin = Instant::now();
        while seconds.len() < 5 || (begin.elapsed().as_secs_f64() < 0.2 && seconds.len() < 200) {
            let start = Instant::now();
            work()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let (best, median) = (seconds[0], seconds[seconds.len() / 2]);
        println!(
            "{}",
            json!({
                "op": op, "shape": shape, "seconds_best": best, "seconds_median": median,
                "gflops": round(flops / best / 1e9), "gb_per_s": round(bytes / best / 1e9),
            })
        );
        Ok(())
    }
}

fn round(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}

fn random(shape: &[usize]) -> Result<Tensor, KernelError> {
    let mut rng = ChaCha8Rng::seed_from_u64(shape.len() as u64);
    let len = shape.iter().product();
    Tensor::from_vec(shape, (0..len).map(|_| rng.random::<f32>() - 0.5).collect())
}

fn tokens(n: usize, vocab: usize) -> Result<Tensor<u32>, KernelError> {
    Tensor::from_vec(&[n], (0..n).map(|i| (i * 31 % vocab) as u32).collect())
}

fn bytes(elements: usize) -> f64 {
    4.0 * elements as f64
}

/// Linear layers, forward and both gradients.
fn products(bench: &Bench) -> Result<(), KernelError> {
    let shapes = [
        (512, 576, 1536),
        (512, 1536, 576),
        (512, 576, 49_152),
        (4096, 96, 256),
        (4096, 128, 96),
        (4096, 96, 512),
        (4096, 256, 96),
        (64, 96, 512),
        (1, 96, 512),
    ];
    for (n, inputs, outputs) in shapes {
        let (mut x, mut weight, mut out) =
            (random(&[n, inputs])?, random(&[outputs, inputs])?, random(&[n, outputs])?);
        let shape = [n, inputs, outputs];
        let flops = 2.0 * (n * inputs * outputs) as f64;
        let moved = bytes(n * inputs + inputs * outputs + n * outputs);
        bench.run("matmul", &shape, flops, moved, || ops::matmul(&mut out, &x, &weight, false))?;
        bench.run("matmul_backward_input", &shape, flops, moved, || {
            ops::matmul_backward_input(&mut x, &out, &weight, false)
        })?;
        weight.as_mut_slice().fill(0.0);
        bench.run("matmul_backward_weight", &shape, flops, moved, || {
            ops::matmul_backward_weight(&mut weight, &out, &x)
        })?;
    }
    Ok(())
}

/// Linear layers of SmolLM2-135M over packed weights, at the batch sizes of decoding and of a chunk of a prompt.
fn packed_products(bench: &Bench) -> Result<(), KernelError> {
    let widths = [(576, 960), (576, 576), (576, 3072), (1536, 576), (576, 49_152)];
    for (storage, name, size) in
        [(WeightStorage::Bf16, "packed_matmul_bf16", 2), (WeightStorage::F32, "packed_matmul_f32", 4)]
    {
        for (inputs, outputs) in widths {
            let weight = PackedWeight::new(&random(&[outputs, inputs])?, storage);
            for n in [1, 8, 32, 512] {
                let (x, mut out) = (random(&[n, inputs])?, random(&[n, outputs])?);
                let flops = 2.0 * (n * inputs * outputs) as f64;
                let moved = bytes(n * (inputs + outputs)) + (size * inputs * outputs) as f64;
                bench.run(name, &[n, inputs, outputs], flops, moved, || {
                    ops::packed_matmul(&mut out, &x, &weight, false)
                })?;
            }
        }
    }
    Ok(())
}

/// Norms, rotations, gates, embeddings: all bound by memory.
fn rows(bench: &Bench) -> Result<(), KernelError> {
    for (n, c, f, heads, kv_heads, d, vocab) in
        [(512, 576, 1536, 9, 3, 64, 49_152), (4096, 96, 256, 4, 2, 32, 400)]
    {
        let (x, weight, mut out) = (random(&[n, c])?, random(&[c])?, random(&[n, c])?);
        let (mut rstd, mut d_weight) = (random(&[n])?, random(&[c])?);
        let moved = bytes(2 * n * c + n + c);
        bench.run("rms_norm_forward", &[n, c], 5.0 * (n * c) as f64, moved, || {
            ops::rms_norm_forward(&mut out, &mut rstd, &x, &weight, 1e-5)
        })?;
        let mut d_x = random(&[n, c])?;
        bench.run("rms_norm_backward", &[n, c], 12.0 * (n * c) as f64, bytes(4 * n * c), || {
            ops::rms_norm_backward(&mut d_x, &mut d_weight, &out, &x, &weight, &rstd)
        })?;
        let width = (heads + 2 * kv_heads) * d;
        let mut qkv = random(&[n, width])?;
        let table = RopeTable::new(512, d, 10_000.0)?;
        let positions = tokens(n, 512)?;
        let rotated = n * (heads + kv_heads) * d;
        bench.run("rope_forward", &[n, width], 3.0 * rotated as f64, bytes(2 * rotated), || {
            ops::rope_forward(&mut qkv, &positions, &table, heads + kv_heads)
        })?;
        let (gate_up, mut gated) = (random(&[n, 2 * f])?, random(&[n, f])?);
        bench.run("swiglu_forward", &[n, f], 20.0 * (n * f) as f64, bytes(3 * n * f), || {
            ops::swiglu_forward(&mut gated, &gate_up)
        })?;
        let mut d_gate_up = random(&[n, 2 * f])?;
        bench.run("swiglu_backward", &[n, f], 30.0 * (n * f) as f64, bytes(5 * n * f), || {
            ops::swiglu_backward(&mut d_gate_up, &gated, &gate_up)
        })?;
        let (mut table, ids) = (random(&[vocab, c])?, tokens(n, vocab)?);
        bench.run("embedding_forward", &[n, c, vocab], 0.0, bytes(2 * n * c), || {
            ops::embedding_forward(&mut out, &table, &ids)
        })?;
        bench.run("embedding_backward", &[n, c, vocab], (n * c) as f64, bytes(3 * n * c), || {
            ops::embedding_backward(&mut table, &out, &ids)
        })?;
    }
    Ok(())
}

/// Episodes of a trunk of 64 rows and four branches of 16 rows that see 16, 32, 48 and 64 of it; and long sequences.
fn attention(bench: &Bench) -> Result<(), KernelError> {
    let policy = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim: 32 };
    let large = AttentionShape { n_heads: 9, n_kv_heads: 3, head_dim: 64 };
    for (name, shape, trunk, branches, episodes) in [
        ("branches", policy, 64, 4, 32),
        ("causal", policy, 256, 0, 16),
        ("causal", large, 512, 0, 1),
        ("causal", large, 128, 0, 4),
    ] {
        let (mut segments, mut n, mut pairs) = (PackedSegments::new(), 0, 0);
        for _ in 0..episodes {
            let start = n;
            segments.push(PackedSegment { start, len: trunk, prefix_start: start, prefix_len: 0 });
            n += trunk;
            pairs += trunk * (trunk + 1) / 2;
            for branch in 1..=branches {
                segments.push(PackedSegment {
                    start: n,
                    len: 16,
                    prefix_start: start,
                    prefix_len: 16 * branch,
                });
                n += 16;
                pairs += 16 * 16 * branch + 16 * 17 / 2;
            }
        }
        let (width, out_width) = (shape.qkv_width(), shape.out_width());
        let (qkv, mut out, mut lse) =
            (random(&[n, width])?, random(&[n, out_width])?, random(&[n, shape.n_heads])?);
        let sizes = [n, pairs, shape.n_heads, shape.n_kv_heads, shape.head_dim];
        let flops = 4.0 * (pairs * out_width) as f64;
        bench.run(
            &format!("attention_forward_{name}"),
            &sizes,
            flops,
            bytes(n * (width + out_width)),
            || ops::attention_forward(&mut out, &mut lse, &qkv, &segments, shape),
        )?;
        let (d_out, mut d_qkv) = (random(&[n, out_width])?, random(&[n, width])?);
        let moved = bytes(n * 2 * (width + out_width));
        bench.run(&format!("attention_backward_{name}"), &sizes, 2.5 * flops, moved, || {
            ops::attention_backward(&mut d_qkv, &d_out, &out, &lse, &qkv, &segments, shape)
        })?;
    }
    for (shape, sequences, len, position) in [
        (policy, 128, 1, 200),
        (policy, 128, 24, 150),
        (large, 8, 1, 500),
        (large, 1, 1, 500),
        (large, 1, 512, 0),
    ] {
        let (n, page) = (sequences * len, 32);
        let (qkv, mut out) = (random(&[n, shape.qkv_width()])?, random(&[n, shape.out_width()])?);
        let pages = (position + len).div_ceil(page);
        let (keys, values) = (
            random(&[sequences * pages, shape.kv_width(), page])?,
            random(&[sequences * pages, page, shape.kv_width()])?,
        );
        let blocks: Vec<u32> = (0..(sequences * pages) as u32).collect();
        let spans: Vec<CachedSpan<'_>> = blocks
            .chunks(pages)
            .enumerate()
            .map(|(index, blocks)| CachedSpan { row: index * len, len, position, blocks })
            .collect();
        let pairs = sequences * (len * position + len * (len + 1) / 2);
        let sizes = [sequences, len, position, shape.n_heads, shape.n_kv_heads, shape.head_dim];
        let moved = bytes(2 * sequences * (position + len) * shape.kv_width());
        bench.run("attention_cached", &sizes, 4.0 * (pairs * shape.out_width()) as f64, moved, || {
            ops::attention_cached(&mut out, &qkv, &keys, &values, &spans, shape)
        })?;
    }
    Ok(())
}

/// Output projection, softmax and gather, with and without allowed sets.
fn logprobs(bench: &Bench) -> Result<(), KernelError> {
    for (n, c, vocab, set_len) in
        [(512, 96, 400, 8), (512, 96, 400, 0), (256, 576, 49_152, 0), (8, 576, 49_152, 0)]
    {
        let (hidden, head) = (random(&[n, c])?, random(&[vocab, c])?);
        let mut allowed = TokenSets::new();
        for row in 0..n {
            let set: Vec<u32> = (0..set_len).map(|i| ((row * 31 + i) % vocab) as u32).collect();
            allowed.push(&set);
        }
        let targets = tokens(n, vocab)?;
        let column = || Tensor::zeros(&[n], &Device::Cpu);
        let (mut logprobs, mut entropy, mut lse) = (column()?, column()?, column()?);
        let logits = n * if set_len == 0 { vocab } else { set_len };
        let (flops, moved) = (2.0 * (logits * c) as f64, bytes(n * c + vocab * c));
        let sizes = [n, c, vocab, set_len];
        bench.run("linear_logprob_forward", &sizes, flops, moved, || {
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
        })?;
        let (mut d_hidden, mut d_head, d_column) = (random(&[n, c])?, random(&[vocab, c])?, random(&[n])?);
        bench.run("linear_logprob_backward", &sizes, 3.0 * flops, 2.0 * moved, || {
            ops::linear_logprob_backward(
                &mut d_hidden,
                &mut d_head,
                &d_column,
                &d_column,
                &entropy,
                &lse,
                &hidden,
                &head,
                &targets,
                &allowed,
                1.0,
            )
        })?;
        let (mut drawn, uniforms) = (tokens(n, vocab)?, column()?);
        bench.run("linear_sample", &sizes, flops, moved, || {
            ops::linear_sample(&mut drawn, &mut logprobs, &hidden, &head, &allowed, 1.0, &uniforms)
        })?;
    }
    Ok(())
}

/// The loss, the gradient norm and the optimizer.
fn updates(bench: &Bench) -> Result<(), KernelError> {
    let n = 4096;
    let (a, b) = (random(&[n])?, random(&[n])?);
    let (mut d_logprobs, mut d_entropy) = (random(&[n])?, random(&[n])?);
    let inputs = GrpoLossInputs {
        logprobs: &a,
        old_logprobs: &b,
        ref_logprobs: &b,
        entropy: &a,
        advantages: &b,
        weights: &b,
        sampler_logprobs: &b,
        sequences: &Tensor::from_vec(&[n], vec![0; n])?,
    };
    let params = GrpoLossParams {
        clip_low: 0.2,
        clip_high: 0.2,
        dual_clip: Some(3.0),
        kl_coef: 0.01,
        entropy_coef: 0.01,
        ..GrpoLossParams::default()
    };
    bench.run("grpo_loss", &[n], 60.0 * n as f64, bytes(8 * n), || {
        ops::grpo_loss(&mut d_logprobs, &mut d_entropy, &inputs, &params).map(|_| ())
    })?;
    for len in [400_000, 8_000_000] {
        let (mut weight, mut m, mut v, grad) =
            (random(&[len])?, random(&[len])?, random(&[len])?, random(&[len])?);
        v.as_mut_slice().iter_mut().for_each(|v| *v *= *v);
        let params = AdamWParams {
            learning_rate: 1e-4,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            step: 10,
            grad_scale: 0.5,
        };
        bench.run("adamw", &[len], 14.0 * len as f64, bytes(7 * len), || {
            ops::adamw(&mut weight, &mut m, &mut v, &grad, &params)
        })?;
        let mut total = 0.0;
        bench.run("sum_squares", &[len], 2.0 * len as f64, bytes(len), || {
            total += ops::sum_squares(&grad).expect("the tensor is on the CPU");
            Ok(())
        })?;
        assert!(total >= 0.0, "a sum of squares");
    }
    Ok(())
}

fn main() -> Result<(), KernelError> {
    // `cargo bench` passes `--bench`; anything else is a filter on the name of the operation.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with("--")).unwrap_or_default();
    let bench = Bench { filter };
    products(&bench)?;
    packed_products(&bench)?;
    rows(&bench)?;
    attention(&bench)?;
    logprobs(&bench)?;
    updates(&bench)
}
