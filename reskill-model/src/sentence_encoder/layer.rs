//! One block of the encoder, and reading its weights.

use std::path::Path;

use rayon::prelude::*;
use reskill_kernels::{Device, Tensor, ops};

use super::config::EncoderConfig;
use super::numerics::{gelu, layer_norm, softmax};
use crate::error::ModelError;
use crate::weights::source::TensorSource;
use crate::weights::{Mapped, Shards};

/// Rows that a thread normalises or activates at a time.
const ROWS: usize = 64;

/// Named tensors of a checkpoint, with or without the prefix `bert.`.
pub(super) struct Source<'a> {
    shards: &'a Shards<Mapped>,
    dir: &'a Path,
    prefix: &'static str,
}

impl<'a> Source<'a> {
    pub(super) fn new(shards: &'a Shards<Mapped>, dir: &'a Path) -> Source<'a> {
        let has = |name: &str| shards.describe(name).is_some();
        let prefix = if has("bert.embeddings.word_embeddings.weight") { "bert." } else { "" };
        Source { shards, dir, prefix }
    }

    /// A tensor of exactly this shape, as f32.
    pub(super) fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor, ModelError> {
        let name = format!("{}{name}", self.prefix);
        let odd = |reason: String| ModelError::Weights { path: self.dir.to_path_buf(), reason };
        let found = self.shards.describe(&name).ok_or_else(|| odd(format!("`{name}` is missing")))?;
        if found.shape != shape || !found.readable {
            return Err(odd(format!(
                "`{name}` is {} {:?}, expected {shape:?} of floats",
                found.dtype, found.shape
            )));
        }
        let mut values = vec![0.0; shape.iter().product()];
        self.shards.read(&name, &mut values);
        Ok(Tensor::from_vec(shape, values)?)
    }
}

/// Weight and bias of a layer normalisation.
#[derive(Debug)]
pub(super) struct Norm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl Norm {
    pub(super) fn read(source: &Source<'_>, name: &str, config: &EncoderConfig) -> Result<Norm, ModelError> {
        let vector = |part: &str| -> Result<Vec<f32>, ModelError> {
            Ok(source.tensor(&format!("{name}.{part}"), &[config.hidden_size])?.as_slice().to_vec())
        };
        Ok(Norm { weight: vector("weight")?, bias: vector("bias")?, eps: config.layer_norm_eps })
    }

    /// Normalises the rows of (N, C).
    pub(super) fn apply(&self, x: &mut Tensor) {
        let c = self.weight.len();
        x.as_mut_slice().par_chunks_mut(ROWS * c).for_each(|rows| {
            rows.chunks_exact_mut(c).for_each(|row| layer_norm(row, &self.weight, &self.bias, self.eps));
        });
    }
}

/// `x W^T + b`.
#[derive(Debug)]
struct Linear {
    /// (O, I) f32.
    weight: Tensor,
    /// (O) f32.
    bias: Tensor,
}

impl Linear {
    fn read(source: &Source<'_>, name: &str, shape: [usize; 2]) -> Result<Linear, ModelError> {
        let weight = source.tensor(&format!("{name}.weight"), &shape)?;
        Ok(Linear { weight, bias: source.tensor(&format!("{name}.bias"), &shape[..1])? })
    }

    /// (N, I) -> (N, O).
    fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        let mut out = Tensor::zeros(&[x.rows(), self.weight.rows()], &Device::Cpu)?;
        ops::matmul(&mut out, x, &self.weight, false)?;
        ops::bias_forward(&mut out, &self.bias)?;
        Ok(out)
    }

    /// Adds `x W^T + b` to `out`.
    fn add(&self, out: &mut Tensor, x: &Tensor) -> Result<(), ModelError> {
        ops::matmul(out, x, &self.weight, true)?;
        Ok(ops::bias_forward(out, &self.bias)?)
    }
}

/// A block: attention, then the MLP, each with its residual and its normalisation behind it.
#[derive(Debug)]
pub(super) struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
}

