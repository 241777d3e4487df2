//! Whether a measurement of a whole model finds room, asked before anything is placed.

use anyhow::{Result, bail};
use reskill_grpo::{LearnerConfig, MemoryPlan, MemoryRequest, MomentPrecision};
use reskill_kernels::Device;
use reskill_model::ModelConfig;

use super::figures::bytes;
use crate::memory::{available_memory, physical_memory};

/// What a measurement takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need<'a> {
    /// Its name.
    pub(super) what: &'a str,
    pub(super) model: &'a ModelConfig,
    /// Whether gradients are computed.
    pub(super) learns: bool,
    /// Sequences at once, and tokens of each.
    pub(super) sequences: usize,
    pub(super) tokens: usize,
}

impl Need<'_> {
    /// Bytes by purpose, as training and playing plan them, without what a measurement does not have: moments, masters.
    fn parts(&self, device: &Device) -> Vec<(&'static str, u64)> {
        let learner = LearnerConfig { max_tokens: self.sequences * self.tokens, ..LearnerConfig::default() };
        let plan = MemoryPlan::new(&MemoryRequest {
            device,
            learns: self.learns,
            model: self.model,
            learner: &learner,
            moments: MomentPrecision::F32,
            has_reference: false,
            lora: None,
            recompute: false,
            panels: None,
            slots: if self.learns { 0 } else { self.sequences },
            context: self.tokens,
        });
        vec![
            ("weights", plan.weights),
            ("gradients", plan.gradients),
            ("cache", plan.kv_cache),
            ("activations", plan.activations),
            ("scratch", plan.scratch),
        ]
    }

    /// Refuses what does not fit into the memory that is free.
    ///
    /// # Errors
    /// One line says how much is needed, for what, and how much there is.
    pub(super) fn check(&self, device: &Device) -> Result<()> {
        let available = match device.free_memory()? {
            Some(free) => Some(free),
            None => available_memory().into_iter().chain(physical_memory()).min(),
        };
        match available {
            Some(available) => self.fits(device, available),
            None => Ok(()),
        }
    }

    fn fits(&self, device: &Device, available: u64) -> Result<()> {
        let parts = self.parts(device);
        let needed: u64 = parts.iter().map(|(_, part)| part).sum();
        if needed <= available {
            return Ok(());
        }
        let named: Vec<String> = parts
            .iter()
            .filter(|(_, part)| *part > 0)
            .map(|(name, part)| format!("{name} {}", bytes(*part)))
            .collect();
        let narrow = if device.is_cpu() { "" } else { ", or store in bf16 (--dtype bf16)" };
        bail!(
            "{}: needs {} ({}), {device} has {} free; lower --batch or --tokens{narrow}",
            self.what,
            bytes(needed),
            named.join(", "),
            bytes(available)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_both_numbers() {
        let model = ModelConfig { max_position_embeddings: 4096, ..ModelConfig::tiny() };
        let need = Need { what: "decode", model: &model, learns: false, sequences: 64, tokens: 4096 };
        let cache = 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim * 64 * 4096 * 4;
        let parts = need.parts(&Device::Cpu);
        assert_eq!(parts[2], ("cache", cache as u64));
        let all = parts.iter().map(|part| part.1).sum();
        need.fits(&Device::Cpu, all).unwrap();
        let message = need.fits(&Device::Cpu, all - 1).unwrap_err().to_string();
        assert!(message.starts_with("decode: needs ") && message.contains("cpu has "), "{message}");
        assert!(message.contains("; lower --batch or --tokens"), "{message}");
    }
}
