//! Weights on disk: safetensors with Hugging Face's names, in one file or several.

mod mapped;
mod safetensors_file;
pub(crate) mod save;
pub(crate) mod source;

pub(crate) use mapped::Mapped;
pub(crate) use safetensors_file::{Shard, Shards};

use std::path::Path;

use reskill_kernels::Device;

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::params::Params;

pub use save::{Precision, SaveOptions, to_safetensors};

/// Parameters from the bytes of a safetensors file (f32, f16 or bf16). `path` is named in errors.
///
/// # Errors
/// [`ModelError::Weights`] lists every tensor that is missing, not expected, or has another shape or type than `config`
/// says.
pub fn from_safetensors(config: &ModelConfig, bytes: &[u8], path: &Path) -> Result<Params, ModelError> {
    config.validate()?;
    source::read_params(config, &Shards::one(Shard::new(bytes, path)?), path, &Device::Cpu)
}

/// Parameters from the safetensors of a folder, mapped into memory: `model.safetensors`, or the files that
/// `model.safetensors.index.json` names. They go to `device`, in its precision, one at a time.
///
/// # Errors
/// As [`from_safetensors`]; [`ModelError::File`]; [`ModelError::Kernel`] if the device has no room.
pub fn from_folder(config: &ModelConfig, dir: &Path, device: &Device) -> Result<Params, ModelError> {
    config.validate()?;
    source::read_params(config, &Shards::open(dir)?, dir, device)
}
