use std::path::Path;

use reskill_kernels::ops::{self, AdamWParams, TokenSets, adamw};
use reskill_kernels::{Device, Tensor};
use reskill_model::lora::{Lora, LoraConfig, Target};
use reskill_model::{Gradients, ModelConfig, PackedBatch, Transformer, Workspace};

use crate::parity;
use crate::pretrained::{fixture, ids, json, logits};
use crate::support::{bits, families, model, rng, tokens};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, &Device::Cpu).unwrap()
}

/// Mean cross-entropy of the tokens after the first, and its gradient.
fn loss(model: &Transformer, tokens: &[u32], grads: &mut Gradients) -> f64 {
    let batch = PackedBatch::causal(tokens).unwrap();
    let mut workspace = Workspace::new(model.config()).unwrap();
    let (n, c) = (tokens.len() - 1, model.config().hidden_size);
    let hidden = model.forward(&mut workspace, &batch).unwrap().as_slice()[..n * c].to_vec();
    let hidden = Tensor::from_vec(&[n, c], hidden).unwrap();
    let targets = Tensor::from_vec(&[n], tokens[1..].to_vec()).unwrap();
    let mut allowed = TokenSets::new();
    (0..n).for_each(|_| allowed.push(&[]));
    let (mut logprobs, mut entropy, mut lse) = (zeros(&[n]), zeros(&[n]), zeros(&[n]));
    let head = model.params().head();
    ops::linear_logprob_forward(
        &mut logprobs,
        &mut entropy,
        &mut lse,
        &hidden,
        head,
        &targets,
        &allowed,
        1.0,
    )
    .unwrap();
    let d_logprobs = Tensor::from_vec(&[n], vec![-1.0 / n as f32; n]).unwrap();
    let (mut d_hidden, mut d_head) = (zeros(&[n, c]), zeros(head.shape()));
    ops::linear_logprob_backward(
        &mut d_hidden,
        &mut d_head,
        &d_logprobs,
        &zeros(&[n]),
        &entropy,
        &lse,
        &hidden,
        head,
        &targets,
        &allowed,
        1.0,
    )
    .unwrap();
    let mut all = zeros(&[n + 1, c]);
    all.as_mut_slice()[..n * c].copy_from_slice(d_hidden.as_slice());
    grads.clear().unwrap();
    model.backward_trainable(grads, &mut workspace, &batch, &all).unwrap();
    -logprobs.as_slice().iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64
}

#[test]
fn an_adapter_of_peft_gives_its_logits_and_gradients() {
    let (config, mut model) = parity::load("llama");
    let lora = Lora::load(&config, &fixture("adapter")).unwrap();
    model.attach(lora).unwrap();
    let expected = json(&fixture("adapter/expected.json"));
    let tokens = ids(&expected["tokens"]);
    let want: Vec<Vec<f32>> = serde_json::from_value(expected["logits"].clone()).unwrap();
    for (got, want) in logits(&model, &tokens).as_slice().iter().zip(want.concat()) {
        // Logits of size 4 in f32 on both sides.
        assert!((got - want).abs() <= 2e-5, "{got} for {want}");
    }
    let mut grads = Gradients::zeros(&model).unwrap();
    loss(&model, &tokens, &mut grads);
    for (name, grad) in model.trainable_names().iter().zip(grads.tensors()) {
        let want: Vec<f32> = serde_json::from_value(expected["grads"][name].clone()).unwrap();
        let size = want.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
        for (got, want) in grad.as_slice().iter().zip(&want) {
            assert!((got - want).abs() <= 1e-4 * size, "{name}: {got} for {want}");
        }
    }
}

#[test]
fn training_an_adapter_lowers_the_loss_and_leaves_the_weights_alone() {
    for (index, config) in families().iter().enumerate() {
        let base = model(config, 1);
        let mut model = base.clone();
        let lora_config = LoraConfig { r: 4, lora_alpha: 8.0, ..LoraConfig::default() };
        model.attach(Lora::init(config, &lora_config, &mut rng(2)).unwrap()).unwrap();
        let tokens = tokens(24, 23, 3);
        // A new adapter changes nothing.
        assert_eq!(bits(logits(&model, &tokens).as_slice()), bits(logits(&base, &tokens).as_slice()));
        let mut grads = Gradients::zeros(&model).unwrap();
        assert!(grads.head_mut().is_none());
        let (mut m, mut v) = (grads.clone(), grads.clone());
        let mut losses = Vec::new();
        for step in 1..=30 {
            losses.push(loss(&model, &tokens, &mut grads));
            let numbers = AdamWParams {
                learning_rate: 0.02,
                beta1: 0.9,
                beta2: 0.99,
                eps: 1e-8,
                weight_decay: 0.0,
                step,
                grad_scale: 1.0,
            };
            let moments = m.tensors_mut().into_iter().zip(v.tensors_mut());
            for ((weight, (m, v)), grad) in
                model.trainable_mut().into_iter().zip(moments).zip(grads.tensors())
            {
                adamw(weight, m, v, grad, &numbers).unwrap();
            }
        }
        assert!(losses[29] < 0.5 * losses[0], "family {index}: {losses:?}");
        assert_eq!(model.params(), base.params());
        // The reference is the model with its adapter off.
        let reference = model.without_adapter();
        assert_eq!(bits(logits(&reference, &tokens).as_slice()), bits(logits(&base, &tokens).as_slice()));
        let trained = logits(&model, &tokens);
        model.merge_adapter().unwrap();
        for (merged, trained) in logits(&model, &tokens).as_slice().iter().zip(trained.as_slice()) {
            // The same sums in another order, in f32, through two blocks.
            assert!((merged - trained).abs() < 2e-4 * (1.0 + trained.abs()), "{merged} for {trained}");
        }
    }
}

