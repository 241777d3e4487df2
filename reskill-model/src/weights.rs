//! Weights on disk: a safetensors file with Hugging Face's names, beside `config.json`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use reskill_kernels::Tensor;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::params::Params;

/// One tensor of the file: its name, where it lies in the parameters, its shape.
struct Entry {
    name: String,
    /// Index into [`Params::tensors`].
    index: usize,
    /// First row inside that tensor; projections that are stored fused here are apart in the file.
    first_row: usize,
    shape: Vec<usize>,
}

/// `params` as the bytes of a safetensors file (f32, Hugging Face's Llama names).
///
/// # Errors
/// [`ModelError::Weights`] if the format refuses the tensors.
pub fn to_safetensors(config: &ModelConfig, params: &Params) -> Result<Vec<u8>, ModelError> {
    let tensors = params.tensors();
    let mut bytes: BTreeMap<String, (Vec<usize>, Vec<u8>)> = BTreeMap::new();
    for entry in entries(config) {
        let slice = rows_of(tensors[entry.index], &entry);
        let data = slice.iter().flat_map(|x| x.to_le_bytes()).collect();
        bytes.insert(entry.name, (entry.shape, data));
    }
    let odd = |source: safetensors::SafeTensorError| ModelError::Weights {
        path: "model.safetensors".into(),
        reason: source.to_string(),
    };
    let views = bytes
        .iter()
        .map(|(name, (shape, data))| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), data).map_err(odd)?))
        })
        .collect::<Result<Vec<_>, ModelError>>()?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize(views, Some(metadata)).map_err(odd)
}

/// Parameters from the bytes of a safetensors file. `path` is named in errors.
///
/// # Errors
/// [`ModelError::Weights`] lists every tensor that is missing or has another shape or type than `config` says.
pub fn from_safetensors(config: &ModelConfig, bytes: &[u8], path: &Path) -> Result<Params, ModelError> {
    let odd = |reason: String| ModelError::Weights { path: path.to_path_buf(), reason };
    let file = SafeTensors::deserialize(bytes).map_err(|source| odd(source.to_string()))?;
    let mut params = Params::zeros(config)?;
    let mut problems = Vec::new();
    for entry in entries(config) {
        let Ok(view) = file.tensor(&entry.name) else {
            problems.push(format!("`{}` is missing", entry.name));
            continue;
        };
        if view.shape() != entry.shape || view.dtype() != Dtype::F32 {
            problems.push(format!(
                "`{}` is {:?} {:?}, expected F32 {:?}",
                entry.name,
                view.dtype(),
                view.shape(),
                entry.shape
            ));
            continue;
        }
        let mut tensors = params.tensors_mut();
        let tensor = &mut tensors[entry.index];
        let start = entry.first_row * tensor.row_len();
        let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        for (to, value) in tensor.as_mut_slice()[start..].iter_mut().zip(values) {
            *to = value;
        }
    }
    if problems.is_empty() { Ok(params) } else { Err(odd(problems.join("; "))) }
}

fn rows_of<'a>(tensor: &'a Tensor, entry: &Entry) -> &'a [f32] {
    let start = if entry.shape.len() == 1 { 0 } else { entry.first_row * tensor.row_len() };
    &tensor.as_slice()[start..start + entry.shape.iter().product::<usize>()]
}

/// Every tensor of the file, in the order of [`Params::tensors`].
fn entries(config: &ModelConfig) -> Vec<Entry> {
    let (v, c, f) = (config.vocab_size, config.hidden_size, config.intermediate_size);
    let attention = config.attention_shape();
    let (q, kv) = (attention.out_width(), attention.kv_width());
    let mut all = Vec::new();
    let mut index = 0;
    let mut tensor = |parts: &[(String, Vec<usize>)]| {
        let mut first_row = 0;
        for (name, shape) in parts {
            all.push(Entry { name: name.clone(), index, first_row, shape: shape.clone() });
            first_row += shape[0];
        }
        index += 1;
    };
    tensor(&[("model.embed_tokens.weight".into(), vec![v, c])]);
    for layer in 0..config.num_hidden_layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
        tensor(&[(name("input_layernorm"), vec![c])]);
        tensor(&[
            (name("self_attn.q_proj"), vec![q, c]),
            (name("self_attn.k_proj"), vec![kv, c]),
            (name("self_attn.v_proj"), vec![kv, c]),
        ]);
        tensor(&[(name("self_attn.o_proj"), vec![c, q])]);
        tensor(&[(name("post_attention_layernorm"), vec![c])]);
        tensor(&[(name("mlp.gate_proj"), vec![f, c]), (name("mlp.up_proj"), vec![f, c])]);
        tensor(&[(name("mlp.down_proj"), vec![c, f])]);
    }
    tensor(&[("model.norm.weight".into(), vec![c])]);
    if !config.tie_word_embeddings {
        tensor(&[("lm_head.weight".into(), vec![v, c])]);
    }
    all
}