impl Layer {
    pub(super) fn read(source: &Source<'_>, l: usize, config: &EncoderConfig) -> Result<Layer, ModelError> {
        let (c, f) = (config.hidden_size, config.intermediate_size);
        let name = |part: &str| format!("encoder.layer.{l}.{part}");
        Ok(Layer {
            query: Linear::read(source, &name("attention.self.query"), [c, c])?,
            key: Linear::read(source, &name("attention.self.key"), [c, c])?,
            value: Linear::read(source, &name("attention.self.value"), [c, c])?,
            output: Linear::read(source, &name("attention.output.dense"), [c, c])?,
            attention_norm: Norm::read(source, &name("attention.output.LayerNorm"), config)?,
            up: Linear::read(source, &name("intermediate.dense"), [f, c])?,
            down: Linear::read(source, &name("output.dense"), [c, f])?,
            output_norm: Norm::read(source, &name("output.LayerNorm"), config)?,
        })
    }

    /// - `hidden`: (N, C), overwritten; texts one after the other
    /// - `lengths`: tokens of each text, N in all
    pub(super) fn forward(
        &self,
        hidden: &mut Tensor,
        lengths: &[usize],
        config: &EncoderConfig,
    ) -> Result<(), ModelError> {
        let attended = self.attend(hidden, lengths, config.num_attention_heads)?;
        self.output.add(hidden, &attended)?;
        self.attention_norm.apply(hidden);
        let mut inner = self.up.forward(hidden)?;
        let width = ROWS * inner.row_len();
        inner.as_mut_slice().par_chunks_mut(width).for_each(gelu);
        self.down.add(hidden, &inner)?;
        self.output_norm.apply(hidden);
        Ok(())
    }

    /// (N, C) -> (N, C): what each token takes from the tokens of its text, before the output projection.
    fn attend(&self, hidden: &Tensor, lengths: &[usize], heads: usize) -> Result<Tensor, ModelError> {
        let [q, k, v] = [&self.query, &self.key, &self.value].map(|linear| linear.forward(hidden));
        let (q, k, v) = (q?, k?, v?);
        let c = hidden.row_len();
        let mut out = Tensor::zeros(&[hidden.rows(), c], &Device::Cpu)?;
        let mut texts = Vec::with_capacity(lengths.len());
        let (mut rest, mut first) = (out.as_mut_slice(), 0);
        for &length in lengths {
            let (rows, after) = rest.split_at_mut(length * c);
            texts.push((first * c..(first + length) * c, rows));
            (rest, first) = (after, first + length);
        }
        texts.into_par_iter().try_for_each(|(range, out)| {
            let [q, k, v] = [&q, &k, &v].map(|x| &x.as_slice()[range.clone()]);
            attend_text(out, [q, k, v], c, heads)
        })?;
        Ok(out)
    }
}

/// Attention within one text of T tokens, head by head.
///
/// - `out`: (T, C), overwritten
/// - `qkv`: (T, C) each
fn attend_text(out: &mut [f32], qkv: [&[f32]; 3], c: usize, heads: usize) -> Result<(), ModelError> {
    let (t, d) = (out.len() / c, c / heads);
    let scale = 1.0 / (d as f32).sqrt();
    // One head's columns, (T, D).
    let columns = |x: &[f32], head: usize| -> Vec<f32> {
        x.chunks_exact(c).flat_map(|row| &row[head * d..(head + 1) * d]).copied().collect()
    };
    let mut scores = Tensor::zeros(&[t, t], &Device::Cpu)?;
    let mut attended = Tensor::zeros(&[t, d], &Device::Cpu)?;
    for head in 0..heads {
        let [q, k, v] = qkv.map(|x| columns(x, head));
        let (q, k) = (Tensor::from_vec(&[t, d], q)?, Tensor::from_vec(&[t, d], k)?);
        ops::matmul(&mut scores, &q, &k, false)?;
        scores.as_mut_slice().chunks_exact_mut(t).for_each(|row| softmax(row, scale));
        // (D, T): a linear layer whose weights are the values.
        let transposed = (0..t * d).map(|index| v[index % t * d + index / t]).collect();
        ops::matmul(&mut attended, &scores, &Tensor::from_vec(&[d, t], transposed)?, false)?;
        for (row, attended) in out.chunks_exact_mut(c).zip(attended.as_slice().chunks_exact(d)) {
            row[head * d..(head + 1) * d].copy_from_slice(attended);
        }
    }
    Ok(())
}
