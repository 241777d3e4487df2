//! The parameters of a model. The same structure holds weights, gradients and the moments of the optimizer.

use reskill_kernels::{DType, Device, Tensor};

use crate::config::ModelConfig;
use crate::error::ModelError;

/// Parameters of one block.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerParams {
    /// (C): RMSNorm before attention.
    pub input_norm: Tensor,
    /// ((H + 2K) D, C): query, key and value projections, one below the other.
    pub qkv: Tensor,
    /// ((H + 2K) D): their biases.
    pub qkv_bias: Option<Tensor>,
    /// (D): RMSNorm of each query head.
    pub q_norm: Option<Tensor>,
    /// (D): RMSNorm of each key head.
    pub k_norm: Option<Tensor>,
    /// (C, H D): output projection of attention.
    pub out: Tensor,
    /// (C): its bias.
    pub out_bias: Option<Tensor>,
    /// (C): RMSNorm before the MLP.
    pub post_norm: Tensor,
    /// (2F, C): gate and up projections, one below the other.
    pub gate_up: Tensor,
    /// (2F): their biases.
    pub gate_up_bias: Option<Tensor>,
    /// (C, F): down projection of the MLP.
    pub down: Tensor,
    /// (C): its bias.
    pub down_bias: Option<Tensor>,
}

/// Parameters of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// (V, C): embedding table, also the output head if it is tied.
    pub embed: Tensor,
    /// The blocks, first to last.
    pub layers: Vec<LayerParams>,
    /// (C): last RMSNorm.
    pub final_norm: Tensor,
    /// (V, C): output head, if it is not tied.
    pub head: Option<Tensor>,
}

impl Params {
    /// Zeros in the shapes of `config`, on the CPU.
    ///
    /// # Errors
    /// [`ModelError::Config`].
    pub fn zeros(config: &ModelConfig) -> Result<Params, ModelError> {
        Params::zeros_on(config, &Device::Cpu, DType::F32)
    }

    /// Zeros in the shapes of `config` on a device, stored as `dtype`.
    ///
    /// # Errors
    /// [`ModelError::Config`]; [`ModelError::Kernel`] if the device has no room or does not offer the type.
    pub fn zeros_on(config: &ModelConfig, device: &Device, dtype: DType) -> Result<Params, ModelError> {
        config.validate()?;
        let zeros = |shape: &[usize]| Tensor::zeros_as(shape, device, dtype);
        let zeros_if = |there: bool, shape: &[usize]| there.then(|| zeros(shape)).transpose();
        let (v, c, f) = (config.vocab_size, config.hidden_size, config.intermediate_size);
        let attention = config.attention_shape();
        let layers = (0..config.num_hidden_layers)
            .map(|_| {
                Ok(LayerParams {
                    input_norm: zeros(&[c])?,
                    qkv: zeros(&[attention.qkv_width(), c])?,
                    qkv_bias: zeros_if(config.qkv_bias, &[attention.qkv_width()])?,
                    q_norm: zeros_if(config.qk_norm, &[config.head_dim])?,
                    k_norm: zeros_if(config.qk_norm, &[config.head_dim])?,
                    out: zeros(&[c, attention.out_width()])?,
                    out_bias: zeros_if(config.out_bias, &[c])?,
                    post_norm: zeros(&[c])?,
                    gate_up: zeros(&[2 * f, c])?,
                    gate_up_bias: zeros_if(config.mlp_bias, &[2 * f])?,
                    down: zeros(&[c, f])?,
                    down_bias: zeros_if(config.mlp_bias, &[c])?,
                })
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        let head = if config.tie_word_embeddings { None } else { Some(zeros(&[v, c])?) };
        Ok(Params { embed: zeros(&[v, c])?, layers, final_norm: zeros(&[c])?, head })
    }

    /// A copy on a device, stored as `dtype`: rounded, if that is bf16.
    ///
    /// # Errors
    /// [`ModelError::Kernel`] if the device has no room or does not offer the type.
    pub fn to_device(&self, device: &Device, dtype: DType) -> Result<Params, ModelError> {
        let copy = |tensor: &Tensor| tensor.to_device_as(device, dtype);
        let copy_if = |tensor: &Option<Tensor>| tensor.as_ref().map(copy).transpose();
        let layer = |layer: &LayerParams| {
            Ok(LayerParams {
                input_norm: copy(&layer.input_norm)?,
                qkv: copy(&layer.qkv)?,
                qkv_bias: copy_if(&layer.qkv_bias)?,
                q_norm: copy_if(&layer.q_norm)?,
                k_norm: copy_if(&layer.k_norm)?,
                out: copy(&layer.out)?,
                out_bias: copy_if(&layer.out_bias)?,
                post_norm: copy(&layer.post_norm)?,
                gate_up: copy(&layer.gate_up)?,
                gate_up_bias: copy_if(&layer.gate_up_bias)?,
                down: copy(&layer.down)?,
                down_bias: copy_if(&layer.down_bias)?,
            })
        };
        Ok(Params {
            embed: copy(&self.embed)?,
            layers: self.layers.iter().map(layer).collect::<Result<_, ModelError>>()?,
            final_norm: copy(&self.final_norm)?,
            head: copy_if(&self.head)?,
        })
    }

    /// Where the parameters are.
    #[must_use]
    pub fn device(&self) -> Device {
        self.embed.device()
    }

    /// All tensors in a fixed order, that of [`crate::layout::entries`].
    #[must_use]
    pub fn tensors(&self) -> Vec<&Tensor> {
        let mut all = vec![&self.embed];
        for layer in &self.layers {
            all.extend([&layer.input_norm, &layer.qkv]);
            all.extend(&layer.qkv_bias);
            all.extend(&layer.q_norm);
            all.extend(&layer.k_norm);
            all.push(&layer.out);
            all.extend(&layer.out_bias);
            all.extend([&layer.post_norm, &layer.gate_up]);
            all.extend(&layer.gate_up_bias);
            all.push(&layer.down);
            all.extend(&layer.down_bias);
        }
        all.push(&self.final_norm);
        all.extend(&self.head);
        all
    }

    /// All tensors, to write to, in the order of [`Params::tensors`].
    pub fn tensors_mut(&mut self) -> Vec<&mut Tensor> {
        let mut all = vec![&mut self.embed];
        for layer in &mut self.layers {
            all.extend([&mut layer.input_norm, &mut layer.qkv]);
            all.extend(&mut layer.qkv_bias);
            all.extend(&mut layer.q_norm);
            all.extend(&mut layer.k_norm);
            all.push(&mut layer.out);
            all.extend(&mut layer.out_bias);
            all.extend([&mut layer.post_norm, &mut layer.gate_up]);
            all.extend(&mut layer.gate_up_bias);
            all.push(&mut layer.down);
            all.extend(&mut layer.down_bias);
        }
        all.push(&mut self.final_norm);
        all.extend(&mut self.head);
        all
    }

    /// The output head: (V, C).
    #[must_use]
    pub fn head(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embed)
    }

    /// The output head, to write to.
    pub fn head_mut(&mut self) -> &mut Tensor {
        self.head.as_mut().unwrap_or(&mut self.embed)
    }

    /// Number of parameters; a tied head counts once.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tensors().iter().map(|tensor| tensor.len()).sum()
    }

    /// Sets every element to zero.
    ///
    /// # Errors
    /// None on the CPU; [`ModelError::Kernel`] if a device fails.
    pub fn clear(&mut self) -> Result<(), ModelError> {
        for tensor in self.tensors_mut() {
            tensor.fill(0.0)?;
        }
        Ok(())
    }
}
