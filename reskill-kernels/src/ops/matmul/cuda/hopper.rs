//! Products by the kernels for compute capability 9.0 (`matmul_sm90a.cu`).

use super::{Layout, Product, View, ViewMut};
use crate::cuda::{CudaDevice, Grid, Launch, TensorMap};
use crate::dtype::DType;
use crate::error::KernelError;

/// The tile of a block, and of K in a stage.
const TILE: (usize, usize) = (128, 256);
const DEPTH: usize = 64;
const STAGES: usize = 4;
/// Stages, and two barriers of 8 bytes for each.
const SHARED_BYTES: usize = STAGES * ((TILE.0 + TILE.1) * DEPTH * 2 + 16);

/// The most rows for which the portable kernels read the right factor once.
const FEW_ROWS: usize = 32;

/// Whether a product is large enough: more rows than a few, and tiles for half of the multiprocessors at least. With
/// fewer, the portable kernels' smaller tiles and split sums keep more of the device busy.
pub(super) fn fills(p: &Product, multiprocessors: usize) -> bool {
    let tiles = p.m.div_ceil(TILE.0) * p.n.div_ceil(TILE.1);
    p.m > FEW_ROWS && 2 * tiles >= multiprocessors
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
    let [left_size, right_size] = p.stored();
    // With K along the row a box holds all rows of the tile, else 64 of K.
    let left_rows = if p.layout == Layout::Tn { DEPTH } else { TILE.0 };
    let right_rows = if p.layout == Layout::Nt { TILE.1 } else { DEPTH };
    let map = |view: View<'_>, size, rows: usize| {
        TensorMap::of(device, op, (view.tensor, view.first, view.stride), size, rows as u32)
    };
    let left_map = map(left, left_size, left_rows)?;
    let right_map = map(right, right_size, right_rows)?;
    let out_type = out.tensor.dtype();
    let kernel = match p.layout {
        Layout::Nt => out_type.pick("matmul_nt_sm90a_f32", "matmul_nt_sm90a_bf16"),
        Layout::Nn => out_type.pick("matmul_nn_sm90a_f32", "matmul_nn_sm90a_bf16"),
        Layout::Tn => "matmul_tn_sm90a_f32",
    };
    let launch = Launch::of(device, op, "matmul_sm90a", kernel)
        .output_at(out.tensor, out.first)
        .map(left_map)
        .map(right_map)
        .size(p.m)
        .size(p.n)
        .size(p.k)
        .size(out.stride)
        .number(i32::from(p.accumulate))
        .number(p.alpha);
    let blocks = p.m.div_ceil(TILE.0) * p.n.div_ceil(TILE.1);
    // SAFETY:
    // - arguments: order and types match GEMM_KERNEL of matmul_sm90a.cu; the type of `out` chose the kernel;
    // - bounds: the maps end where the factors do (`super::product` checked that these lie inside their tensors), and the
    //   kernel masks rows beyond M and columns beyond N of `out`;
    // - aliasing: the kernel writes `out` only, borrowed mutably.
    unsafe { launch.launch(Grid::linear(blocks, 384).with_shared(SHARED_BYTES)) }
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
