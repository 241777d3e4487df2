//! Norms of query and key heads on a CUDA device.

use super::Rotation;
use crate::cuda::{CudaDevice, Grid, Launch, lanes_of_head};
use crate::error::KernelError;
use crate::ops::AttentionShape;
use crate::ops::elementwise::{Parts, add_column_sums};
use crate::tensor::Tensor;

const UNIT: &str = "qk_norm";
/// Most blocks of the backward pass, without and with the rotation: as many as 132 multiprocessors run at once in bf16, so
/// that all go in one wave there; numbers of their own, so that sums have one order on every device.
const MOST_PARTS: [usize; 2] = [512, 384];
/// Warps of a block: what the kernels are written for.
const WARPS: usize = 8;

/// Whether heads of `d` elements are rotated by the kernels of the norms: those that lie in registers of several lanes.
pub(super) fn rotates(d: usize) -> bool {
    lanes_of_head(d).is_some_and(|lanes| lanes >= 2)
}

/// What the kernels take of a rotation: three null pointers without one.
fn turns<'l>(launch: Launch<'l>, rotation: Option<Rotation<'l>>) -> Launch<'l> {
    let Some(Rotation { positions, table }) = rotation else {
        let none = |launch: Launch<'l>| launch.optional_input::<f32>(None);
        return none(none(none(launch))).number(0_u32);
    };
    launch.input(positions).input(&table.cos).input(&table.sin).number(table.cos.rows() as u32)
}

#[expect(clippy::too_many_arguments, reason = "those of the operation")]
pub(super) fn forward(
    device: &CudaDevice,
    qkv: &mut Tensor,
    raw: &mut Tensor,
    rstd: &mut Tensor,
    (q_weight, k_weight): (&Tensor, &Tensor),
    rotation: Option<Rotation<'_>>,
    shape: AttentionShape,
    eps: f32,
) -> Result<(), KernelError> {
    let (n, heads) = (qkv.rows(), shape.n_heads + shape.n_kv_heads);
    let kernel = qkv.dtype().pick("qk_norm_forward_f32", "qk_norm_forward_bf16");
    let launch = Launch::of(device, "qk_norm_forward", UNIT, kernel)
        .output(qkv)
        .output(raw)
        .output(rstd)
        .input(q_weight)
        .input(k_weight)
        .size(n)
        .size(shape.n_heads)
        .size(shape.n_kv_heads)
        .size(shape.head_dim)
        .number(eps);
    let launch = turns(launch, rotation);
    // SAFETY:
    // - arguments: order and types match `qk_norm_forward_T(T*, T*, float*, const T*, const T*, int, int, int, int, float,
    //   const u32*, const float*, const float*, u32)`, T being the type of `qkv`, `raw` and both weights (checked in
    //   `mod.rs`);
    // - bounds: the tensors have the shapes of the kernel's comments (checked in `mod.rs`); lanes touch one head of one row,
    //   and those beyond N (H + K) heads nothing;
    // - aliasing: the kernel writes `qkv`, `raw` and `rstd` only, all borrowed mutably here.
    unsafe { launch.launch(Grid::heads(n * heads, shape.head_dim)) }
}

#[expect(clippy::too_many_arguments, reason = "those of the operation")]
pub(super) fn backward(
    device: &CudaDevice,
    d_qkv: &mut Tensor,
    (d_q_weight, d_k_weight): (&mut Tensor, &mut Tensor),
    raw: &Tensor,
    rstd: &Tensor,
    (q_weight, k_weight): (&Tensor, &Tensor),
    rotation: Option<Rotation<'_>>,
    shape: AttentionShape,
) -> Result<(), KernelError> {
    const OP: &str = "qk_norm_backward";
    let (n, d, heads) = (d_qkv.rows(), shape.head_dim, shape.n_heads + shape.n_kv_heads);
    // As many runs of heads as there are, or rows.
    let runs = lanes_of_head(d).map_or(n, |lanes| (n * heads * lanes).div_ceil(32 * WARPS));
    let n_parts = runs.min(MOST_PARTS[usize::from(rotation.is_some())]);
    let parts = device.scratch(OP, n_parts * 2 * d * size_of::<f32>())?;
    let kernel = match rotation {
        Some(_) => d_qkv.dtype().pick("qk_norm_rope_backward_f32", "qk_norm_rope_backward_bf16"),
        None => d_qkv.dtype().pick("qk_norm_backward_f32", "qk_norm_backward_bf16"),
    };
    let launch = Launch::of(device, OP, UNIT, kernel)
        .output(d_qkv)
        .scratch(&parts, 0)
        .input(raw)
        .input(rstd)
        .input(q_weight)
        .input(k_weight)
        .size(n)
        .size(shape.n_heads)
        .size(shape.n_kv_heads)
        .size(d);
    let launch = if rotation.is_some() { turns(launch, rotation) } else { launch };
    let sums_of_warp = lanes_of_head(d).map_or(2 * d, |lanes| 16 * (lanes + 4));
    let grid = Grid::linear(n_parts, 32 * WARPS as u32).with_shared(WARPS * sums_of_warp * size_of::<f32>());
    // SAFETY:
    // - arguments: order and types match `qk_norm_backward_T(T*, float*, const T*, const float*, const T*, const T*, int, int,
    //   int, int)`, and `qk_norm_rope_backward_T` the same and (const u32*, const float*, const float*, u32); T being the
    //   type of `d_qkv`, `raw` and both weights (checked in `mod.rs`);
    // - bounds: the tensors have the shapes of the kernel's comments (checked in `mod.rs`), `parts` has 2D f32 for each
    //   block, and the shared memory `sums_of_warp` for each of the eight warps, as the kernel counts them;
    // - aliasing: the kernel writes `d_qkv` (borrowed mutably here) and `parts` only.
    unsafe { launch.launch(grid) }?;
    add_column_sums(
        device,
        OP,
        d_q_weight,
        Parts { scratch: &parts, rows: n_parts, width: 2 * d, first: 0 },
    )?;
    add_column_sums(device, OP, d_k_weight, Parts { scratch: &parts, rows: n_parts, width: 2 * d, first: d })
}
