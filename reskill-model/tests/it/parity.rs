//! Logits and gradients of checkpoints that `transformers` made (`tests/fixtures/make_parity.py`).

use std::path::{Path, PathBuf};

use reskill_kernels::ops::{self, TokenSets};
use reskill_kernels::{Device, Tensor};
use reskill_model::layout::entries;
use reskill_model::weights::from_folder;
use reskill_model::{ModelConfig, PackedBatch, Params, Transformer, Workspace, hf_config};
use safetensors::SafeTensors;

pub(crate) const CASES: [&str; 6] =
    ["llama", "llama3-rope", "llama-bias-linear-f16", "qwen2-sharded", "qwen3", "qwen3-bias-bf16"];

pub(crate) fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity").join(case)
}

pub(crate) fn load(case: &str) -> (ModelConfig, Transformer) {
    let folder = folder(case);
    let path = folder.join("config.json");
    let config = hf_config::from_json(&std::fs::read_to_string(&path).unwrap(), &path).unwrap();
    let params = from_folder(&config, &folder, &Device::Cpu).unwrap();
    (config.clone(), Transformer::new(&config, params).unwrap())
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().data().to_vec();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn tokens(file: &SafeTensors<'_>) -> Vec<u32> {
    floats(file, "tokens").into_iter().map(f32::to_bits).collect()
}

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, &Device::Cpu).unwrap()
}

/// Gradient of the mean cross-entropy of every token after the first.
fn gradients(model: &Transformer, tokens: &[u32]) -> Params {
    let config = model.config();
    let batch = PackedBatch::causal(tokens).unwrap();
    let mut workspace = Workspace::recomputing(config).unwrap();
    let hidden = model.forward(&mut workspace, &batch).unwrap();
    let (n, c) = (tokens.len() - 1, config.hidden_size);
    let read = Tensor::from_vec(&[n, c], hidden.as_slice()[..n * c].to_vec()).unwrap();
    let targets = Tensor::from_vec(&[n], tokens[1..].to_vec()).unwrap();
    let mut allowed = TokenSets::new();
    (0..n).for_each(|_| allowed.push(&[]));
    let (mut logprobs, mut entropy, mut lse) = (zeros(&[n]), zeros(&[n]), zeros(&[n]));
    let head = model.params().head();
    ops::linear_logprob_forward(&mut logprobs, &mut entropy, &mut lse, &read, head, &targets, &allowed, 1.0)
        .unwrap();
    let mut grads = Params::zeros(config).unwrap();
    let mut d_read = zeros(&[n, c]);
    let d_logprobs = Tensor::from_vec(&[n], vec![-1.0 / n as f32; n]).unwrap();
    ops::linear_logprob_backward(
        &mut d_read,
        grads.head_mut(),
        &d_logprobs,
        &zeros(&[n]),
        &entropy,
        &lse,
        &read,
        head,
        &targets,
        &allowed,
        1.0,
    )
    .unwrap();
    let mut d_hidden = zeros(&[n + 1, c]);
    d_hidden.as_mut_slice()[..n * c].copy_from_slice(d_read.as_slice());
    model.backward(&mut grads, &mut workspace, &batch, &d_hidden).unwrap();
    grads
}

#[test]
fn logits_and_all_gradients_equal_those_of_transformers() {
    for case in CASES {
        let (config, model) = load(case);
        let bytes = std::fs::read(folder(case).join("expected.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&bytes).unwrap();
        let tokens = tokens(&expected);
        let mut workspace = Workspace::new(&config).unwrap();
        let hidden = model.forward(&mut workspace, &PackedBatch::causal(&tokens).unwrap()).unwrap();
        let mut logits = zeros(&[tokens.len(), config.vocab_size]);
        ops::matmul(&mut logits, hidden, model.params().head(), false).unwrap();
        let want = floats(&expected, "logits");
        let largest = |errors: &mut dyn Iterator<Item = f32>| errors.fold(0.0_f32, f32::max);
        let error = largest(&mut logits.as_slice().iter().zip(&want).map(|(a, b)| (a - b).abs()));
        // Logits of size 4 in f32 on both sides.
        assert!(error <= 2e-5, "{case}: logits differ by {error:e}");
        let grads = gradients(&model, &tokens);
        for entry in entries(&config) {
            let tensor = grads.tensors()[entry.index];
            let got = &tensor.as_slice()[entry.first_row * tensor.row_len()..];
            let want = floats(&expected, &format!("grad.{}", entry.name));
            let size = largest(&mut want.iter().map(|x| x.abs()));
            let error = largest(&mut got.iter().zip(&want).map(|(a, b)| (a - b).abs()));
            assert!(size > 0.0, "{case}: {} has no gradient", entry.name);
            // A key bias moves all scores of a query alike: its gradient is zero but for rounding.
            let bound = if entry.name.ends_with("k_proj.bias") { size.max(1e-2) } else { size };
            assert!(error <= 1e-4 * bound, "{case}: {} is off by {error:e} of {size:e}", entry.name);
        }
    }
}
