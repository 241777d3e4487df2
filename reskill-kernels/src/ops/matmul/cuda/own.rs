//! Which of our own kernels computes a product, with which tile and how many splits of the summed index.
//!
//! The choice depends on the sizes and on the device alone, so the same product gives the same bits each time.

use super::{Layout, Product, View, ViewMut};
use crate::cuda::{CudaDevice, Grid, Launch};
use crate::dtype::DType;
use crate::error::KernelError;

/// K that a stage of the bf16 kernel holds, and the unit of splits for both.
const DEPTH: usize = 32;
const STAGES: usize = 4;
/// Elements after each row of a factor that is stored with K across rows.
const PAD: usize = 8;
/// The most splits of K.
const MAX_SPLITS: usize = 16;
/// The most rows for the kernels that read the weight once.
const MAX_ROWS_BF16: usize = 32;
const MAX_ROWS_F32: usize = 16;

/// A tile and the number of splits of K.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) tile: usize,
    pub(super) splits: usize,
}

impl Plan {
    /// The plan that a simple model of the device's time likes best: blocks are spread over multiprocessors in waves; a
    /// block costs its stages and a start; a tile of 64 has a quarter of the work at two thirds of the rate; parts of
    /// several splits are written and read again.
    pub(super) fn choose(p: &Product, multiprocessors: usize) -> Plan {
        let mut best = (f64::INFINITY, Plan { tile: 128, splits: 1 });
        for tile in [128_usize, 64] {
            let blocks = p.m.div_ceil(tile) * p.n.div_ceil(tile);
            let stage = if tile == 128 { 1.0 } else { 0.375 };
            for splits in 1..=MAX_SPLITS.min(p.k.div_ceil(4 * DEPTH).max(1)) {
                let stages = p.k.div_ceil(splits).div_ceil(DEPTH);
                let waves = (blocks * splits).div_ceil(multiprocessors.max(1));
                // A stage of a 128-tile takes about 0.25 us; 4 us pay for another launch, and 8 bytes an element and
                // split at 2 bytes a picosecond and device.
                let merge = if splits == 1 { 0.0 } else { 16.0 + (p.m * p.n * splits) as f64 * 1.6e-5 };
                let cost = waves as f64 * (stages + 4) as f64 * stage + merge;
                if cost < best.0 {
                    best = (cost, Plan { tile, splits });
                }
            }
        }
        best.1
    }

    /// K of each split.
    fn split(self, k: usize) -> usize {
        k.div_ceil(self.splits).div_ceil(DEPTH).max(1) * DEPTH
    }
}

/// The product by our own kernels.
pub(super) fn product(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
) -> Result<(), KernelError> {
    if fits_rows(&left, &right, p) {
        return rows(device, op, out, left, right, p);
    }
    tiles(device, op, out, left, right, p, Plan::choose(p, device.properties().multiprocessors))
}

/// Whether the kernels for few rows can take the product.
fn fits_rows(left: &View<'_>, right: &View<'_>, p: &Product) -> bool {
    if p.layout != Layout::Nt {
        return false;
    }
    // 8 bf16 are 16 bytes; the memory of a tensor begins at a multiple of 256.
    let whole = [left.first, left.stride, right.first, right.stride, p.k].iter().all(|n| n.is_multiple_of(8));
    match left.tensor.dtype() {
        DType::Bf16 => p.m <= MAX_ROWS_BF16 && whole,
        _ => p.m <= MAX_ROWS_F32,
    }
}

fn rows(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
) -> Result<(), KernelError> {
    let out_type = out.tensor.dtype();
    let (kernel, grid) = match (left.tensor.dtype(), p.m) {
        (DType::Bf16, ..=8) => {
            (out_type.pick("matmul_rows_8_f32", "matmul_rows_8_bf16"), Grid::linear(p.n.div_ceil(16), 256))
        }
        (DType::Bf16, ..=16) => {
            (out_type.pick("matmul_rows_16_f32", "matmul_rows_16_bf16"), Grid::linear(p.n.div_ceil(16), 256))
        }
        (DType::Bf16, _) => {
            (out_type.pick("matmul_rows_32_f32", "matmul_rows_32_bf16"), Grid::linear(p.n.div_ceil(32), 256))
        }
        _ => {
            let blocks = [p.n.div_ceil(4), p.m.div_ceil(8), 1];
            ("matmul_exact_rows", Grid { blocks, threads: [128, 1, 1], shared: 0 })
        }
    };
    let launch = Launch::of(device, op, "matmul_rows", kernel)
        .output_at(out.tensor, out.first)
        .input_at(left.tensor, left.first)
        .input_at(right.tensor, right.first)
        .size(p.m)
        .size(p.n)
        .size(p.k)
        .size(left.stride)
        .size(right.stride)
        .size(out.stride)
        .number(i32::from(p.accumulate))
        .number(p.alpha);
    // SAFETY:
    // - arguments: order and types match the kernels of matmul_rows.cu; the types of the tensors chose the kernel;
    // - bounds: `product` checked that the three matrices lie inside their tensors; blocks beyond N and rows beyond M
    //   are masked; addresses and strides are multiples of 16 bytes for bf16 (`fits_rows`), f32 asks the addresses;
    // - aliasing: the kernel writes `out` only, borrowed mutably.
    unsafe { launch.launch(grid) }
}