#[test]
fn a_saved_adapter_is_the_same_again_and_what_is_not_plain_is_refused() {
    let config = families().remove(4);
    let numbers = LoraConfig {
        r: 3,
        target_modules: [Target::QProj, Target::DownProj].into(),
        use_rslora: true,
        ..LoraConfig::default()
    };
    let mut lora = Lora::init(&config, &numbers, &mut rng(1)).unwrap();
    lora.tensors_mut()[1].fill(0.25).unwrap();
    let dir = tempfile::tempdir().unwrap();
    lora.save(dir.path(), "base").unwrap();
    assert_eq!(Lora::load(&config, dir.path()).unwrap(), lora);
    let other = Lora::load(&families()[0], dir.path()).unwrap_err().to_string();
    assert!(other.contains("lora_B.weight` is F32 [32, 3], expected F32 [24, 3]"), "{other}");
    let path = dir.path().join("adapter_config.json");
    let mut raw = json(&path);
    raw["use_dora"] = true.into();
    std::fs::write(&path, raw.to_string()).unwrap();
    let refused = Lora::load(&config, dir.path()).unwrap_err().to_string();
    assert!(refused.ends_with("`use_dora` is set, which is not supported"), "{refused}");
}

#[test]
fn an_adapter_at_odds_with_its_configuration_or_the_model_says_in_what() {
    let config = families().remove(0);
    let numbers = LoraConfig {
        r: 3,
        target_modules: [Target::QProj, Target::DownProj].into(),
        ..LoraConfig::default()
    };
    let dir = tempfile::tempdir().unwrap();
    Lora::init(&config, &numbers, &mut rng(1)).unwrap().save(dir.path(), "base").unwrap();
    let path = dir.path().join("adapter_config.json");
    let saved = json(&path);
    let refused = |model: &ModelConfig, key: &str, value: serde_json::Value| {
        let mut edited = saved.clone();
        edited[key] = value;
        std::fs::write(&path, edited.to_string()).unwrap();
        let message = Lora::load(model, dir.path()).unwrap_err().to_string();
        let (file, message) = message.split_once(": ").unwrap();
        assert_eq!(Path::new(file), dir.path().join("adapter_model.safetensors"));
        message.to_string()
    };
    let message = refused(&config, "r", 5.into());
    // Two blocks, two projections, two factors each: eight names.
    let begin = "`r` = 5 in adapter_config.json, but the factors have rank 3; \
                 `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight` is F32 [3, 20], expected F32 [5, 20]; ";
    assert!(message.starts_with(begin) && message.ends_with("; and 4 more like these"), "{message}");
    let message = refused(&config, "target_modules", serde_json::json!(["q_proj", "up_proj"]));
    let begin = "`target_modules` in adapter_config.json names up_proj without factors; \
                 `target_modules` in adapter_config.json does not name down_proj, whose factors are there; ";
    assert!(message.starts_with(begin), "{message}");
    let deeper = ModelConfig { num_hidden_layers: 3, ..config.clone() };
    let message = refused(&deeper, "r", 3.into());
    assert!(message.starts_with("it was made for a model of 2 blocks, this one has 3; `"), "{message}");
    let wider = ModelConfig { hidden_size: 32, ..config.clone() };
    let message = refused(&wider, "r", 3.into());
    let begin = "it was made for a model whose q_proj has 20 inputs, that of this one has 32; `";
    assert!(message.starts_with(begin), "{message}");
    // A rank that the file cannot hold takes no memory.
    assert!(refused(&config, "r", 65536.into()).starts_with("`r` = 65536 in adapter_config.json, but"));
    std::fs::copy(
        parity::folder("llama").join("model.safetensors"),
        dir.path().join("adapter_model.safetensors"),
    )
    .unwrap();
    assert!(refused(&config, "r", 3.into()).starts_with("holds no factors of LoRA; "));
}

#[test]
fn frozen_weights_get_no_gradient() {
    let config = families().remove(0);
    let mut model = model(&config, 1);
    let batch = PackedBatch::causal(&[1, 2]).unwrap();
    let mut workspace = Workspace::new(&config).unwrap();
    let mut full = reskill_model::Params::zeros(&config).unwrap();
    model.attach(Lora::init(&config, &LoraConfig::default(), &mut rng(1)).unwrap()).unwrap();
    model.forward(&mut workspace, &batch).unwrap();
    let refused = model.backward(&mut full, &mut workspace, &batch, &zeros(&[2, 20])).unwrap_err();
    assert_eq!(refused.to_string(), "the weights cannot be trained: an adapter is on");
    let wrong = Lora::init(&families()[4], &LoraConfig::default(), &mut rng(1)).unwrap();
    assert!(model.attach(wrong).unwrap_err().to_string().contains("was made for a model of another size"));
}
