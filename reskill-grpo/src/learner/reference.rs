//! The policy that the divergence is measured from.

use reskill_model::Transformer;

use crate::error::GrpoError;

/// Where reference log-probabilities come from. `&Transformer` converts into a frozen policy.
///
/// The reference of a policy with an adapter is [`Transformer::without_adapter`], which shares the frozen weights: it takes
/// no memory and needs no copy.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Reference<'a> {
    /// There is none: refused where `loss.kl_coef` is above 0.
    None,
    /// A frozen policy: a copy, or the same weights without the adapter.
    Frozen(&'a Transformer),
}

impl<'a> From<&'a Transformer> for Reference<'a> {
    fn from(model: &'a Transformer) -> Self {
        Reference::Frozen(model)
    }
}

impl<'a> Reference<'a> {
    /// The network to run, if the penalty has a weight.
    pub(super) fn model(self, kl_coef: f32) -> Result<Option<&'a Transformer>, GrpoError> {
        match self {
            _ if kl_coef == 0.0 => Ok(None),
            Reference::None => Err(GrpoError::NoReference { kl_coef }),
            Reference::Frozen(model) => Ok(Some(model)),
        }
    }
}
