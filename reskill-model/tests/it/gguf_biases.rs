//! Qwen2 in GGUF: a checkpoint that `transformers` made, written again as llama.cpp's converter lays it out.

use std::path::Path;

use reskill_model::weights::to_safetensors;
use reskill_model::{ModelConfig, Pretrained};
use safetensors::SafeTensors;

use crate::parity::load;
use crate::pretrained::logits;
use crate::support::{bits, tokens};

/// Hugging Face's names inside a block, and GGUF's.
const PARTS: [(&str, &str); 9] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
];

fn gguf_name(name: &str) -> String {
    let name = name.strip_prefix("model.").unwrap();
    if let Some(kind) = name.strip_prefix("embed_tokens.") {
        return format!("token_embd.{kind}");
    }
    if let Some(kind) = name.strip_prefix("norm.") {
        return format!("output_norm.{kind}");
    }
    let (layer, part) = name.strip_prefix("layers.").unwrap().split_once('.').unwrap();
    let (part, kind) = part.rsplit_once('.').unwrap();
    let ours = PARTS.iter().find(|(theirs, _)| *theirs == part).unwrap().1;
    format!("blk.{layer}.{ours}.{kind}")
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

/// GGUF version 3 with all tensors in F32.
fn gguf(config: &ModelConfig, tensors: &SafeTensors<'_>) -> Vec<u8> {
    let numbers = [
        ("block_count", config.num_hidden_layers),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
    ];
    let floats = [
        ("rope.freq_base", config.rope_theta as f32),
        ("attention.layer_norm_rms_epsilon", config.rms_norm_eps),
    ];
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((1 + numbers.len() as u64 + floats.len() as u64).to_le_bytes());
    text(&mut file, "general.architecture");
    file.extend(8_u32.to_le_bytes());
    text(&mut file, "qwen2");
    for (key, value) in numbers {
        text(&mut file, &format!("qwen2.{key}"));
        file.extend([4_u32.to_le_bytes(), (value as u32).to_le_bytes()].concat());
    }
    for (key, value) in floats {
        text(&mut file, &format!("qwen2.{key}"));
        file.extend([6_u32.to_le_bytes(), value.to_le_bytes()].concat());
    }
    let mut data = Vec::new();
    for name in tensors.names() {
        let tensor = tensors.tensor(name).unwrap();
        text(&mut file, &gguf_name(name));
        file.extend((tensor.shape().len() as u32).to_le_bytes());
        tensor.shape().iter().rev().for_each(|&size| file.extend((size as u64).to_le_bytes()));
        file.extend(0_u32.to_le_bytes());
        file.extend((data.len() as u64).to_le_bytes());
        data.extend(tensor.data());
        data.resize(data.len().next_multiple_of(32), 0);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend(data);
    file
}

#[test]
fn qwen2_with_biases_from_gguf_is_the_checkpoint_of_transformers() {
    let (config, model) = load("qwen2-sharded");
    // Biases that are zero would not show whether they are read.
    let biases = model.params().layers.iter().filter_map(|layer| layer.qkv_bias.as_ref());
    assert_eq!(biases.clone().count(), 2);
    assert!(biases.clone().all(|bias| bias.as_slice().iter().all(|&x| x != 0.0)));
    let safetensors = to_safetensors(&config, model.params()).unwrap();
    let bytes = gguf(&config, &SafeTensors::deserialize(&safetensors).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qwen2.gguf");
    std::fs::write(&path, bytes).unwrap();
    let pretrained = Pretrained::open(&path).unwrap();
    assert_eq!(pretrained.config(), &config);
    assert!(config.qkv_bias && !config.out_bias && config.tie_word_embeddings);
    let read = pretrained.model().unwrap();
    assert_eq!(read.params(), model.params());
    let ids = tokens(20, config.vocab_size, 4);
    assert_eq!(bits(logits(&read, &ids).as_slice()), bits(logits(&model, &ids).as_slice()));
    // Without its tokenizer such a file still scores ids; the tokenizer says what it lacks.
    let message = pretrained.tokenizer().unwrap_err().to_string();
    assert!(message.contains("tokenizer.ggml"), "{message}");
}

#[test]
fn a_bias_that_a_block_of_gguf_lacks_is_named() {
    let (config, model) = load("qwen2-sharded");
    let safetensors = to_safetensors(&config, model.params()).unwrap();
    let all = SafeTensors::deserialize(&safetensors).unwrap();
    let kept =
        all.tensors().into_iter().filter(|(name, _)| !name.ends_with("layers.1.self_attn.k_proj.bias"));
    let kept = safetensors::serialize(kept, None).unwrap();
    let bytes = gguf(&config, &SafeTensors::deserialize(&kept).unwrap());
    let gguf = reskill_model::gguf::Gguf::parse(bytes, Path::new("x.gguf")).unwrap();
    let message = gguf.params(&reskill_kernels::Device::Cpu).unwrap_err().to_string();
    assert_eq!(message, "x.gguf: `model.layers.1.self_attn.k_proj.bias` is missing");
}
