//! Rotary angles of a model: how the frequencies are scaled, and how they are rounded.

use reskill_kernels::ops::RopeTable;
use serde::{Deserialize, Serialize};

use crate::config::ModelConfig;
use crate::error::ModelError;

/// Positions that tables of angles are made for at most, whatever a configuration promises: 134 MB at 128 elements a head.
pub const LONGEST_CONTEXT: usize = 262_144;

/// How angles are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RopeAngles {
    /// In f64 throughout: models that are trained here.
    #[default]
    Exact,
    /// Frequencies and angles rounded to f32, as Hugging Face's implementations do: checkpoints made elsewhere.
    F32,
}

/// How the frequencies of a longer context differ from `theta^(-2d/D)`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "rope_type", rename_all = "lowercase", deny_unknown_fields)]
pub enum RopeScaling {
    /// All divided by a factor.
    Linear {
        /// The divisor, > 0.
        factor: f64,
    },
    /// Llama 3's: low frequencies divided by a factor, high ones kept, those between interpolated.
    ///
    /// Source: Llama Team 2024, arXiv:2407.21783, and Hugging Face's `rope_type` `llama3`.
    Llama3 {
        /// The divisor of low frequencies, > 0.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are high frequencies.
        high_freq_factor: f64,
        /// The context before scaling, in tokens.
        original_max_position_embeddings: usize,
    },
    /// Each divided by its own factor, as GGUF files store it.
    Factors {
        /// (D/2) divisors, > 0.
        factors: Vec<f32>,
    },
}

impl RopeScaling {
    /// Frequencies scaled, in the order and precision of Hugging Face's code.
    fn apply(&self, frequencies: &mut [f32]) {
        match self {
            RopeScaling::Linear { factor } => frequencies.iter_mut().for_each(|f| *f /= *factor as f32),
            RopeScaling::Factors { factors } => {
                frequencies.iter_mut().zip(factors).for_each(|(f, factor)| *f /= factor);
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings,
            } => {
                let context = *original_max_position_embeddings as f64;
                let (longest, shortest) = ((context / low) as f32, (context / high) as f32);
                for f in frequencies {
                    let wavelength = std::f32::consts::TAU / *f;
                    if wavelength > longest {
                        *f /= *factor as f32;
                    } else if wavelength >= shortest {
                        let smooth = (context as f32 / wavelength - *low as f32) / (high - low) as f32;
                        *f = (1.0 - smooth) * *f / *factor as f32 + smooth * *f;
                    }
                }
            }
        }
    }

    /// Refuses numbers that no frequency can be scaled by.
    pub(crate) fn validate(&self, head_dim: usize) -> Result<(), ModelError> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let sound = match self {
            RopeScaling::Linear { factor } => positive(*factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, .. } => {
                positive(*factor)
                    && positive(*low_freq_factor)
                    && positive(*high_freq_factor)
                    && high_freq_factor > low_freq_factor
            }
            RopeScaling::Factors { factors } => {
                factors.len() == head_dim / 2 && factors.iter().all(|&f| positive(f64::from(f)))
            }
        };
        if sound {
            return Ok(());
        }
        Err(ModelError::Config {
            key: "rope_scaling",
            value: serde_json::to_string(self).unwrap_or_default(),
            expected: format!(
                "positive factors, high_freq_factor > low_freq_factor, or head_dim / 2 = {} of them",
                head_dim / 2
            ),
        })
    }
}

/// `theta^(-2d/D)` for d in 0..D/2, rounded to f32 as `1 / theta^e` with e rounded to f32, then scaled.
#[must_use]
pub fn frequencies(config: &ModelConfig) -> Vec<f32> {
    let d = config.head_dim;
    let frequency = |index: usize| {
        let exponent = (2 * index) as f32 / d as f32;
        1.0 / config.rope_theta.powf(f64::from(exponent)) as f32
    };
    let mut frequencies: Vec<f32> = (0..d / 2).map(frequency).collect();
    if let Some(scaling) = &config.rope_scaling {
        scaling.apply(&mut frequencies);
    }
    frequencies
}

/// The table of a model.
pub(crate) fn rope_table(config: &ModelConfig) -> Result<RopeTable, ModelError> {
    let positions = config.max_position_embeddings.min(LONGEST_CONTEXT);
    if config.rope_scaling.is_none() && config.rope_angles == RopeAngles::Exact {
        return Ok(RopeTable::new(positions, config.head_dim, config.rope_theta)?);
    }
    Ok(RopeTable::from_frequencies(positions, &frequencies(config))?)
}
