//! Products by the kernels for compute capability 9.0 (`matmul_sm90a.cu`).

mod plan;

use super::{Layout, Product, View, ViewMut};
use crate::cuda::{CudaDevice, Grid, Launch, Scratch, TensorMap};
use crate::dtype::DType;
use crate::error::KernelError;
use plan::{DEPTH, Plan, Tile};

/// Rows of the boxes that results leave by.
const OUT_ROWS: usize = 16;
/// Quads of a thread that adds parts up, as in `matmul_sm90a.cu`.
const JOINED: usize = 2;
/// The most rows for which the portable kernels read the right factor once.
const FEW_ROWS: usize = 32;

/// Whether a product is large enough: more rows than a few, and tiles for half of the multiprocessors at least. With
/// fewer, the portable kernels' smaller tiles and split sums keep more of the device busy.
pub(super) fn fills(p: &Product, multiprocessors: usize) -> bool {
    p.m > FEW_ROWS && 2 * Plan::choose(p, multiprocessors).units() >= multiprocessors
}

/// Whether the device and the addresses allow it.
pub(super) fn takes(
    device: &CudaDevice,
    out: &ViewMut<'_>,
    left: &View<'_>,
    right: &View<'_>,
    p: &Product,
) -> bool {
    // 8 bf16 are 16 bytes; the memory of a tensor begins at a multiple of 256.
    let whole = [left.first, left.stride, right.first, right.stride].iter().all(|n| n.is_multiple_of(8));
    let types =
        left.tensor.dtype() == DType::Bf16 && (p.layout != Layout::Tn || out.tensor.dtype() == DType::F32);
    device.properties().capability == (9, 0) && types && whole && p.k > 0
}

/// The product; `takes` has said yes.
pub(super) fn product(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
) -> Result<(), KernelError> {
    planned(device, op, out, left, right, p, Plan::choose(p, device.properties().multiprocessors))
}

/// As [`product`], with each sum in one order of K, whatever the sizes.
pub(super) fn product_in_one_order(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
) -> Result<(), KernelError> {
    planned(device, op, out, left, right, p, Plan::whole(p))
}

fn planned(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
    plan: Plan,
) -> Result<(), KernelError> {
    let multiprocessors = device.properties().multiprocessors;
    let parts = match plan.part_elements() {
        0 => None,
        elements => Some(device.scratch(op, elements * size_of::<f32>())?),
    };
    let [left_size, right_size] = p.stored();
    // With K along the row a box holds all rows of the tile, else 64 of K.
    let left_rows = if p.layout == Layout::Tn { DEPTH } else { plan.tile.rows() };
    let right_rows = if p.layout == Layout::Nt { plan.tile.cols() } else { DEPTH };
    let map = |view: View<'_>, size, rows: usize| {
        TensorMap::of(device, op, (view.tensor, view.first, view.stride), size, rows as u32)
    };
    let left_map = map(left, left_size, left_rows)?;
    let right_map = map(right, right_size, right_rows)?;
    let by_copies = leaves_by_copies(out, p);
    let out_map = if by_copies {
        let view = View { tensor: &*out.tensor, first: out.first, stride: out.stride };
        map(view, (p.m, p.n), OUT_ROWS)?
    } else {
        left_map
    };
    let launch = Launch::of(device, op, "matmul_sm90a", kernel(p.layout, plan.tile, out.tensor.dtype()))
        .output_at(out.tensor, out.first);
    let launch = match &parts {
        Some(parts) => launch.scratch(parts, 0),
        None => launch.number(0_i64),
    };
    let launch = launch
        .map(left_map)
        .map(right_map)
        .map(out_map)
        .size(p.m)
        .size(p.n)
        .size(p.k)
        .size(out.stride)
        .number(i32::from(p.accumulate))
        .number(p.alpha)
        .size(plan.whole)
        .size(plan.splits)
        .number(i32::from(by_copies));
    let blocks = plan.units().min(multiprocessors * plan.tile.resident());
    let grid = Grid::linear(blocks, 128 + plan.tile.multiplying() as u32);
    // SAFETY:
    // - arguments: order and types match GEMM_KERNEL of matmul_sm90a.cu (a null pointer where there are no parts); layout,
    //   tile and the type of `out` chose the kernel;
    // - bounds: the maps end where the matrices do (`super::product` checked that these lie inside their tensors), the
    //   kernel masks rows beyond M and columns beyond N of `out`, and `parts` holds all parts of whole tiles;
    // - aliasing: the kernel writes `out` and `parts` only, which nobody else has.
    unsafe { launch.launch(grid.with_shared(plan.tile.shared_bytes())) }?;
    parts.map_or(Ok(()), |parts| join(device, op, out, p, &plan, &parts))
}

/// Adds up the parts of split tiles.
fn join(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    p: &Product,
    plan: &Plan,
    parts: &Scratch<'_>,
) -> Result<(), KernelError> {
    let kernel = out.tensor.dtype().pick("matmul_join_sm90a_f32", "matmul_join_sm90a_bf16");
    let launch = Launch::of(device, op, "matmul_sm90a", kernel)
        .output_at(out.tensor, out.first)
        .scratch(parts, 0)
        .size(p.m)
        .size(p.n)
        .size(out.stride)
        .number(i32::from(p.accumulate))
        .number(p.alpha)
        .size(plan.tile.rows())
        .size(plan.tile.cols())
        .size(plan.whole)
        .size(plan.splits);
    let blocks = plan.split_tiles() * (plan.tile.cols() / 8 / JOINED);
    // SAFETY:
    // - arguments: order and types match JOIN_KERNEL of matmul_sm90a.cu; the type of `out` chose the kernel;
    // - bounds: `parts` holds what the kernel before wrote: `splits` parts of each split tile; a block takes `JOINED` of
    //   the quads of one, a thread for each that multiplied; rows beyond M and columns beyond N are masked;
    // - aliasing: the kernel writes `out` only, borrowed mutably.
    unsafe { launch.launch(Grid::linear(blocks, plan.tile.multiplying() as u32)) }
}

/// Whether results can leave by the copy engine: bf16 that is not added to, in rows at multiples of 16 bytes.
fn leaves_by_copies(out: &ViewMut<'_>, p: &Product) -> bool {
    let whole = [out.first, out.stride].iter().all(|n| n.is_multiple_of(8));
    out.tensor.dtype() == DType::Bf16 && !p.accumulate && whole
}

fn kernel(layout: Layout, tile: Tile, out: DType) -> &'static str {
    match (layout, tile) {
        (Layout::Nt, Tile::Large) => out.pick("matmul_nt_sm90a_f32", "matmul_nt_sm90a_bf16"),
        (Layout::Nt, Tile::Rows64) => out.pick("matmul_nt_64_sm90a_f32", "matmul_nt_64_sm90a_bf16"),
        (Layout::Nt, Tile::Rows128) => out.pick("matmul_nt_128_sm90a_f32", "matmul_nt_128_sm90a_bf16"),
        (Layout::Nn, _) => out.pick("matmul_nn_sm90a_f32", "matmul_nn_sm90a_bf16"),
        (Layout::Tn, _) => "matmul_tn_sm90a_f32",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_many_rows_and_tiles_fill_the_device() {
        let fills = |m, n| fills(&Product::new(Layout::Nt, m, n, 1024, false), 132);
        // 66 tiles of 128 x 256 are half of 132 multiprocessors.
        assert!(fills(8192, 1024) && fills(64, 66 * 256) && fills(128, 66 * 256));
        assert!(!fills(128, 65 * 256) && !fills(1024, 1024));
        assert!(fills(33, 151_936) && !fills(32, 151_936));
    }
}
