//! The whole network once more: f64, one sequence at a time, written for reading. It shares no code with the crate but
//! the layout of the parameters. Also included by the tests of `reskill-grpo`.

use reskill_model::{ModelConfig, Params};

/// A model in f64. Tests may move single weights.
#[derive(Clone)]
pub(crate) struct Reference {
    config: ModelConfig,
    /// In the order of `Params::tensors`, row-major.
    pub(crate) weights: Vec<Vec<f64>>,
}

impl Reference {
    pub(crate) fn new(config: &ModelConfig, params: &Params) -> Reference {
        let widen =
            |tensor: &&reskill_kernels::Tensor| tensor.as_slice().iter().map(|&x| f64::from(x)).collect();
        Reference { config: config.clone(), weights: params.tensors().iter().map(widen).collect() }
    }

    /// Index of the first tensor of a block: its norms and projections follow the embedding.
    fn layer(&self, layer: usize) -> usize {
        1 + 6 * layer
    }

    /// Hidden states after the last norm, one row per token.
    pub(crate) fn hidden(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let c = self.config.hidden_size;
        let mut residual: Vec<Vec<f64>> =
            tokens.iter().map(|&token| self.weights[0][token as usize * c..][..c].to_vec()).collect();
        for layer in 0..self.config.num_hidden_layers {
            let first = self.layer(layer);
            let normed: Vec<Vec<f64>> = residual.iter().map(|x| self.rms_norm(x, first)).collect();
            for (x, attended) in residual.iter_mut().zip(self.attend(&normed, first)) {
                add(x, &times(&attended, &self.weights[first + 2]));
            }
            for x in &mut residual {
                let gate_up = times(&self.rms_norm(x, first + 3), &self.weights[first + 4]);
                let (gate, up) = gate_up.split_at(self.config.intermediate_size);
                let gated: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                add(x, &times(&gated, &self.weights[first + 5]));
            }
        }
        let last = self.layer(self.config.num_hidden_layers);
        residual.iter().map(|x| self.rms_norm(x, last)).collect()
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

    fn rms_norm(&self, x: &[f64], weight: usize) -> Vec<f64> {
        let mean_square = dot(x, x) / x.len() as f64;
        let scale = 1.0 / (mean_square + f64::from(self.config.rms_norm_eps)).sqrt();
        x.iter().zip(&self.weights[weight]).map(|(x, w)| x * scale * w).collect()
    }

    /// Causal grouped-query attention with rotary positions 0, 1, 2, ...
    fn attend(&self, normed: &[Vec<f64>], first: usize) -> Vec<Vec<f64>> {
        let (d, heads, kv_heads) =
            (self.config.head_dim, self.config.num_attention_heads, self.config.num_key_value_heads);
        let project = |(position, x): (usize, &Vec<f64>)| {
            let mut qkv = times(x, &self.weights[first + 1]);
            for head in qkv.chunks_mut(d).take(heads + kv_heads) {
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
            let angle = position as f64 * self.config.rope_theta.powf(-(i as f64) / half as f64);
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
