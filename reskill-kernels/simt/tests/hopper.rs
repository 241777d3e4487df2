//! Boxes that the copy engine takes from shared memory to a matrix (edges, swizzle, when shared memory is free again), and
//! clusters of blocks.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{Gpu, bf16};
use cudarc::driver::{DevicePtr, DeviceRepr, DriverError, PushKernelArg, sys};
use reskill_simt::{Order, with_each_order, with_order};

const ROWS: usize = 21;
const COLS: usize = 104;

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Map(sys::CUtensorMap);

// SAFETY: a tensor map is 128 plain bytes that kernels take by value.
unsafe impl DeviceRepr for Map {}

/// Boxes of 16 x 64 of a (ROWS, COLS) matrix of bf16.
fn map(address: u64) -> Map {
    let mut map = sys::CUtensorMap { opaque: [0; 16] };
    let (sizes, strides, boxes, steps) = ([COLS as u64, ROWS as u64], [COLS as u64 * 2], [64, 16], [1, 1]);
    // SAFETY: every pointer is to a live array of as many elements as two axes ask for; the address is only stored.
    let encoded = unsafe {
        sys::cuTensorMapEncodeTiled(
            &raw mut map,
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            2,
            address as *mut std::ffi::c_void,
            sizes.as_ptr(),
            strides.as_ptr(),
            boxes.as_ptr(),
            steps.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    encoded.result().unwrap();
    Map(map)
}

/// The matrix after the kernel sent its two boxes to (row, column) and 64 columns on.
fn sent(kernel: &str, row: i32, column: i32) -> Result<Vec<u16>, DriverError> {
    reskill_simt::set_capability(90);
    let gpu = Gpu::new();
    let matrix = gpu.stream.clone_htod(&vec![bf16(-1.0); ROWS * COLS]).unwrap();
    let map = map(matrix.device_ptr(&gpu.stream).0);
    gpu.launch(kernel, 1, 32, 2048, |l| {
        l.arg(&map).arg(&row).arg(&column);
    })?;
    gpu.stream.clone_dtoh(&matrix)
}

/// What it should be.
fn expected(row: i32, column: i32) -> Vec<u16> {
    let mut matrix = vec![-1.0; ROWS * COLS];
    for (second, r, c) in (0..2).flat_map(|i| (0..16).flat_map(move |r| (0..64).map(move |c| (i, r, c)))) {
        let (at_row, at_column) = (row + r, column + 64 * second + c);
        if (0..ROWS as i32).contains(&at_row) && (0..COLS as i32).contains(&at_column) {
            matrix[at_row as usize * COLS + at_column as usize] = (7 * second + 64 * r + c) as f32;
        }
    }
    matrix.into_iter().map(bf16).collect()
}

#[test]
fn boxes_arrive_whole_and_are_cut_at_the_edges_of_the_matrix() {
    with_each_order(|order| {
        for (row, column) in [(0, 0), (5, 0), (8, 24), (-3, -8), (0, 40), (40, 0)] {
            assert_eq!(
                sent("simt_boxes", row, column).unwrap(),
                expected(row, column),
                "{order:?} {row} {column}"
            );
        }
    });
}

#[test]
fn shared_memory_that_is_overwritten_before_it_was_read_shows_in_the_matrix() {
    assert_ne!(sent("simt_mistake_overwritten_box", 0, 0).unwrap(), expected(0, 0));
}

#[test]
fn a_thread_that_ends_before_its_boxes_were_read_fails_the_launch() {
    let error = sent("simt_mistake_abandoned_box", 0, 0).unwrap_err();
    let words = error.error_string().unwrap().to_string_lossy().into_owned();
    assert!(words.contains("before its bulk copies had read shared memory"), "{words}");
}

/// What a kernel of clusters of four makes of 0, 1, 2, ..., on `blocks` blocks.
fn of_clusters(kernel: &str, blocks: u32) -> Result<Vec<f32>, DriverError> {
    let gpu = Gpu::new();
    let x: Vec<f32> = (0..blocks * 32).map(|i| i as f32).collect();
    let x = gpu.stream.clone_htod(&x).unwrap();
    let mut y = gpu.stream.alloc_zeros::<f32>(x.len()).unwrap();
    gpu.launch(kernel, blocks, 32, 512, |l| {
        l.arg(&mut y).arg(&x);
    })?;
    gpu.stream.clone_dtoh(&y)
}

fn expected_of_clusters(blocks: u32) -> Vec<f32> {
    let sum =
        |block: u32, lane: u32| (0..4).map(|r| (r + 1) * ((block / 4 * 4 + r) * 32 + lane)).sum::<u32>();
    (0..blocks).flat_map(|block| (0..32).map(move |lane| sum(block, lane) as f32)).collect()
}

/// What the second warp read of what the first announced.
fn announced(kernel: &str, order: Order) -> Vec<f32> {
    let gpu = Gpu::new();
    let mut y = gpu.stream.alloc_zeros::<f32>(32).unwrap();
    with_order(order, || {
        gpu.launch(kernel, 1, 64, 256, |l| {
            l.arg(&mut y);
        })
    })
    .unwrap();
    gpu.stream.clone_dtoh(&y).unwrap()
}

#[test]
fn what_a_lane_announces_before_its_warp_has_written_it_is_read_too_early_in_some_order() {
    let expected: Vec<f32> = (1..=32_u8).map(f32::from).collect();
    let orders = || (0..8).map(Order::Random).chain([Order::Forward, Order::Reverse]);
    assert!(orders().all(|order| announced("simt_announced", order) == expected));
    assert!(orders().any(|order| announced("simt_mistake_announced_early", order) != expected));
}

#[test]
fn blocks_of_a_cluster_read_each_others_shared_memory() {
    with_each_order(|order| {
        assert_eq!(of_clusters("simt_clusters", 12).unwrap(), expected_of_clusters(12), "{order:?}");
    });
}

#[test]
#[cfg_attr(feature = "trace", ignore = "the tracing build ends the launch at the race")]
fn a_read_before_the_clusters_barrier_shows_in_the_results() {
    let mut wrong = false;
    with_each_order(|_| {
        let y = of_clusters("simt_mistake_cluster_reads_early", 4).unwrap();
        wrong |= y != expected_of_clusters(4);
    });
    assert!(wrong);
}

#[test]
fn a_block_that_ends_before_others_have_read_its_shared_memory_fails_the_launch() {
    let mut failed = false;
    with_each_order(|_| {
        if let Err(error) = of_clusters("simt_mistake_cluster_ends_early", 4) {
            let words = error.error_string().unwrap().to_string_lossy().into_owned();
            assert!(words.contains("a block that has ended"), "{words}");
            failed = true;
        }
    });
    assert!(failed);
}

#[test]
fn a_grid_that_is_not_whole_clusters_is_refused() {
    assert!(of_clusters("simt_clusters", 6).is_err());
}
