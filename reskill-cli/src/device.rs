//! Where a run computes, and in which precision: the section `[device]`, and the options `--device` and `--precision`.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use reskill_kernels::{DType, Device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The section `[device]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// `cpu`, `cuda` (the first) or `cuda:N`.
    pub name: String,
    /// How weights and activations are stored. `bf16` is for CUDA devices; weights that are trained have masters in f32
    /// beside them.
    pub precision: PrecisionName,
}

/// How weights and activations are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionName {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number, sums in f32.
    Bf16,
}

impl PrecisionName {
    fn dtype(self) -> DType {
        match self {
            PrecisionName::F32 => DType::F32,
            PrecisionName::Bf16 => DType::Bf16,
        }
    }
}

impl Default for DeviceConfig {
    fn default() -> Self {
        DeviceConfig { name: "cpu".to_string(), precision: PrecisionName::F32 }
    }
}

impl DeviceConfig {
    /// The device, if this machine has it.
    ///
    /// # Errors
    /// One line: an unknown name, no driver, no such device, a precision that it does not offer.
    pub fn open(&self) -> Result<Device> {
        let open = || Device::parse(&self.name)?.with_precision(self.precision.dtype());
        open().context("device")
    }
}

/// The options of commands that run a model.
#[derive(Debug, Clone, Default, Args)]
pub struct DeviceArgs {
    /// Where the model runs: cpu, cuda (the first CUDA device) or cuda:N
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// How weights and activations are stored: f32, or bf16 on a CUDA device
    #[arg(long, value_enum, value_name = "PRECISION")]
    pub precision: Option<PrecisionName>,
}

impl DeviceArgs {
    /// The device that the options name; without them the CPU in f32.
    ///
    /// # Errors
    /// As [`DeviceConfig::open`].
    pub fn open(&self) -> Result<Device> {
        let default = DeviceConfig::default();
        DeviceConfig {
            name: self.device.clone().unwrap_or(default.name),
            precision: self.precision.unwrap_or(default.precision),
        }
        .open()
    }

    /// The same as assignments for `--set`.
    #[must_use]
    pub fn overrides(&self) -> Vec<String> {
        let name = self.device.iter().map(|name| format!("device.name=\"{name}\""));
        let precision = self.precision.and_then(|precision| precision.to_possible_value());
        name.chain(precision.map(|value| format!("device.precision=\"{}\"", value.get_name()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_the_section_of_the_configuration() {
        let args = DeviceArgs { device: Some("cuda:1".into()), precision: Some(PrecisionName::Bf16) };
        assert_eq!(args.overrides(), ["device.name=\"cuda:1\"", "device.precision=\"bf16\""]);
        assert_eq!(DeviceArgs::default().overrides(), Vec::<String>::new());
    }

    #[test]
    fn the_processor_in_bf16_is_refused_with_the_remedy() {
        let config = DeviceConfig { precision: PrecisionName::Bf16, ..DeviceConfig::default() };
        let message = format!("{:#}", config.open().unwrap_err());
        assert_eq!(
            message,
            "device: Device::with_precision: cpu does not offer weights and activations in bf16; use f32"
        );
    }
}
