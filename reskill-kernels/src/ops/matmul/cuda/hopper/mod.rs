//! Products by the kernels for compute capability 9.0 (`matmul_sm90a.cu`).

mod plan;

use super::{Layout, Product, View, ViewMut};
use crate::cuda::{CudaDevice, Grid, Launch, Scratch, TensorMap};
use crate::dtype::DType;
use crate::error::KernelError;
use plan::{DEPTH, Large, Plan, Tile};

/// Rows of the boxes that results leave by.
const OUT_ROWS: usize = 16;
/// Quads of a thread that adds parts up, as in `matmul_sm90a.cu`.
const JOINED: usize = 2;
/// Whether these kernels are the quicker ones for the sizes, by a model of their time.
pub(super) fn pays(p: &Product, out: DType, multiprocessors: usize) -> bool {
    Plan::pays(p, out, multiprocessors)
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
    match Plan::choose(p, out.tensor.dtype(), device.properties().multiprocessors) {
        Plan::Large(plan) => large(device, op, out, left, right, p, plan),
        Plan::Rows { tiles, cluster } => rows(device, op, out, left, right, p, (tiles, cluster)),
    }
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
    large(device, op, out, left, right, p, Large::whole(p))
}

/// The maps of both factors, for tiles of these rows and columns, and of `out` if results leave by copies.
fn maps(
    device: &CudaDevice,
    op: &'static str,
    out: &ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
    (rows, cols): (usize, usize),
) -> Result<([TensorMap; 3], bool), KernelError> {
    let map = |(tensor, first, stride), size, rows: usize| {
        TensorMap::of(device, op, (tensor, first, stride), size, rows as u32)
    };
    let [left_size, right_size] = p.stored();
    // With K along the row a box holds all rows of the tile, else 64 of K.
    let left_rows = if p.layout == Layout::Tn { DEPTH } else { rows };
    let right_rows = if p.layout == Layout::Nt { cols } else { DEPTH };
    let left = map((left.tensor, left.first, left.stride), left_size, left_rows)?;
    let right = map((right.tensor, right.first, right.stride), right_size, right_rows)?;
    let by_copies = leaves_by_copies(out, p);
    let out =
        if by_copies { map((&*out.tensor, out.first, out.stride), (p.m, p.n), OUT_ROWS)? } else { left };
    Ok(([left, right, out], by_copies))
}

/// The product by small tiles of few rows.
fn rows(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
    (tiles, cluster): (usize, usize),
) -> Result<(), KernelError> {
    let tile = Tile::ROWS;
    // Rows of a box come in eights, as the swizzle has them.
    let left_rows = p.m.next_multiple_of(8).min(tile.rows);
    let ([left, right, out_map], by_copies) = maps(device, op, out, left, right, p, (left_rows, tile.cols))?;
    let kernel = match cluster {
        1 => "matmul_rows_1_sm90a_bf16",
        2 => "matmul_rows_2_sm90a_bf16",
        4 => "matmul_rows_4_sm90a_bf16",
        _ => "matmul_rows_8_sm90a_bf16",
    };
    let launch = Launch::of(device, op, "matmul_sm90a", kernel)
        .output_at(out.tensor, out.first)
        .map(left)
        .map(right)
        .map(out_map)
        .size(p.m)
        .size(p.n)
        .size(p.k)
        .size(out.stride)
        .number(i32::from(p.accumulate))
        .number(p.alpha)
        .size(left_rows)
        .number(i32::from(by_copies));
    let at_once = device.properties().multiprocessors * tile.resident;
    let blocks = if cluster == 1 { tiles.min(at_once) } else { tiles * cluster };
    let grid = Grid::linear(blocks, 128 + tile.multiplying() as u32);
    // SAFETY:
    // - arguments: order and types match ROWS_KERNEL of matmul_sm90a.cu, `out` is bf16 (`Plan::choose`);
    // - bounds: the maps end where the matrices do (`super::product` checked that these lie inside their tensors), and the
    //   kernel masks rows beyond M and columns beyond N of `out`; there are `cluster` blocks a tile, or any number if 1;
    // - aliasing: the kernel writes `out` only, borrowed mutably.
    unsafe { launch.launch(grid.with_shared(tile.shared_bytes(true))) }
}

/// The product by large tiles.
fn large(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
    plan: Large,
) -> Result<(), KernelError> {
    let tile = Tile::LARGE;
    let parts = match plan.part_elements() {
        0 => None,
        elements => Some(device.scratch(op, elements * size_of::<f32>())?),
    };
    let ([left, right, out_map], by_copies) = maps(device, op, out, left, right, p, (tile.rows, tile.cols))?;
    let out_type = out.tensor.dtype();
    let kernel = match p.layout {
        Layout::Nt => out_type.pick("matmul_nt_sm90a_f32", "matmul_nt_sm90a_bf16"),
        Layout::Nn => out_type.pick("matmul_nn_sm90a_f32", "matmul_nn_sm90a_bf16"),
        Layout::Tn => "matmul_tn_sm90a_f32",
    };
    let launch = Launch::of(device, op, "matmul_sm90a", kernel).output_at(out.tensor, out.first);
    let launch = match &parts {
        Some(parts) => launch.scratch(parts, 0),
        None => launch.number(0_i64),
    };
    let launch = launch
        .map(left)
        .map(right)
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
    let blocks = plan.units().min(device.properties().multiprocessors * tile.resident);
    let grid = Grid::linear(blocks, 128 + tile.multiplying() as u32);
    // SAFETY:
    // - arguments: order and types match GEMM_KERNEL of matmul_sm90a.cu (a null pointer where there are no parts); layout
    //   and the type of `out` chose the kernel;
    // - bounds: the maps end where the matrices do (`super::product` checked that these lie inside their tensors), the
    //   kernel masks rows beyond M and columns beyond N of `out`, and `parts` holds all parts of whole tiles;
    // - aliasing: the kernel writes `out` and `parts` only, which nobody else has.
    unsafe { launch.launch(grid.with_shared(tile.shared_bytes(by_copies))) }?;
    parts.map_or(Ok(()), |parts| join(device, op, out, p, plan, &parts))
}

/// Adds up the parts of split tiles.
fn join(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    p: &Product,
    plan: Large,
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
        .size(Tile::LARGE.rows)
        .size(Tile::LARGE.cols)
        .size(plan.whole)
        .size(plan.splits);
    let blocks = plan.split_tiles() * (Tile::LARGE.cols / 8 / JOINED);
    // SAFETY:
    // - arguments: order and types match JOIN_KERNEL of matmul_sm90a.cu; the type of `out` chose the kernel;
    // - bounds: `parts` holds what the kernel before wrote: `splits` parts of each split tile; a block takes `JOINED` of
    //   the quads of one, a thread for each that multiplied; rows beyond M and columns beyond N are masked;
    // - aliasing: the kernel writes `out` only, borrowed mutably.
    unsafe { launch.launch(Grid::linear(blocks, Tile::LARGE.multiplying() as u32)) }
}

/// Whether results can leave by the copy engine: bf16 that is not added to, in rows at multiples of 16 bytes.
fn leaves_by_copies(out: &ViewMut<'_>, p: &Product) -> bool {
    let whole = [out.first, out.stride].iter().all(|n| n.is_multiple_of(8));
    out.tensor.dtype() == DType::Bf16 && !p.accumulate && whole
}
