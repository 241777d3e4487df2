//! Every parameter of a model, once: its name in Hugging Face's checkpoints, its shape, its place among the parameters.

use crate::config::ModelConfig;

/// One tensor of a checkpoint and where it lies in [`crate::Params`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Hugging Face's name.
    pub name: String,
    /// Index into [`crate::Params::tensors`].
    pub index: usize,
    /// First row inside that tensor: projections that are stored fused there are apart in a checkpoint.
    pub first_row: usize,
    /// Shape in the checkpoint.
    pub shape: Vec<usize>,
}

/// All tensors of a checkpoint, in the order of [`crate::Params::tensors`].
#[must_use]
pub fn entries(config: &ModelConfig) -> Vec<Entry> {
    let (v, c, f) = (config.vocab_size, config.hidden_size, config.intermediate_size);
    let attention = config.attention_shape();
    let (q, kv, d) = (attention.out_width(), attention.kv_width(), config.head_dim);
    let mut list = List::default();
    list.tensor(&[("model.embed_tokens.weight".into(), vec![v, c])]);
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let linear = |list: &mut List, parts: &[(&str, usize)], inputs: usize, bias: bool| {
            let tensor = |kind: &str, shape: fn(usize, usize) -> Vec<usize>| {
                let part = |&(part, outputs): &(&str, usize)| {
                    (name(&format!("{part}.{kind}")), shape(outputs, inputs))
                };
                parts.iter().map(part).collect::<Vec<_>>()
            };
            list.tensor(&tensor("weight", |outputs, inputs| vec![outputs, inputs]));
            if bias {
                list.tensor(&tensor("bias", |outputs, _| vec![outputs]));
            }
        };
        let norm = |list: &mut List, part: &str, width: usize| {
            list.tensor(&[(name(&format!("{part}.weight")), vec![width])]);
        };
        norm(&mut list, "input_layernorm", c);
        let heads = [("self_attn.q_proj", q), ("self_attn.k_proj", kv), ("self_attn.v_proj", kv)];
        linear(&mut list, &heads, c, config.qkv_bias);
        if config.qk_norm {
            norm(&mut list, "self_attn.q_norm", d);
            norm(&mut list, "self_attn.k_norm", d);
        }
        linear(&mut list, &[("self_attn.o_proj", c)], q, config.out_bias);
        norm(&mut list, "post_attention_layernorm", c);
        linear(&mut list, &[("mlp.gate_proj", f), ("mlp.up_proj", f)], c, config.mlp_bias);
        linear(&mut list, &[("mlp.down_proj", c)], f, config.mlp_bias);
    }
    list.tensor(&[("model.norm.weight".into(), vec![c])]);
    if !config.tie_word_embeddings {
        list.tensor(&[("lm_head.weight".into(), vec![v, c])]);
    }
    list.entries
}

#[derive(Default)]
struct List {
    entries: Vec<Entry>,
    index: usize,
}

impl List {
    /// One tensor of the parameters, and the tensors of a checkpoint that it holds one below the other.
    fn tensor(&mut self, parts: &[(String, Vec<usize>)]) {
        let mut first_row = 0;
        for (name, shape) in parts {
            let entry = Entry { name: name.clone(), index: self.index, first_row, shape: shape.clone() };
            self.entries.push(entry);
            first_row += shape[0];
        }
        self.index += 1;
    }
}
