//! Attention over a packed batch by the kernels for compute capability 9.0 (`attention_flash_*_sm90a.cu`).

use super::packed::{BACKWARD, BackwardScratch, PackedPlan, Saved, with_heads};
use super::plan::TileSizes;
use crate::cuda::{CudaDevice, Grid, Launch, TensorMap};
use crate::dtype::DType;
use crate::error::KernelError;
use crate::ops::attention::AttentionShape;
use crate::tensor::Tensor;

/// Threads of a block: a warpgroup that copies and two that compute.
pub(super) const THREADS: u32 = 384;
/// Flat query rows of a block that computes results or gradients of queries.
const QUERIES: usize = 128;
/// Keys of a block that computes their gradients, and keys that the forward pass copies at once.
const KEYS: usize = 128;
/// Flat query rows that such a block copies at once.
const RUN: usize = 64;
/// Stages of what the kernels of the backward pass copy.
const STAGES: usize = 4;
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

    pub(super) fn tile_sizes(self) -> TileSizes {
        TileSizes { queries: QUERIES, keys: KEYS, run: RUN }
    }

    pub(super) fn pick(self, of_64: &'static str, of_128: &'static str) -> &'static str {
        if self.head_dim == 64 { of_64 } else { of_128 }
    }

    /// Bytes of `rows` rows of a head.
    fn rows(self, rows: usize) -> usize {
        2 * rows * self.head_dim
    }

    /// `ForwardShared`: queries; stages of keys and values, each with two barriers; a barrier.
    pub(super) fn forward_shared(self) -> usize {
        let stages = if self.head_dim == 64 { 4 } else { 2 };
        let shared = self.rows(QUERIES) + stages * 2 * (self.rows(KEYS) + 2 * BARRIER) + BARRIER;
        shared.next_multiple_of(1024)
    }

    /// Keys that the kernel of the queries' gradients copies at once.
    fn query_keys(self) -> usize {
        if self.head_dim == 64 { 128 } else { 64 }
    }

    /// `QueryShared`: queries and d_out; stages of keys and values, each with two barriers.
    fn query_shared(self) -> usize {
        let shared = 2 * self.rows(QUERIES) + STAGES * 2 * (self.rows(self.query_keys()) + BARRIER);
        shared.next_multiple_of(1024)
    }

    /// `KeyShared`: keys and values; stages of queries, d_out, views (16 bytes), lse, delta, a flag and two barriers; a
    /// barrier, and the tile's record (32 bytes) at a multiple of 16.
    fn key_value_shared(self) -> usize {
        let stage = 2 * self.rows(RUN) + RUN * (16 + 4 + 4) + 4 + 2 * BARRIER;
        let shared = 2 * self.rows(KEYS) + STAGES * stage + BARRIER + 8 + 32;
        shared.next_multiple_of(1024)
    }

    /// Boxes of `rows` rows of `qkv`.
    fn map(
        device: &CudaDevice,
        op: &'static str,
        qkv: &Tensor,
        width: usize,
        rows: usize,
    ) -> Result<TensorMap, KernelError> {
        TensorMap::of(device, op, (qkv, 0, width), (qkv.rows(), width), rows as u32)
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
        let map = Hopper::map(device, OP, qkv, shape.qkv_width(), KEYS)?;
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

    /// `super::packed::backward` but for delta, which is there, and the sums of slots.
    pub(super) fn backward(
        self,
        device: &CudaDevice,
        d_qkv: &mut Tensor,
        scratch: BackwardScratch<'_>,
        saved: &Saved<'_>,
        plan: &PackedPlan,
        shape: AttentionShape,
    ) -> Result<(), KernelError> {
        if plan.n_query_tiles == 0 {
            return Ok(());
        }
        self.backward_query(device, d_qkv, scratch, saved, plan, shape)?;
        self.backward_key_value(device, d_qkv, scratch, saved, plan, shape)
    }

    fn backward_query(
        self,
        device: &CudaDevice,
        d_qkv: &mut Tensor,
        scratch: BackwardScratch<'_>,
        saved: &Saved<'_>,
        plan: &PackedPlan,
        shape: AttentionShape,
    ) -> Result<(), KernelError> {
        let map = Hopper::map(device, BACKWARD, saved.qkv, shape.qkv_width(), self.query_keys())?;
        let kernel = self.pick(
            "attention_flash_backward_query_sm90a_bf16_64",
            "attention_flash_backward_query_sm90a_bf16_128",
        );
        let launch = Launch::of(device, BACKWARD, "attention_flash_backward_query_sm90a", kernel)
            .output(d_qkv)
            .input(saved.d_out)
            .input(saved.lse)
            .scratch(scratch.scratch, 0)
            .input(saved.qkv)
            .map(map)
            .input(&plan.lists)
            .input_at(&plan.lists, plan.query_tiles);
        let grid = Grid::linear(plan.n_query_tiles * shape.n_kv_heads, THREADS);
        // SAFETY:
        // - arguments: order and types match `attention_flash_backward_query_sm90a_bf16_D(bf16*, const bf16*, const float*,
        //   const float*, const bf16*, TensorMap, const RowView*, const QueryTile*, int, int, int, float)`;
        // - bounds: `d_qkv` and `qkv` hold N * (H + 2K) D elements, where the map of the latter ends too, `d_out` N * H D,
        //   `lse` and delta N * H (checked in `mod.rs`); tiles name rows of the batch only, and there is one for every K
        //   blocks;
        // - aliasing: the kernel writes the queries' part of `d_qkv` only, borrowed mutably here.
        unsafe { with_heads(launch, shape).launch(grid.with_shared(self.query_shared())) }
    }

    fn backward_key_value(
        self,
        device: &CudaDevice,
        d_qkv: &mut Tensor,
        scratch: BackwardScratch<'_>,
        saved: &Saved<'_>,
        plan: &PackedPlan,
        shape: AttentionShape,
    ) -> Result<(), KernelError> {
        let map = Hopper::map(device, BACKWARD, saved.qkv, shape.qkv_width(), KEYS)?;
        let kernel = self.pick(
            "attention_flash_backward_key_value_sm90a_bf16_64",
            "attention_flash_backward_key_value_sm90a_bf16_128",
        );
        let launch = Launch::of(device, BACKWARD, "attention_flash_backward_key_value_sm90a", kernel)
            .output(d_qkv)
            .scratch(scratch.scratch, scratch.sums_at)
            .input(saved.d_out)
            .input(saved.lse)
            .scratch(scratch.scratch, 0)
            .input(saved.qkv)
            .map(map)
            .input(&plan.lists)
            .input_at(&plan.lists, plan.key_tiles)
            .input_at(&plan.lists, plan.runs);
        let grid = Grid::linear(plan.n_key_tiles * shape.n_kv_heads, THREADS);
        // SAFETY:
        // - arguments: order and types match `attention_flash_backward_key_value_sm90a_bf16_D(bf16*, float*, const bf16*,
        //   const float*, const float*, const bf16*, TensorMap, const RowView*, const KeyTile*, const QueryRun*, int, int,
        //   int, float)`;
        // - bounds: as for the queries; a tile writes its own rows, or its own slot of those behind `sums_at`; runs name
        //   rows of the batch only;
        // - aliasing: the kernel writes the keys' and values' part of `d_qkv` and the slots only.
        unsafe { with_heads(launch, shape).launch(grid.with_shared(self.key_value_shared())) }
    }
}
