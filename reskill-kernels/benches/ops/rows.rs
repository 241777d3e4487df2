//! Norms, rotations, gates, biases, embeddings: all bound by memory.

use reskill_kernels::ops::{self, AttentionShape, RopeTable, cost};
use reskill_kernels::{KernelError, Tensor};

use crate::{Bench, random, tokens};

/// Widths of a model.
struct Widths {
    n: usize,
    c: usize,
    f: usize,
    heads: AttentionShape,
    vocab: usize,
}

pub(crate) fn run(bench: &Bench) -> Result<(), KernelError> {
    let large = AttentionShape { n_heads: 9, n_kv_heads: 3, head_dim: 64 };
    let policy = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim: 32 };
    for widths in [
        Widths { n: 512, c: 576, f: 1536, heads: large, vocab: 49_152 },
        Widths { n: 4096, c: 96, f: 256, heads: policy, vocab: 400 },
    ] {
        norms(bench, &widths)?;
        heads(bench, &widths)?;
        gates(bench, &widths)?;
        embeddings(bench, &widths)?;
    }
    Ok(())
}

fn norms(bench: &Bench, &Widths { n, c, .. }: &Widths) -> Result<(), KernelError> {
    let (x, weight, mut out) = (random(&[n, c])?, random(&[c])?, random(&[n, c])?);
    let (mut rstd, mut d_weight, mut d_x) = (random(&[n])?, random(&[c])?, random(&[n, c])?);
    let sizes = [("N", n), ("C", c)];
    bench.run("rms_norm_forward", &sizes, cost::rms_norm_forward(n, c, 4), || {
        ops::rms_norm_forward(&mut out, &mut rstd, &x, &weight, 1e-5)
    })?;
    bench.run("rms_norm_backward", &sizes, cost::rms_norm_backward(n, c, 4), || {
        ops::rms_norm_backward(&mut d_x, &mut d_weight, &out, &x, &weight, &rstd)
    })?;
    bench
        .run("bias_forward", &sizes, cost::bias_forward(n, c, 4), || ops::bias_forward(&mut d_x, &weight))?;
    bench.run("bias_backward", &sizes, cost::bias_backward(n, c, 4), || {
        ops::bias_backward(&mut d_weight, &out)
    })
}

fn heads(bench: &Bench, &Widths { n, heads: shape, .. }: &Widths) -> Result<(), KernelError> {
    let (heads, d) = (shape.n_heads + shape.n_kv_heads, shape.head_dim);
    let sizes = [("N", n), ("H+K", heads), ("D", d)];
    let mut qkv = random(&[n, shape.qkv_width()])?;
    let (table, positions) = (RopeTable::new(512, d, 10_000.0)?, tokens(n, 512)?);
    bench.run("rope_forward", &sizes, cost::rope(n, heads * d, 4), || {
        ops::rope_forward(&mut qkv, &positions, &table, heads)
    })?;
    let (mut raw, mut rstd) = (random(&[n, heads * d])?, random(&[n, heads])?);
    // With weights of 1, normalised heads stay as they are, and the gradient below is a projection of itself: nothing grows
    // or vanishes over the runs.
    let weight = Tensor::from_vec(&[d], vec![1.0; d])?;
    ops::qk_norm_forward(&mut qkv, &mut raw, &mut rstd, (&weight, &weight), shape, 0.0)?;
    bench.run("qk_norm_forward", &sizes, cost::qk_norm_forward(n, heads, d, 4), || {
        ops::qk_norm_forward(&mut qkv, &mut raw, &mut rstd, (&weight, &weight), shape, 0.0)
    })?;
    let [mut d_q_weight, mut d_k_weight] = [random(&[d])?, random(&[d])?];
    bench.run("qk_norm_backward", &sizes, cost::qk_norm_backward(n, heads, d, 4), || {
        let d_weights = (&mut d_q_weight, &mut d_k_weight);
        ops::qk_norm_backward(&mut qkv, d_weights, &raw, &rstd, (&weight, &weight), shape)
    })
}

fn gates(bench: &Bench, &Widths { n, f, .. }: &Widths) -> Result<(), KernelError> {
    let (gate_up, mut gated, mut d_gate_up) = (random(&[n, 2 * f])?, random(&[n, f])?, random(&[n, 2 * f])?);
    let sizes = [("N", n), ("F", f)];
    bench.run("swiglu_forward", &sizes, cost::swiglu_forward(n, f, 4), || {
        ops::swiglu_forward(&mut gated, &gate_up)
    })?;
    bench.run("swiglu_backward", &sizes, cost::swiglu_backward(n, f, 4), || {
        ops::swiglu_backward(&mut d_gate_up, &gated, &gate_up)
    })
}

fn embeddings(bench: &Bench, &Widths { n, c, vocab, .. }: &Widths) -> Result<(), KernelError> {
    let (mut table, mut out, ids) = (random(&[vocab, c])?, random(&[n, c])?, tokens(n, vocab)?);
    let (sizes, distinct) = ([("N", n), ("C", c), ("V", vocab)], n.min(vocab));
    bench.run("embedding_forward", &sizes, cost::embedding_forward(n, distinct, c, 4), || {
        ops::embedding_forward(&mut out, &table, &ids)
    })?;
    bench.run("embedding_backward", &sizes, cost::embedding_backward(n, distinct, c, 4), || {
        ops::embedding_backward(&mut table, &out, &ids)
    })
}
