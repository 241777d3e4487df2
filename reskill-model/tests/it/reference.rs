//! The whole network once more: f64, one sequence at a time, written for reading. It shares no code with the crate but
//! the layout of the parameters. Also included by the tests of `reskill-grpo`.

use std::collections::HashMap;

use reskill_model::layout::entries;
use reskill_model::{ModelConfig, Params, RopeScaling};

/// A model in f64. Tests may move single weights.
#[derive(Clone)]
pub(crate) struct Reference {
    config: ModelConfig,
    /// In the order of `Params::tensors`, row-major.
    pub(crate) weights: Vec<Vec<f64>>,
    /// Where each tensor of a checkpoint lies in `weights`; of fused ones the first part is asked for.
    indices: HashMap<String, usize>,
}

impl Reference {
    pub(crate) fn new(config: &ModelConfig, params: &Params) -> Reference {
        let widen =
            |tensor: &&reskill_kernels::Tensor| tensor.as_slice().iter().map(|&x| f64::from(x)).collect();
        let indices = entries(config).into_iter().map(|entry| (entry.name, entry.index)).collect();
        Reference { config: config.clone(), weights: params.tensors().iter().map(widen).collect(), indices }
    }

    /// The tensor that holds this one of Hugging Face's, if the model has it.
    fn find(&self, name: &str) -> Option<&[f64]> {
        self.indices.get(name).map(|&index| self.weights[index].as_slice())
    }

    fn tensor(&self, name: &str) -> &[f64] {
        self.find(name).unwrap()
    }

    /// A projection of a block with its bias; `part` is the first of those that are stored fused.
    fn project(&self, x: &[f64], layer: usize, part: &str) -> Vec<f64> {
        let name = |kind: &str| format!("model.layers.{layer}.{part}.{kind}");
        let mut out = times(x, self.tensor(&name("weight")));
        if let Some(bias) = self.find(&name("bias")) {
            add(&mut out, bias);
        }
        out
    }

    /// Hidden states after the last norm, one row per token.
    pub(crate) fn hidden(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let c = self.config.hidden_size;
        let mut residual: Vec<Vec<f64>> =
            tokens.iter().map(|&token| self.weights[0][token as usize * c..][..c].to_vec()).collect();
        for layer in 0..self.config.num_hidden_layers {
            let norm = |x: &[f64], part: &str| {
                self.rms_norm(x, self.tensor(&format!("model.layers.{layer}.{part}.weight")))
            };
            let normed: Vec<Vec<f64>> = residual.iter().map(|x| norm(x, "input_layernorm")).collect();
            for (x, attended) in residual.iter_mut().zip(self.attend(&normed, layer)) {
                add(x, &self.project(&attended, layer, "self_attn.o_proj"));
            }
            for x in &mut residual {
                let gate_up = self.project(&norm(x, "post_attention_layernorm"), layer, "mlp.gate_proj");
                let (gate, up) = gate_up.split_at(self.config.intermediate_size);
                let gated: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                add(x, &self.project(&gated, layer, "mlp.down_proj"));
            }
        }
        residual.iter().map(|x| self.rms_norm(x, self.tensor("model.norm.weight"))).collect()
    }

    /// Log-probabilities of the allowed tokens (all, if none are given) after `hidden`.
    pub(crate) fn logprobs(&self, hidden: &[f64], allowed: &[u32], temperature: f64) -> Vec<f64> {
        let c = self.config.hidden_size;
        // The head is the last tensor if there is one, else the embedding.
        let head = if self.config.tie_word_embeddings {
            &self.weights[0]
        } else {
            &self.weights[self.weights.len() - 1]
        };
        let all: Vec<u32> = (0..self.config.vocab_size as u32).collect();
        let tokens = if allowed.is_empty() { &all } else { allowed };
        let logits: Vec<f64> =
            tokens.iter().map(|&token| dot(hidden, &head[token as usize * c..][..c]) / temperature).collect();
        let log_total = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
        logits.iter().map(|z| z - log_total).collect()
    }

    fn rms_norm(&self, x: &[f64], weight: &[f64]) -> Vec<f64> {
        let mean_square = dot(x, x) / x.len() as f64;
        let scale = 1.0 / (mean_square + f64::from(self.config.rms_norm_eps)).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
    }

    /// Causal grouped-query attention with rotary positions 0, 1, 2, ...
    fn attend(&self, normed: &[Vec<f64>], layer: usize) -> Vec<Vec<f64>> {
        let (d, heads, kv_heads) =
            (self.config.head_dim, self.config.num_attention_heads, self.config.num_key_value_heads);
        let project = |(position, x): (usize, &Vec<f64>)| {
            let mut qkv = self.project(x, layer, "self_attn.q_proj");
            for (index, head) in qkv.chunks_mut(d).take(heads + kv_heads).enumerate() {
                let norm = if index < heads { "q_norm" } else { "k_norm" };
                if let Some(weight) = self.find(&format!("model.layers.{layer}.self_attn.{norm}.weight")) {
                    head.copy_from_slice(&self.rms_norm(head, weight));
                }
                self.rotate(head, position);
            }
            qkv
        };
        let rows: Vec<Vec<f64>> = normed.iter().enumerate().map(project).collect();
        let part = |row: usize, head: usize| &rows[row][head * d..(head + 1) * d];
        let one = |row: usize, head: usize| {
            let kv_head = head / (heads / kv_heads);
            let score = |j| dot(part(row, head), part(j, heads + kv_head)) / (d as f64).sqrt();
            let weights: Vec<f64> = (0..=row).map(|j| score(j).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut out = vec![0.0; d];
            for (j, weight) in weights.iter().enumerate() {
                for (out, value) in out.iter_mut().zip(part(j, heads + kv_heads + kv_head)) {
                    *out += weight / total * value;
                }
            }
            out
        };
        (0..rows.len()).map(|row| (0..heads).flat_map(|head| one(row, head)).collect()).collect()
    }

    fn rotate(&self, head: &mut [f64], position: usize) {
        let half = head.len() / 2;
        for i in 0..half {
            let stretch = match &self.config.rope_scaling {
                None => 1.0,
                Some(RopeScaling::Linear { factor }) => *factor,
                Some(other) => panic!("{other:?} is compared with other implementations"),
            };
            let angle = position as f64 * self.config.rope_theta.powf(-(i as f64) / half as f64) / stretch;
            let (x, y) = (head[i], head[i + half]);
            head[i] = x * angle.cos() - y * angle.sin();
            head[i + half] = y * angle.cos() + x * angle.sin();
        }
    }
}

/// `weight` (O, I) times `x` (I).
fn times(x: &[f64], weight: &[f64]) -> Vec<f64> {
    weight.chunks(x.len()).map(|row| dot(x, row)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(x: &mut [f64], y: &[f64]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}
