//! Random weights for measurements, made in parallel: `Transformer::init` draws from one generator in order, so that a seed
//! gives the same policy everywhere.

use anyhow::Result;
use reskill_kernels::Device;
use reskill_model::{ModelConfig, Params, Transformer};

use super::kernels::Stream;

/// A model whose projections of I inputs have numbers in -a..a, `a = sqrt(3 / I)`: the variance of `Transformer::init`.
pub(super) fn random_model(config: &ModelConfig, device: &Device, seed: u64) -> Result<Transformer> {
    let mut params = Params::zeros_on(config, device, device.precision())?;
    for (index, tensor) in params.tensors_mut().into_iter().enumerate() {
        if tensor.shape().len() < 2 {
            // Weights of norms.
            tensor.fill(1.0)?;
            continue;
        }
        let scale = (3.0 / tensor.row_len() as f32).sqrt();
        tensor.copy_from_slice(&Stream::new(seed, index as u64).numbers(tensor.len(), scale))?;
    }
    Ok(Transformer::new(config, params)?)
}
