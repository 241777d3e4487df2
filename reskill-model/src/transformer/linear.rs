//! A linear layer of a block: product, bias, adapters; forward and backward.

use reskill_kernels::Tensor;
use reskill_kernels::ops::{self, LowRank, PackedWeight};

use crate::error::ModelError;
use crate::lora::{Fused, Lora};

/// Weights of one fused linear layer of one block.
#[derive(Clone, Copy)]
pub(super) struct Linear<'a> {
    /// (O, I).
    pub(super) weight: &'a Tensor,
    /// The same in panels, to multiply with instead.
    pub(super) packed: Option<&'a PackedWeight>,
    /// (O).
    pub(super) bias: Option<&'a Tensor>,
    /// The adapters beside it: those of this block and layer.
    pub(super) lora: Option<(&'a Lora, usize, Fused)>,
}

/// Where the gradients of a linear layer are added.
pub(super) enum LinearGrads<'a> {
    /// To those of weight and bias.
    Full(&'a mut Tensor, Option<&'a mut Tensor>),
    /// To those of the adapters alone.
    Adapter(&'a mut Lora, usize, Fused),
}

impl<'a> Linear<'a> {
    fn adapters(&self) -> impl Iterator<Item = LowRank<'a>> {
        self.lora.into_iter().flat_map(|(lora, layer, fused)| lora.beside(layer, fused))
    }

    /// `out (N, O) = x W^T + bias` and what the adapters add; plus the old `out` if `accumulate`.
    pub(super) fn forward(&self, out: &mut Tensor, x: &Tensor, accumulate: bool) -> Result<(), ModelError> {
        match self.packed {
            Some(packed) => ops::packed_matmul(out, x, packed, accumulate)?,
            None => ops::matmul(out, x, self.weight, accumulate)?,
        }
        if let Some(bias) = self.bias {
            ops::bias_forward(out, bias)?;
        }
        for pair in self.adapters() {
            ops::low_rank_forward(out, x, &pair)?;
        }
        Ok(())
    }

    /// `d_x (N, I)` from `d_out (N, O)`, and the gradients of what is trained.
    pub(super) fn backward(
        &self,
        d_x: &mut Tensor,
        d_out: &Tensor,
        x: &Tensor,
        grads: LinearGrads<'_>,
    ) -> Result<(), ModelError> {
        ops::matmul_backward_input(d_x, d_out, self.weight, false)?;
        match grads {
            LinearGrads::Full(d_weight, d_bias) => {
                ops::matmul_backward_weight(d_weight, d_out, x)?;
                if let Some(d_bias) = d_bias {
                    ops::bias_backward(d_bias, d_out)?;
                }
            }
            LinearGrads::Adapter(d_lora, layer, fused) => {
                for (pair, d_pair) in self.adapters().zip(d_lora.beside_mut(layer, fused)) {
                    ops::low_rank_backward(d_x, d_pair, d_out, x, &pair)?;
                }
            }
        }
        Ok(())
    }
}
