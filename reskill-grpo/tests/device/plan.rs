//! The memory plan of a CUDA device.

use reskill_grpo::memory::DEVICE_ALLOWANCE;
use reskill_grpo::{LearnerConfig, MemoryPlan, MemoryRequest, MomentPrecision};
use reskill_kernels::Device;
use reskill_model::ModelConfig;

use crate::support::{device, narrow};

/// Qwen3-0.6B.
fn qwen3() -> ModelConfig {
    ModelConfig {
        vocab_size: 151_936,
        hidden_size: 1024,
        intermediate_size: 3072,
        num_hidden_layers: 28,
        num_attention_heads: 16,
        num_key_value_heads: 8,
        head_dim: 128,
        max_position_embeddings: 40_960,
        qk_norm: true,
        ..ModelConfig::tiny()
    }
}

fn plan(device: &Device, learns: bool) -> MemoryPlan {
    MemoryPlan::new(&MemoryRequest {
        device,
        learns,
        model: &qwen3(),
        learner: &LearnerConfig { max_tokens: 4096, ..LearnerConfig::default() },
        moments: MomentPrecision::F32,
        has_reference: true,
        lora: None,
        recompute: false,
        panels: None,
        slots: 128,
        context: 2050,
    })
}

#[test]
fn bf16_halves_weights_and_cache_and_adds_masters() {
    let (wide, half) = (plan(&device(), true), plan(&narrow(), true));
    // 596,042,752 parameters without the norms of heads, which the plan leaves out.
    assert_eq!(wide.weights, 4 * 596_042_752);
    assert_eq!((2 * half.weights, 2 * half.reference), (wide.weights, wide.reference));
    assert_eq!((half.masters, wide.masters), (wide.weights, 0));
    assert_eq!((half.gradients, half.optimizer), (wide.gradients, wide.optimizer));
    assert_eq!(2 * half.kv_cache, wide.kv_cache);
    // 128 sequences on 65 pages of 32, keys and values of 1024 numbers in 28 layers.
    let pages = 2 * 28 * 1024 * 128 * 65 * 32 * 2;
    assert!(half.kv_cache > pages && half.kv_cache < pages + (512 << 20), "{half}");
    // Two slabs of gradients of the head would be 256 MiB; there is one, and the strips' statistics.
    assert!(half.scratch > DEVICE_ALLOWANCE + (64 << 20) && half.scratch < 2 * DEVICE_ALLOWANCE, "{half}");
    let parts = [half.weights, half.masters, half.gradients, half.optimizer, half.reference, half.kv_cache];
    assert_eq!(half.total(), parts.iter().sum::<u64>() + half.activations + half.scratch);
}

#[test]
fn a_plan_that_does_not_fit_names_the_device_and_what_helps_there() {
    let message = |plan: MemoryPlan| plan.check(1 << 30).unwrap_err().to_string();
    let wide = message(plan(&device(), true));
    assert!(wide.contains("bytes of memory of cuda:0, 1073741824 are there"), "{wide}");
    assert!(
        wide.contains("--precision bf16") && wide.ends_with("or use the processor (--device cpu)"),
        "{wide}"
    );
    let narrow = message(plan(&narrow(), false));
    assert!(narrow.starts_with("playing needs") && !narrow.contains("bf16"), "{narrow}");
}
