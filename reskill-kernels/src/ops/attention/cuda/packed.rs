//! Attention over a packed batch on a CUDA device.

use std::sync::{Arc, Mutex, PoisonError};

use super::hopper::Hopper;
use super::kernels::Variant;
use super::plan::{PackedLists, TileSizes};
use crate::cuda::{CudaDevice, Grid, Launch, Scratch};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{KernelError, check_range};
use crate::ops::attention::{AttentionShape, PackedSegment, PackedSegments};
use crate::tensor::Tensor;

/// Work lists in device memory.
#[derive(Debug)]
pub(super) struct PackedPlan {
    /// All lists, one behind the other.
    pub(super) lists: Tensor<u32>,
    /// First word of each list; views are at the beginning.
    pub(super) query_tiles: usize,
    pub(super) key_tiles: usize,
    pub(super) runs: usize,
    sums: usize,
    pub(super) n_query_tiles: usize,
    pub(super) n_key_tiles: usize,
    n_sums: usize,
    n_slots: usize,
}

impl PackedPlan {
    fn new(
        segments: &[PackedSegment],
        group: usize,
        sizes: TileSizes,
        device: &CudaDevice,
    ) -> Result<PackedPlan, KernelError> {
        let lists = PackedLists::new(segments, group, sizes);
        let mut words = Vec::new();
        let mut append = |list: &[u32]| {
            let start = words.len();
            words.extend_from_slice(list);
            start
        };
        // Records are read 16 bytes at a time: every list is a multiple of that.
        append(lists.views.as_flattened());
        let query_tiles = append(lists.query_tiles.as_flattened());
        let key_tiles = append(lists.key_tiles.as_flattened());
        let runs = append(lists.runs.as_flattened());
        let sums = append(lists.sums.as_flattened());
        let device = Device::Cuda(device.clone());
        Ok(PackedPlan {
            lists: Tensor::from_slice(&[words.len()], &words, &device, DType::U32)?,
            query_tiles,
            key_tiles,
            runs,
            sums,
            n_query_tiles: lists.query_tiles.len(),
            n_key_tiles: lists.key_tiles.len(),
            n_sums: lists.sums.len(),
            n_slots: lists.n_slots,
        })
    }
}

/// What a plan was made for.
#[derive(Debug, PartialEq, Eq)]
struct Purpose {
    device: CudaDevice,
    group: usize,
    sizes: TileSizes,
}

/// Plans of one batch, made when first needed.
#[derive(Debug, Default)]
pub(in crate::ops::attention) struct PackedPlans(Mutex<Vec<(Purpose, Arc<PackedPlan>)>>);

impl PackedPlans {
    fn get(
        &self,
        op: &'static str,
        segments: &[PackedSegment],
        n: usize,
        purpose: Purpose,
    ) -> Result<Arc<PackedPlan>, KernelError> {
        // Plans are added whole, so a panic of another thread leaves the list usable.
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, plan)) = plans.iter().find(|(of, _)| *of == purpose) {
            return Ok(Arc::clone(plan));
        }
        let most = i32::MAX as usize / purpose.group;
        check_range(n <= most, op, "qkv.rows()", n, format!("at most {most}"))?;
        let plan = PackedPlan::new(segments, purpose.group, purpose.sizes, &purpose.device)?;
        let plan = Arc::new(plan);
        plans.push((purpose, Arc::clone(&plan)));
        Ok(plan)
    }
}

/// `1 / sqrt(D)`.
pub(super) fn scale(shape: AttentionShape) -> f32 {
    1.0 / (shape.head_dim as f32).sqrt()
}

/// The numbers of heads and the scale, as every kernel takes them.
pub(super) fn with_heads<'a>(launch: Launch<'a>, shape: AttentionShape) -> Launch<'a> {
    launch.size(shape.n_heads).size(shape.n_kv_heads).size(shape.head_dim).number(scale(shape))
}

