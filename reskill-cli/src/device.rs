//! Where a run computes, in which precision, and who multiplies its matrices: the section `[device]`, and the options
//! `--device`, `--precision` and `--gemm`.

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use reskill_kernels::{DType, Device, GemmBackend};
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
    /// Who multiplies matrices on a CUDA device: `own`, `portable`, `cublaslt` or `auto`. A CPU has one way only and does
    /// not look at it.
    pub gemm: GemmName,
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
    /// The same as a type of numbers.
    #[must_use]
    pub fn dtype(self) -> DType {
        match self {
            PrecisionName::F32 => DType::F32,
            PrecisionName::Bf16 => DType::Bf16,
        }
    }
}

/// Who multiplies matrices on a CUDA device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum GemmName {
    /// This program's kernels, chosen by device and sizes alone: the same bits in each run. Devices of compute capability
    /// 9.0 use kernels of their own for products and the output head in bf16, so their bits differ from those of 8.x.
    Own,
    /// As `own` without the kernels of compute capability 9.0 for products and the output head.
    Portable,
    /// NVIDIA's cuBLASLt, which must be installed.
    Cublaslt,
    /// The quickest of both and of the kernels for compute capability 9.0, each kind of product timed once: another run may
    /// choose differently and then rounds differently. Without cuBLASLt, the quickest of the others.
    Auto,
}

impl GemmName {
    /// The same as the kernels know it.
    #[must_use]
    pub fn backend(self) -> GemmBackend {
        match self {
            GemmName::Own => GemmBackend::Own,
            GemmName::Portable => GemmBackend::Portable,
            GemmName::Cublaslt => GemmBackend::CublasLt,
            GemmName::Auto => GemmBackend::Auto,
        }
    }
}

impl Default for DeviceConfig {
    fn default() -> Self {
        DeviceConfig { name: "cpu".to_string(), precision: PrecisionName::F32, gemm: GemmName::Own }
    }
}

impl DeviceConfig {
    /// The device, if this machine has it.
    ///
    /// # Errors
    /// One line: an unknown name, no driver, no such device, a precision or a way to multiply that it does not offer.
    pub fn open(&self) -> Result<Device> {
        let open = || {
            let device = Device::parse(&self.name)?.with_precision(self.precision.dtype())?;
            device.set_gemm_backend(self.gemm.backend())?;
            Ok::<_, reskill_kernels::KernelError>(device)
        };
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
    /// Who multiplies matrices on a CUDA device: the program's kernels, cuBLASLt, or whichever is quicker
    #[arg(long, value_enum, value_name = "WHO")]
    pub gemm: Option<GemmName>,
}

impl DeviceArgs {
    /// The device that the options name; without them the CPU in f32.
    ///
    /// # Errors
    /// As [`DeviceConfig::open`].
    pub fn open(&self) -> Result<Device> {
        self.over(&DeviceConfig::default()).open()
    }

    /// `config` with what the options replace. Who names the CPU, and no precision, gets its only one.
    #[must_use]
    pub fn over(&self, config: &DeviceConfig) -> DeviceConfig {
        let only = (self.device.as_deref() == Some("cpu")).then_some(PrecisionName::F32);
        DeviceConfig {
            name: self.device.clone().unwrap_or_else(|| config.name.clone()),
            precision: self.precision.or(only).unwrap_or(config.precision),
            gemm: self.gemm.unwrap_or(config.gemm),
        }
    }

    /// The same as assignments for `--set`.
    #[must_use]
    pub fn overrides(&self) -> Vec<String> {
        let name = self.device.iter().map(|name| format!("device.name=\"{name}\""));
        let precision = self.precision.iter().map(|it| assignment("precision", it));
        let gemm = self.gemm.iter().map(|it| assignment("gemm", it));
        name.chain(precision).chain(gemm).collect()
    }
}

/// `device.KEY="VALUE"`.
fn assignment(key: &str, value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    format!("device.{key}=\"{}\"", value.as_ref().map_or("", |value| value.get_name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_the_section_of_the_configuration() {
        let args = DeviceArgs {
            device: Some("cuda:1".into()),
            precision: Some(PrecisionName::Bf16),
            gemm: Some(GemmName::Cublaslt),
        };
        let expected = ["device.name=\"cuda:1\"", "device.precision=\"bf16\"", "device.gemm=\"cublaslt\""];
        assert_eq!(args.overrides(), expected);
        assert_eq!(DeviceArgs::default().overrides(), Vec::<String>::new());
    }

    #[test]
    fn options_replace_what_a_run_was_trained_with() {
        let trained =
            DeviceConfig { name: "cuda".into(), precision: PrecisionName::Bf16, gemm: GemmName::Auto };
        assert_eq!(DeviceArgs::default().over(&trained), trained);
        let on = |device: &str| DeviceArgs { device: Some(device.into()), ..DeviceArgs::default() };
        let other = DeviceConfig { name: "cuda:1".into(), ..trained.clone() };
        assert_eq!(on("cuda:1").over(&trained), other);
        let cpu = DeviceConfig { name: "cpu".into(), precision: PrecisionName::F32, ..trained.clone() };
        assert_eq!(on("cpu").over(&trained), cpu);
        let asked = DeviceArgs { precision: Some(PrecisionName::Bf16), ..on("cpu") };
        assert_eq!(asked.over(&trained).precision, PrecisionName::Bf16);
    }

    #[test]
    fn the_section_says_who_multiplies_and_refuses_other_words() {
        let config: DeviceConfig = toml::from_str("name = \"cuda\"\ngemm = \"auto\"").unwrap();
        assert_eq!((config.gemm, config.precision), (GemmName::Auto, PrecisionName::F32));
        let message = toml::from_str::<DeviceConfig>("gemm = \"fast\"").unwrap_err().to_string();
        assert!(message.contains("expected one of `own`, `portable`, `cublaslt`, `auto`"), "{message}");
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
