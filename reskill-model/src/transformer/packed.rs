//! The projections in panels, for generation.

use rayon::prelude::*;
use reskill_kernels::ops::{PackedWeight, WeightStorage};

use crate::params::Params;

/// Projections of one block.
#[derive(Debug)]
pub(super) struct PackedLayer {
    pub(super) qkv: PackedWeight,
    pub(super) out: PackedWeight,
    pub(super) gate_up: PackedWeight,
    pub(super) down: PackedWeight,
}

/// Projections of all blocks, and the output head.
#[derive(Debug)]
pub(super) struct PackedParams {
    pub(super) layers: Vec<PackedLayer>,
    pub(super) head: PackedWeight,
}

impl PackedParams {
    pub(super) fn new(params: &Params, storage: WeightStorage) -> PackedParams {
        let pack = |weight| PackedWeight::new(weight, storage);
        let layers = params.layers.par_iter().map(|layer| PackedLayer {
            qkv: pack(&layer.qkv),
            out: pack(&layer.out),
            gate_up: pack(&layer.gate_up),
            down: pack(&layer.down),
        });
        PackedParams { layers: layers.collect(), head: pack(params.head()) }
    }

    /// Bytes of all panels.
    pub(super) fn bytes(&self) -> usize {
        let layers =
            self.layers.iter().flat_map(|layer| [&layer.qkv, &layer.out, &layer.gate_up, &layer.down]);
        layers.chain([&self.head]).map(PackedWeight::bytes).sum()
    }
}