pub(in crate::ops::attention) fn forward(
    device: &CudaDevice,
    out: &mut Tensor,
    lse: &mut Tensor,
    qkv: &Tensor,
    segments: &PackedSegments,
    shape: AttentionShape,
) -> Result<(), KernelError> {
    const OP: &str = "attention_forward";
    if let Some(hopper) = Hopper::of(device, qkv.dtype(), shape) {
        let plan = plan(OP, device, segments, qkv.rows(), hopper.tile_sizes(), shape)?;
        return hopper.forward(device, (out, lse), qkv, &plan, shape);
    }
    let variant = Variant::of(OP, device, qkv.dtype(), shape)?;
    let plan = plan(OP, device, segments, qkv.rows(), variant.tile_sizes(), shape)?;
    let (unit, kernel) = variant.forward(qkv.dtype());
    let launch = Launch::of(device, OP, unit, kernel)
        .output(out)
        .output(lse)
        .input(qkv)
        .input(&plan.lists)
        .input_at(&plan.lists, plan.query_tiles);
    let grid = Grid::linear(plan.n_query_tiles * shape.n_kv_heads, variant.threads());
    // SAFETY:
    // - arguments: order and types match `attention_[flash_]forward_T(T*, float*, const T*, const RowView*,
    //   const QueryTile*, int, int, int, float)`, T being the type of `out` and `qkv` (checked in `mod.rs`);
    // - bounds: `out` holds N * H D elements, `lse` N * H, `qkv` N * (H + 2K) D (checked in `mod.rs`); the tiles name rows
    //   of the batch only (`PackedLists`, tested), and there is a tile for every K blocks;
    // - aliasing: the kernel writes `out` and `lse` only, both borrowed mutably here.
    unsafe { with_heads(launch, shape).launch(grid.with_shared(variant.forward_shared())) }
}

pub(in crate::ops::attention) fn backward(
    device: &CudaDevice,
    d_qkv: &mut Tensor,
    saved: &Saved<'_>,
    segments: &PackedSegments,
    shape: AttentionShape,
) -> Result<(), KernelError> {
    let (n, dtype) = (saved.qkv.rows(), saved.qkv.dtype());
    let hopper = Hopper::of(device, dtype, shape);
    let variant = Variant::of(BACKWARD, device, dtype, shape)?;
    let sizes = hopper.map_or_else(|| variant.tile_sizes(), Hopper::tile_sizes);
    let plan = plan(BACKWARD, device, segments, n, sizes, shape)?;
    // Delta of each row and head, then the slots: for each key-value head the gradients of a tile of keys and of its values.
    let sums_at = (n * shape.n_heads * size_of::<f32>()).next_multiple_of(256);
    let slot = 2 * sizes.keys * shape.kv_width() * size_of::<f32>();
    let scratch = device.scratch(BACKWARD, sums_at + plan.n_slots * slot)?;
    let scratch = BackwardScratch { scratch: &scratch, sums_at };
    delta(device, scratch, saved, shape)?;
    match hopper {
        Some(hopper) => hopper.backward(device, d_qkv, scratch, saved, &plan, shape)?,
        None => portable_backward(device, d_qkv, scratch, saved, &plan, (variant, shape))?,
    }
    let kernel = dtype.pick("attention_backward_sum_f32", "attention_backward_sum_bf16");
    let launch = Launch::of(device, BACKWARD, "attention_backward", kernel)
        .output(d_qkv)
        .scratch(scratch.scratch, sums_at)
        .input_at(&plan.lists, plan.sums)
        .size(sizes.keys);
    // SAFETY:
    // - arguments: order and types match `attention_backward_sum_T(T*, const float*, const KeySum*, int, int, int, int,
    //   float)`, T being the type of `d_qkv`;
    // - bounds: a block adds up the slots of one tile of keys, all below `n_slots`, into rows of the batch;
    // - aliasing: the kernel writes the keys' and values' part of `d_qkv` only, borrowed mutably here.
    unsafe { with_heads(launch, shape).launch(Grid::linear(plan.n_sums * shape.n_kv_heads, 256)) }
}

pub(super) const BACKWARD: &str = "attention_backward";

/// Scratch of the backward pass: delta (N, H) f32, and from byte `sums_at` on the slots of the plan.
#[derive(Clone, Copy)]
pub(super) struct BackwardScratch<'a> {
    pub(super) scratch: &'a Scratch<'a>,
    pub(super) sums_at: usize,
}

