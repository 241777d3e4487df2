use std::path::Path;

use reskill_model::ModelConfig;
use reskill_model::weights::{from_safetensors, to_safetensors};

use crate::support::{config, model};

fn check(config: &ModelConfig) {
    let model = model(config, 1);
    let bytes = to_safetensors(config, model.params()).unwrap();
    let back = from_safetensors(config, &bytes, Path::new("model.safetensors")).unwrap();
    assert_eq!(&back, model.params());
    assert_eq!(to_safetensors(config, &back).unwrap(), bytes);
}

#[test]
fn safetensors_round_trip_keeps_every_bit() {
    crate::support::families().iter().for_each(check);
    check(&ModelConfig { vocab_size: 7, ..ModelConfig::tiny() });
}

#[test]
fn safetensors_use_the_names_of_hugging_face() {
    let config = config(false);
    let bytes = to_safetensors(&config, model(&config, 1).params()).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<&str> = file.names().into_iter().filter(|name| !name.contains("layers.0")).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "lm_head.weight",
            "model.embed_tokens.weight",
            "model.layers.1.input_layernorm.weight",
            "model.layers.1.mlp.down_proj.weight",
            "model.layers.1.mlp.gate_proj.weight",
            "model.layers.1.mlp.up_proj.weight",
            "model.layers.1.post_attention_layernorm.weight",
            "model.layers.1.self_attn.k_proj.weight",
            "model.layers.1.self_attn.o_proj.weight",
            "model.layers.1.self_attn.q_proj.weight",
            "model.layers.1.self_attn.v_proj.weight",
            "model.norm.weight",
        ]
    );
    // The fused projection is cut into queries, keys and values.
    let qkv = &model(&config, 1).params().layers[1].qkv.as_slice().to_vec();
    let keys = file.tensor("model.layers.1.self_attn.k_proj.weight").unwrap();
    assert_eq!(keys.shape(), &[12, 20]);
    let first = f32::from_le_bytes(keys.data()[..4].try_into().unwrap());
    assert_eq!(first, qkv[24 * 20]);
}

#[test]
fn safetensors_errors_list_all_that_is_missing_or_odd() {
    let (tied, untied) = (config(true), config(false));
    let bytes = to_safetensors(&tied, model(&tied, 1).params()).unwrap();
    let read = |config: &ModelConfig, bytes: &[u8]| {
        from_safetensors(config, bytes, Path::new("dir/model.safetensors")).unwrap_err().to_string()
    };
    assert_eq!(read(&untied, &bytes), "dir/model.safetensors: `lm_head.weight` is missing");
    let biased = ModelConfig { qkv_bias: true, ..tied.clone() };
    let with_bias = to_safetensors(&biased, model(&biased, 1).params()).unwrap();
    let message = read(&tied, &with_bias);
    assert!(message.contains("`model.layers.1.self_attn.k_proj.bias` is not expected; "), "{message}");
    let deeper = ModelConfig { num_hidden_layers: 3, vocab_size: 24, ..tied.clone() };
    let message = read(&deeper, &bytes);
    assert!(
        message.contains("`model.embed_tokens.weight` is F32 [23, 20], expected [24, 20]; "),
        "{message}"
    );
    assert!(message.contains("`model.layers.2.mlp.down_proj.weight` is missing"), "{message}");
    assert_eq!(message.matches("is missing").count(), 9);
    assert!(read(&tied, &bytes[..100]).starts_with("dir/model.safetensors: "));
}

#[test]
fn the_layout_is_that_of_the_parameters() {
    for config in crate::support::families() {
        let params = model(&config, 1).params().clone();
        let mut sizes = vec![0; params.tensors().len()];
        for entry in reskill_model::layout::entries(&config) {
            let tensor = params.tensors()[entry.index];
            assert_eq!(entry.first_row * tensor.row_len(), sizes[entry.index], "{}", entry.name);
            sizes[entry.index] += entry.shape.iter().product::<usize>();
        }
        let want: Vec<usize> = params.tensors().iter().map(|tensor| tensor.len()).collect();
        assert_eq!(sizes, want);
    }
}

#[test]
fn parameters_are_counted_once() {
    let count = |tied| model(&config(tied), 1).params().count();
    let layer = 20 + 48 * 20 + 20 * 24 + 20 + 56 * 20 + 20 * 28;
    assert_eq!(count(true), 23 * 20 + 2 * layer + 20);
    assert_eq!(count(false), count(true) + 23 * 20);
}
