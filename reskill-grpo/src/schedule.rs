//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

use crate::error::{GrpoError, check};

/// How the learning rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Along a line.
    Linear,
    /// Along half a cosine.
    Cosine,
}

/// The learning rate as a share of its peak, by optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// `constant`, `linear` or `cosine`.
    pub decay: Decay,
    /// Optimizer step at which the decay has reached `final_fraction`, counted from the first; the rate stays there.
    /// Not read by `constant`.
    pub decay_steps: u64,
    /// Share of the peak that is left at the end, in 0..=1.
    pub final_fraction: f32,
}

impl Default for Schedule {
    fn default() -> Self {
        Schedule { decay: Decay::Constant, decay_steps: 1000, final_fraction: 0.0 }
    }
}

impl Schedule {
    /// Refuses values out of range.
    ///
    /// # Errors
    /// [`GrpoError::Config`].
    pub fn validate(&self, warmup_steps: u64) -> Result<(), GrpoError> {
        check(
            self.decay == Decay::Constant || self.decay_steps > warmup_steps,
            "optimizer.schedule.decay_steps",
            self.decay_steps,
            "more than optimizer.warmup_steps",
        )?;
        check(
            (0.0..=1.0).contains(&self.final_fraction),
            "optimizer.schedule.final_fraction",
            self.final_fraction,
            "a number in [0, 1]",
        )
    }

    /// Share of the peak at optimizer step `step`, from 1: `step / warmup_steps` in the warm-up, then from 1 at its end
    /// down to `final_fraction` at `decay_steps`.
    #[must_use]
    pub fn factor(&self, step: u64, warmup_steps: u64) -> f32 {
        if step < warmup_steps {
            return step as f32 / warmup_steps as f32;
        }
        let span = self.decay_steps.saturating_sub(warmup_steps).max(1) as f64;
        let progress = ((step - warmup_steps) as f64 / span).min(1.0);
        let left = match self.decay {
            Decay::Constant => return 1.0,
            Decay::Linear => 1.0 - progress,
            Decay::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        };
        let end = f64::from(self.final_fraction);
        (end + (1.0 - end) * left) as f32
    }
}
