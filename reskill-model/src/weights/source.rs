//! Filling parameters from any file of named tensors.

use std::borrow::Cow;
use std::path::Path;

use reskill_kernels::{Device, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::layout::{Entry, entries};
use crate::params::Params;

/// Named tensors that can be read as f32. Names are Hugging Face's.
pub(crate) trait TensorSource {
    /// Type and shape of a tensor, if it is there.
    fn describe(&self, name: &str) -> Option<Described>;
    /// All names, as the file has them.
    fn names(&self) -> Vec<String>;
    /// Writes the elements of a tensor that [`TensorSource::describe`] found readable.
    fn read(&self, name: &str, to: &mut [f32]);
}

/// What a file says of a tensor.
pub(crate) struct Described {
    /// The type, as the format calls it.
    pub(crate) dtype: String,
    /// Whether this crate can read that type.
    pub(crate) readable: bool,
    pub(crate) shape: Vec<usize>,
}

/// Parameters of `config` from `source`, on `device` in its precision. The host holds one tensor of a device at a time.
///
/// Names, shapes and types are all checked before memory is taken, so that a damaged configuration cannot ask for more
/// than the file holds.
pub(crate) fn read_params(
    config: &ModelConfig,
    source: &dyn TensorSource,
    path: &Path,
    device: &Device,
) -> Result<Params, ModelError> {
    let entries = entries(config);
    let mut problems: Vec<String> = entries.iter().filter_map(|entry| problem(entry, source)).collect();
    problems.extend(unexpected(config, &entries, source));
    if !problems.is_empty() {
        return Err(ModelError::Weights { path: path.to_path_buf(), reason: problems.join("; ") });
    }
    let mut params = Params::zeros_on(config, device, device.precision())?;
    let mut tensors = params.tensors_mut();
    for entry in &entries {
        let tensor = &mut *tensors[entry.index];
        let (rows, len) = (entry.shape.first().copied().unwrap_or(1), entry.shape.iter().product());
        let start = entry.first_row * tensor.row_len();
        if let Ok(values) = tensor.host_mut() {
            source.read(&entry.name, &mut values[start..start + len]);
            continue;
        }
        let mut values = vec![0.0; len];
        source.read(&entry.name, &mut values);
        tensor.copy_rows_from(entry.first_row, &Tensor::from_vec(&entry.shape, values)?, 0, rows)?;
    }
    Ok(params)
}

fn problem(entry: &Entry, source: &dyn TensorSource) -> Option<String> {
    let Some(found) = source.describe(&entry.name) else {
        return Some(format!("`{}` is missing", entry.name));
    };
    if found.shape == entry.shape && found.readable {
        return None;
    }
    let expected = if found.readable { "expected" } else { "of a type that cannot be read, expected" };
    Some(format!("`{}` is {} {:?}, {expected} {:?}", entry.name, found.dtype, found.shape, entry.shape))
}

/// Tensors that would change the result if they were used. A head beside a tied one is a copy, and tables of rotary
/// frequencies follow from the configuration.
fn unexpected(config: &ModelConfig, entries: &[Entry], source: &dyn TensorSource) -> Vec<String> {
    let known: std::collections::HashSet<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let harmless = |name: &str| {
        known.contains(name)
            || known.contains(format!("model.{name}").as_str())
            || name.ends_with("rotary_emb.inv_freq")
            || (config.tie_word_embeddings && name == "lm_head.weight")
    };
    let names = source.names().into_iter().filter(|name| !harmless(name));
    let mut extra: Vec<String> = names.map(|name| format!("`{name}` is not expected")).collect();
    extra.sort();
    extra
}

/// The part of a tensor that an entry stands for; of a device, copied to the host.
pub(super) fn rows_of<'a>(tensor: &'a Tensor, entry: &Entry) -> Result<Cow<'a, [f32]>, ModelError> {
    if let Ok(values) = tensor.host() {
        let start = entry.first_row * tensor.row_len();
        return Ok(Cow::Borrowed(&values[start..start + entry.shape.iter().product::<usize>()]));
    }
    let mut rows = Tensor::zeros(&entry.shape, &Device::Cpu)?;
    rows.copy_rows_from(0, tensor, entry.first_row, entry.shape.first().copied().unwrap_or(1))?;
    Ok(Cow::Owned(rows.to_vec()?))
}

/// All values of a tensor; of a device, copied to the host.
pub(crate) fn values_of(tensor: &Tensor) -> Result<Cow<'_, [f32]>, ModelError> {
    match tensor.host() {
        Ok(values) => Ok(Cow::Borrowed(values)),
        Err(_) => Ok(Cow::Owned(tensor.to_vec()?)),
    }
}
