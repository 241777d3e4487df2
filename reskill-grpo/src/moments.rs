//! The moments of AdamW, in f32 or in eight bits.

use std::borrow::Cow;

use reskill_kernels::Tensor;
use reskill_kernels::ops::{AdamWParams, Moments8, adamw_8bit_scaled, adamw_scaled};
use reskill_model::Gradients;
use serde::{Deserialize, Serialize};

use crate::error::GrpoError;

/// How moments are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum MomentPrecision {
    /// f32: 8 bytes a parameter.
    #[serde(rename = "f32")]
    F32,
    /// Eight bits each in blocks of 256 with a scale: 2.03 bytes a parameter. Tensors of fewer than 4096 elements stay
    /// f32.
    #[serde(rename = "8bit")]
    EightBit,
}

/// Tensors with fewer elements are not worth rounding.
const SMALLEST: usize = 4096;

/// First and second moments of all that is trained.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    /// In f32; a tensor that is kept in eight bits has no rows here.
    m: Gradients,
    v: Gradients,
    /// By tensor; empty if all are f32.
    eight_bit: Vec<Option<Moments8>>,
}

impl Moments {
    pub(crate) fn new(
        (mut m, mut v): (Gradients, Gradients),
        precision: MomentPrecision,
    ) -> Result<Moments, GrpoError> {
        if precision == MomentPrecision::F32 {
            return Ok(Moments { m, v, eight_bit: Vec::new() });
        }
        let pairs = m.tensors_mut().into_iter().zip(v.tensors_mut());
        let eight_bit = pairs.map(|(m, v)| Moments::narrow(m, v)).collect::<Result<_, _>>()?;
        Ok(Moments { m, v, eight_bit })
    }

    /// The moments of one tensor in eight bits, whose f32 memory is given back; `None` if they stay f32.
    fn narrow(m: &mut Tensor, v: &mut Tensor) -> Result<Option<Moments8>, GrpoError> {
        if m.len() < SMALLEST {
            return Ok(None);
        }
        let moments = Moments8::from_f32(&m.to_vec()?, &v.to_vec()?, &m.device())?;
        for moment in [m, v] {
            moment.set_rows(0)?;
            moment.shrink()?;
        }
        Ok(Some(moments))
    }

    pub(crate) fn to_f32(&self) -> Result<(Cow<'_, Gradients>, Cow<'_, Gradients>), GrpoError> {
        if self.eight_bit.is_empty() {
            return Ok((Cow::Borrowed(&self.m), Cow::Borrowed(&self.v)));
        }
        let (mut m, mut v) = (self.m.clone(), self.v.clone());
        let pairs = m.tensors_mut().into_iter().zip(v.tensors_mut());
        for ((m, v), moments) in pairs.zip(&self.eight_bit) {
            if let Some(moments) = moments {
                let (wide_m, wide_v) = moments.to_f32()?;
                let rows = wide_m.len() / m.row_len().max(1);
                m.set_rows(rows)?;
                v.set_rows(rows)?;
                m.copy_from_slice(&wide_m)?;
                v.copy_from_slice(&wide_v)?;
            }
        }
        Ok((Cow::Owned(m), Cow::Owned(v)))
    }

    /// One step of AdamW; norms and biases are not decayed. Weights that have a master in f32 are its rounding afterwards.
    ///
    /// - `scale`: (1) f32, the factor on the gradient; one that is not finite changes nothing
    pub(crate) fn step(
        &mut self,
        weights: Vec<&mut Tensor>,
        masters: Option<Vec<&mut Tensor>>,
        grads: &[&Tensor],
        scale: &Tensor,
        numbers: &AdamWParams,
    ) -> Result<(), GrpoError> {
        let mut masters = masters.map(Vec::into_iter);
        let moments = self.m.tensors_mut().into_iter().zip(self.v.tensors_mut());
        let tensors = weights.into_iter().zip(moments).zip(grads);
        for (index, ((weight, (m, v)), grad)) in tensors.enumerate() {
            let is_norm = weight.shape().len() == 1;
            let weight_decay = if is_norm { 0.0 } else { numbers.weight_decay };
            let numbers = AdamWParams { weight_decay, ..*numbers };
            let master = masters.as_mut().and_then(Iterator::next);
            match (self.eight_bit.get_mut(index).and_then(Option::as_mut), master) {
                (Some(moments), None) => adamw_8bit_scaled(weight, moments, grad, scale, &numbers)?,
                (Some(moments), Some(master)) => {
                    adamw_8bit_scaled(master, moments, grad, scale, &numbers)?;
                    weight.copy_from(master)?;
                }
                (None, master) => adamw_scaled(weight, master, (m, v), grad, scale, &numbers)?,
            }
        }
        Ok(())
    }

    /// How many tensors there are moments of.
    pub(crate) fn len(&self) -> usize {
        self.m.tensors().len()
    }
}