fn delta(
    device: &CudaDevice,
    scratch: BackwardScratch<'_>,
    saved: &Saved<'_>,
    shape: AttentionShape,
) -> Result<(), KernelError> {
    let n_rows = saved.qkv.rows() * shape.n_heads;
    let kernel = saved.qkv.dtype().pick("attention_backward_delta_f32", "attention_backward_delta_bf16");
    let launch = Launch::of(device, BACKWARD, "attention_backward", kernel)
        .scratch(scratch.scratch, 0)
        .input(saved.d_out)
        .input(saved.out)
        .size(shape.head_dim)
        .size(n_rows);
    // SAFETY:
    // - arguments: order and types match `attention_backward_delta_T(float*, const T*, const T*, int, int)`, T being the
    //   type of `d_out` and `out` (checked in `mod.rs`);
    // - bounds: `scratch` holds N * H f32 before `sums_at`, `d_out` and `out` N * H * D elements (checked in `mod.rs`);
    //   lanes work on one of the N * H heads or touch nothing;
    // - aliasing: the kernel writes scratch only.
    unsafe { launch.launch(Grid::heads(n_rows, shape.head_dim)) }
}

/// The gradients of queries, keys and values by the kernels for all devices; delta is there.
fn portable_backward(
    device: &CudaDevice,
    d_qkv: &mut Tensor,
    BackwardScratch { scratch, sums_at }: BackwardScratch<'_>,
    saved: &Saved<'_>,
    plan: &PackedPlan,
    (variant, shape): (Variant, AttentionShape),
) -> Result<(), KernelError> {
    let (unit, kernel) = variant.backward_query(saved.qkv.dtype());
    let launch = Launch::of(device, BACKWARD, unit, kernel)
        .output(&mut *d_qkv)
        .input(saved.d_out)
        .input(saved.lse)
        .scratch(scratch, 0)
        .input(saved.qkv)
        .input(&plan.lists)
        .input_at(&plan.lists, plan.query_tiles);
    let grid = Grid::linear(plan.n_query_tiles * shape.n_kv_heads, variant.threads());
    // SAFETY:
    // - arguments: order and types match `attention_[flash_]backward_query_T(T*, const T*, const float*, const float*,
    //   const T*, const RowView*, const QueryTile*, int, int, int, float)`, T being the type of `qkv`, `d_qkv`, `d_out`;
    // - bounds: `d_qkv` and `qkv` hold N * (H + 2K) D elements, `d_out` N * H D, `lse` and delta N * H (checked in
    //   `mod.rs`); tiles name rows of the batch only, and there is one for every K blocks;
    // - aliasing: the kernel writes the queries' part of `d_qkv` only, borrowed mutably here.
    unsafe { with_heads(launch, shape).launch(grid.with_shared(variant.query_shared())) }?;

    let (unit, kernel) = variant.backward_key_value(saved.qkv.dtype());
    let launch = Launch::of(device, BACKWARD, unit, kernel)
        .output(d_qkv)
        .scratch(scratch, sums_at)
        .input(saved.d_out)
        .input(saved.lse)
        .scratch(scratch, 0)
        .input(saved.qkv)
        .input(&plan.lists)
        .input_at(&plan.lists, plan.key_tiles)
        .input_at(&plan.lists, plan.runs);
    let grid = Grid::linear(plan.n_key_tiles * shape.n_kv_heads, variant.threads());
    // SAFETY:
    // - arguments: order and types match `attention_[flash_]backward_key_value_T(T*, float*, const T*, const float*,
    //   const float*, const T*, const RowView*, const KeyTile*, const QueryRun*, int, int, int, float)`;
    // - bounds: as above; a tile writes its own rows, or its own slot of the `n_slots` behind `sums_at`; runs name rows of
    //   the batch only;
    // - aliasing: the kernel writes the keys' and values' part of `d_qkv` and the slots only.
    unsafe { with_heads(launch, shape).launch(grid.with_shared(variant.key_value_shared())) }
}

/// What the backward pass reads.
pub(in crate::ops::attention) struct Saved<'a> {
    pub(in crate::ops::attention) d_out: &'a Tensor,
    pub(in crate::ops::attention) out: &'a Tensor,
    pub(in crate::ops::attention) lse: &'a Tensor,
    pub(in crate::ops::attention) qkv: &'a Tensor,
}

fn plan(
    op: &'static str,
    device: &CudaDevice,
    segments: &PackedSegments,
    n: usize,
    sizes: TileSizes,
    shape: AttentionShape,
) -> Result<Arc<PackedPlan>, KernelError> {
    let purpose = Purpose { device: device.clone(), group: shape.group(), sizes };
    segments.plans().get(op, segments, n, purpose)
}
