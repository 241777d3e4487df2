//! The memory that a run will take, beside what the machine or the device has.

use anyhow::{Context, Result};
use reskill_grpo::{MemoryPlan, MemoryRequest};
use reskill_kernels::Device;
use reskill_model::ModelConfig;

use crate::config::TrainConfig;
use crate::policy::evaluation_slots;

/// What a run does with its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Trains it.
    Training,
    /// Plays with it: this many episodes at once, or as many as an evaluation plays.
    Playing(Option<usize>),
}

/// The plan of a run with a policy of these sizes on `device`, which reads at most `context` tokens at once.
#[must_use]
pub fn planned_memory(
    config: &TrainConfig,
    model: &ModelConfig,
    context: usize,
    device: &Device,
    purpose: Purpose,
) -> MemoryPlan {
    let rollouts = config.rollout.tasks_per_step * config.rollout.group_size;
    let evaluated = evaluation_slots(config.model.is_pretrained(), rollouts);
    let slots = match purpose {
        Purpose::Playing(slots) => slots.unwrap_or(evaluated),
        // A CPU takes the pages that are used, and an evaluation of short games uses few.
        Purpose::Training if device.is_cpu() => rollouts,
        Purpose::Training => rollouts.max(evaluated),
    };
    MemoryPlan::new(&MemoryRequest {
        device,
        learns: purpose == Purpose::Training,
        model,
        learner: &config.grpo.learner,
        moments: config.grpo.optimizer.moments,
        has_reference: config.model.lora.is_none() && config.grpo.loss.kl_coef > 0.0,
        lora: config.model.lora.as_ref(),
        recompute: config.model.recompute,
        panels: config.model.panels(),
        slots,
        context,
    })
}

/// Refuses a plan for `device` that does not fit into what is there. Asked before weights are placed: on a CUDA device what
/// is free counts, on a CPU what the machine (or the control group) has.
///
/// # Errors
/// One line says what would help.
pub fn check_memory(plan: &MemoryPlan, device: &Device) -> Result<()> {
    let available = match device.free_memory()? {
        Some(free) => Some(free),
        None => physical_memory(),
    };
    match available {
        Some(available) => plan.check(available).context("memory"),
        None => Ok(()),
    }
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
