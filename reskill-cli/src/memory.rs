//! The memory that a run will take, beside what the machine has.

use anyhow::{Context, Result};
use reskill_grpo::{MemoryPlan, MemoryRequest};
use reskill_model::ModelConfig;

use crate::config::TrainConfig;

/// The plan of a run with a policy of these sizes that reads at most `context` tokens at once.
///
/// # Errors
/// If it needs more memory than the machine (or its control group) has: one line says what would help.
pub fn planned_memory(config: &TrainConfig, model: &ModelConfig, context: usize) -> Result<MemoryPlan> {
    let plan = MemoryPlan::new(&MemoryRequest {
        model,
        learner: &config.grpo.learner,
        moments: config.grpo.optimizer.moments,
        has_reference: config.model.lora.is_none() && config.grpo.loss.kl_coef > 0.0,
        lora: config.model.lora.as_ref(),
        recompute: config.model.recompute,
        panels: config.model.panels(),
        slots: config.rollout.tasks_per_step * config.rollout.group_size,
        context,
    });
    if let Some(available) = physical_memory() {
        plan.check(available).context("memory")?;
    }
    Ok(plan)
}

/// Bytes of memory, if the system tells: the smaller of the machine's and the control group's.
#[must_use]
pub fn physical_memory() -> Option<u64> {
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse::<u64>().ok());
    meminfo("MemTotal:").into_iter().chain(group).min()
}

/// Bytes of memory that new programs can have, if the system tells.
#[must_use]
pub fn available_memory() -> Option<u64> {
    meminfo("MemAvailable:")
}

fn meminfo(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}
