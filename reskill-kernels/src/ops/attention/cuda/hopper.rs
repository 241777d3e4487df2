//! Attention over a packed batch by the kernels for compute capability 9.0 (`attention_flash_*_sm90a.cu`).

use super::packed::{PackedPlan, with_heads};
use super::plan::TileSizes;
use crate::cuda::{CudaDevice, Grid, Launch, TensorMap};
use crate::dtype::DType;
use crate::error::KernelError;
use crate::ops::attention::AttentionShape;
use crate::tensor::Tensor;

/// Threads of a block: a warpgroup that copies and two that compute.
const THREADS: u32 = 384;
/// Flat query rows of a block of the forward pass, and keys that it copies at once.
const FORWARD_TILE: (usize, usize) = (128, 128);
/// A barrier in shared memory.
const BARRIER: usize = 8;

/// The instance for heads of `head_dim` elements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hopper {
    head_dim: usize,
}

impl Hopper {
    /// Where the device and the heads allow it.
    pub(super) fn of(device: &CudaDevice, dtype: DType, shape: AttentionShape) -> Option<Hopper> {
        let head_dim = shape.head_dim;
        let capability = device.properties().capability;
        let takes = capability == (9, 0) && dtype == DType::Bf16 && matches!(head_dim, 64 | 128);
        takes.then_some(Hopper { head_dim })
    }

    fn pick(self, of_64: &'static str, of_128: &'static str) -> &'static str {
        if self.head_dim == 64 { of_64 } else { of_128 }
    }

    /// Bytes of `rows` rows of a head.
    fn rows(self, rows: usize) -> usize {
        2 * rows * self.head_dim
    }

    /// `ForwardShared`: queries; stages of keys and values, each with two barriers.
    fn forward_shared(self) -> usize {
        let stages = if self.head_dim == 64 { 4 } else { 2 };
        let (queries, keys) = FORWARD_TILE;
        let shared = self.rows(queries) + stages * 2 * (self.rows(keys) + 2 * BARRIER);
        shared.next_multiple_of(1024)
    }

    /// `super::packed::forward`, whose arguments are checked.
    pub(super) fn forward(
        self,
        device: &CudaDevice,
        (out, lse): (&mut Tensor, &mut Tensor),
        qkv: &Tensor,
        plan: &PackedPlan,
        shape: AttentionShape,
    ) -> Result<(), KernelError> {
        const OP: &str = "attention_forward";
        if plan.n_query_tiles == 0 {
            return Ok(());
        }
        let width = shape.qkv_width();
        let map = TensorMap::of(device, OP, (qkv, 0, width), (qkv.rows(), width), FORWARD_TILE.1 as u32)?;
        let kernel =
            self.pick("attention_flash_forward_sm90a_bf16_64", "attention_flash_forward_sm90a_bf16_128");
        let launch = Launch::of(device, OP, "attention_flash_forward_sm90a", kernel)
            .output(out)
            .output(lse)
            .input(qkv)
            .map(map)
            .input(&plan.lists)
            .input_at(&plan.lists, plan.query_tiles);
        let grid = Grid::linear(plan.n_query_tiles * shape.n_kv_heads, THREADS);
        // SAFETY:
        // - arguments: order and types match `attention_flash_forward_sm90a_bf16_D(bf16*, float*, const bf16*, TensorMap,
        //   const RowView*, const QueryTile*, int, int, int, float)`;
        // - bounds: `out` holds N * H D elements, `lse` N * H, `qkv` N * (H + 2K) D (checked in `mod.rs`), where its map
        //   ends too; the tiles name rows of the batch only (`PackedLists`, tested), and there is one for every K blocks;
        // - aliasing: the kernel writes `out` and `lse` only, both borrowed mutably here.
        unsafe { with_heads(launch, shape).launch(grid.with_shared(self.forward_shared())) }
    }
}
