//! Where a benchmark runs, how numbers are stored there, and who multiplies.

use anyhow::{Result, bail};
use clap::Args;
use reskill_kernels::{Device, GemmChoice};
use serde_json::{Value, json};

use super::figures::figure;
use crate::device::{GemmName, PrecisionName};

/// The options of benchmarks that run on a device.
#[derive(Debug, Args)]
pub(super) struct DeviceOptions {
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// How activations and weights are stored
    #[arg(long, visible_alias = "precision", value_enum, default_value_t = PrecisionName::F32)]
    dtype: PrecisionName,
    /// Who multiplies matrices on a CUDA device
    #[arg(long, value_enum, value_name = "WHO", default_value_t = GemmName::Own)]
    pub(super) gemm: GemmName,
}

impl DeviceOptions {
    /// The device, storing numbers and multiplying as asked for.
    pub(super) fn open(&self) -> Result<Device> {
        let device = Device::parse(&self.device)?;
        if device.is_cpu() && self.dtype == PrecisionName::Bf16 {
            bail!("--dtype bf16: the CPU computes in f32; use --device cuda");
        }
        let device = device.with_precision(self.dtype.dtype())?;
        device.set_gemm_backend(self.gemm.backend())?;
        Ok(device)
    }
}

/// Who was chosen for a kind of product, as a line of JSON.
pub(super) fn choice_json(choice: &GemmChoice) -> Value {
    let candidates: Vec<Value> = choice
        .candidates
        .iter()
        .map(|(name, trial)| match trial {
            Ok(trial) => json!({ "name": name, "micros": trial.micros, "distance": trial.distance }),
            Err(reason) => json!({ "name": name, "left_out": reason }),
        })
        .collect();
    json!({
        "bench": "gemm_choice", "product": choice.product, "chosen": choice.chosen, "candidates": candidates,
    })
}

/// The same for all kinds as a table; nothing where nothing was chosen.
pub(super) fn choices_table(choices: &[GemmChoice]) -> String {
    if choices.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{:<64} {:<10} {}\n", "product", "chosen", "candidates, us");
    for choice in choices {
        let candidates: Vec<String> = choice
            .candidates
            .iter()
            .map(|(name, trial)| match trial {
                Ok(trial) => format!("{name} {}", figure(trial.micros)),
                Err(reason) => format!("{name} left out: {reason}"),
            })
            .collect();
        text += &format!("{:<64} {:<10} {}\n", choice.product, choice.chosen, candidates.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use reskill_kernels::GemmTrial;

    use super::*;

    #[test]
    fn choices_name_each_candidate_or_why_it_is_left_out() {
        let choice = GemmChoice {
            product: "Forward M<=8 N=64 K=32 f32 to f32".into(),
            chosen: "own",
            candidates: vec![
                ("own", Ok(GemmTrial { micros: 12.5, distance: 0.0 })),
                ("cublaslt", Err("not found".into())),
            ],
        };
        let line = choice_json(&choice);
        assert_eq!((&line["chosen"], &line["candidates"][0]["micros"]), (&json!("own"), &json!(12.5)));
        assert_eq!(line["candidates"][1]["left_out"], "not found");
        assert!(choices_table(&[choice]).contains("own 12.50, cublaslt left out: not found"));
        assert_eq!(choices_table(&[]), "");
    }
}