/// The product by tiles, of this plan.
pub(super) fn tiles(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
    plan: Plan,
) -> Result<(), KernelError> {
    let (factors, out_type) = (left.tensor.dtype(), out.tensor.dtype());
    let split = plan.split(p.k);
    let splits = p.k.div_ceil(split).max(1);
    let parts =
        if splits > 1 { Some(device.scratch(op, splits * p.m * p.n * size_of::<f32>())?) } else { None };
    let unit = factors.pick("matmul_f32", "matmul_bf16");
    let kernel = kernel(p.layout, plan.tile, factors, if splits > 1 { DType::F32 } else { out_type });
    let blocks = [p.m.div_ceil(plan.tile) * p.n.div_ceil(plan.tile), 1, splits];
    let (threads, shared) = match (factors, plan.tile) {
        (DType::Bf16, 128) => (256, shared_bytes(p.layout, 128)),
        (DType::Bf16, _) => (128, shared_bytes(p.layout, 64)),
        _ => (256, 0),
    };
    let launch = Launch::of(device, op, unit, kernel);
    let (launch, out_stride, part) = match &parts {
        Some(parts) => (launch.scratch(parts, 0), p.n, p.m * p.n),
        None => (launch.output_at(out.tensor, out.first), out.stride, 0),
    };
    let direct = parts.is_none();
    let launch = launch
        .input_at(left.tensor, left.first)
        .input_at(right.tensor, right.first)
        .size(p.m)
        .size(p.n)
        .size(p.k)
        .size(left.stride)
        .size(right.stride)
        .size(out_stride)
        .size(split)
        .number(i32::from(direct && p.accumulate))
        .number(if direct { p.alpha } else { 1.0 })
        .number(part as i64);
    // SAFETY:
    // - arguments: order and types match GEMM_KERNEL of matmul_bf16.cu and matmul_f32.cu; the types of the tensors chose
    //   the kernel;
    // - bounds: `product` checked that the three matrices lie inside their tensors, `parts` holds splits * M * N f32, and
    //   the kernel masks rows beyond M, columns beyond N and depths beyond K;
    // - aliasing: the kernel writes `out` or `parts` only, which nobody else has.
    unsafe { launch.launch(Grid { blocks, threads: [threads, 1, 1], shared }) }?;
    let Some(parts) = parts else { return Ok(()) };
    let launch =
        Launch::of(device, op, "matmul_f32", out_type.pick("matmul_reduce_f32", "matmul_reduce_bf16"))
            .output_at(out.tensor, out.first)
            .scratch(&parts, 0)
            .size(p.n)
            .size(splits)
            .size(out.stride)
            .number(i32::from(p.accumulate))
            .number(p.alpha);
    // SAFETY:
    // - arguments: order and types match `matmul_reduce_T(T*, const float*, int, int, int, int, float)`;
    // - bounds: there are M blocks along x, one a row; columns beyond N are masked; `parts` holds splits * M * N f32;
    // - aliasing: the kernel writes `out` only, borrowed mutably.
    unsafe { launch.launch(Grid { blocks: [p.m, p.n.div_ceil(256), 1], threads: [256, 1, 1], shared: 0 }) }
}

/// Bytes of all stages: a factor has `tile` rows of `DEPTH` values if stored with K contiguous, else the other way.
fn shared_bytes(layout: Layout, tile: usize) -> usize {
    let contiguous = tile * DEPTH;
    let across = DEPTH * (tile + PAD);
    let elements = match layout {
        Layout::Nt => contiguous + contiguous,
        Layout::Nn => contiguous + across,
        Layout::Tn => across + across,
    };
    STAGES * elements * 2
}

fn kernel(layout: Layout, tile: usize, factors: DType, out: DType) -> &'static str {
    let large = tile == 128;
    match (factors, layout) {
        (DType::Bf16, Layout::Nt) if large => out.pick("matmul_nt_128_f32", "matmul_nt_128_bf16"),
        (DType::Bf16, Layout::Nt) => out.pick("matmul_nt_64_f32", "matmul_nt_64_bf16"),
        (DType::Bf16, Layout::Nn) if large => out.pick("matmul_nn_128_f32", "matmul_nn_128_bf16"),
        (DType::Bf16, Layout::Nn) => out.pick("matmul_nn_64_f32", "matmul_nn_64_bf16"),
        (DType::Bf16, Layout::Tn) if large => "matmul_tn_128_f32",
        (DType::Bf16, Layout::Tn) => "matmul_tn_64_f32",
        (_, Layout::Nt) if large => "matmul_exact_nt_128",
        (_, Layout::Nt) => "matmul_exact_nt_64",
        (_, Layout::Nn) if large => "matmul_exact_nn_128",
        (_, Layout::Nn) => "matmul_exact_nn_64",
        (_, Layout::Tn) if large => "matmul_exact_tn_128",
        (_, Layout::Tn) => "matmul_exact_tn_64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(m: usize, n: usize, k: usize) -> Plan {
        Plan::choose(&Product::new(Layout::Nt, m, n, k, false), 132)
    }

    #[test]
    fn large_products_use_large_tiles_without_splits() {
        assert_eq!(plan(16_384, 4096, 1024), Plan { tile: 128, splits: 1 });
        assert_eq!(plan(8192, 8192, 8192), Plan { tile: 128, splits: 1 });
    }

    #[test]
    fn small_results_of_long_sums_are_split_until_the_device_is_busy() {
        let Plan { tile, splits } = plan(128, 576, 16_384);
        let blocks = 128_usize.div_ceil(tile) * 576_usize.div_ceil(tile) * splits;
        assert!(splits > 1 && blocks >= 66, "{tile} {splits}");
    }

    #[test]
    fn splits_cover_the_sum_in_whole_stages() {
        for (k, splits) in [(1, 1), (37, 1), (1000, 3), (1024, 16), (31, 2)] {
            let split = Plan { tile: 64, splits }.split(k);
            assert!(split.is_multiple_of(DEPTH) && split * splits >= k, "{k} {splits}: {split}");
        }
    }
}
