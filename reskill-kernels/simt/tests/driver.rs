//! The stand-in driver refuses what a real one refuses, and replays what it recorded.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::Gpu;
use cudarc::driver::sys::{CUfunction_attribute, CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, DriverError, LaunchConfig, PushKernelArg, result};

/// A device whose calls record no events, as capturing demands.
fn gpu() -> Gpu {
    let gpu = Gpu::new();
    // SAFETY: all work of the test goes to one stream.
    unsafe { gpu.stream.context().disable_event_tracking() };
    gpu
}

fn refused<T>(result: Result<T, DriverError>) -> CUresult {
    result.err().unwrap().0
}

#[test]
fn device_reports_the_capability_of_an_a100() {
    let gpu = Gpu::new();
    let context = gpu.stream.context();
    assert_eq!(context.compute_capability().unwrap(), (8, 0));
    assert!(context.name().unwrap().contains("simulator"));
    assert_eq!(refused(CudaContext::new(7)), CUresult::CUDA_ERROR_INVALID_DEVICE);
}

#[test]
fn fresh_memory_is_poisoned_and_copies_return_what_was_copied() {
    let gpu = Gpu::new();
    // SAFETY: every bit pattern is an f32.
    let fresh = unsafe { gpu.stream.alloc::<f32>(33) }.unwrap();
    assert!(gpu.stream.clone_dtoh(&fresh).unwrap().iter().all(|v| v.is_nan()));
    let data: Vec<u32> = (0..1000).collect();
    let device = gpu.stream.clone_htod(&data).unwrap();
    let twice = gpu.stream.clone_dtod(&device).unwrap();
    assert_eq!(gpu.stream.clone_dtoh(&twice).unwrap(), data);
    assert_eq!(gpu.stream.clone_dtoh(&twice.slice(10..20)).unwrap(), data[10..20]);
}

#[test]
fn copies_and_fills_beyond_an_allocation_are_refused() {
    let gpu = Gpu::new();
    let mut data = gpu.stream.alloc_zeros::<u8>(100).unwrap();
    let (address, guard) = cudarc::driver::DevicePtrMut::device_ptr_mut(&mut data, &gpu.stream);
    // SAFETY: the driver refuses the call, so nothing is written.
    let fill = unsafe { result::memset_d8_async(address, 0, 101, gpu.stream.cu_stream()) };
    assert_eq!(refused(fill), CUresult::CUDA_ERROR_INVALID_VALUE);
    drop(guard);
}

#[test]
fn kernels_are_found_by_name_only() {
    let gpu = Gpu::new();
    assert_eq!(refused(gpu.module.load_function("simt_no_such_kernel")), CUresult::CUDA_ERROR_NOT_FOUND);
}

#[test]
fn launches_beyond_the_limits_of_the_device_are_refused() {
    let gpu = Gpu::new();
    let function = gpu.module.load_function("simt_count").unwrap();
    let mut counts = gpu.stream.alloc_zeros::<u32>(2).unwrap();
    let mut launch = |grid_dim, block_dim, shared_mem_bytes| {
        let config = LaunchConfig { grid_dim, block_dim, shared_mem_bytes };
        let mut l = gpu.stream.launch_builder(&function);
        let x = 0_u64;
        // SAFETY: with n = 0 the kernel reads nothing through `x`.
        unsafe { l.arg(&mut counts).arg(&x).arg(&0_i32).launch(config) }.map(drop)
    };
    let refusals = [
        ((0, 1, 1), (32, 1, 1), 0),
        ((1, 65_536, 1), (32, 1, 1), 0),
        ((1, 1, 1), (1025, 1, 1), 0),
        ((1, 1, 1), (32, 32, 2), 0),
        ((1, 1, 1), (32, 1, 1), 48 * 1024 + 1),
    ];
    for (grid, block, shared) in refusals {
        assert_eq!(
            refused(launch(grid, block, shared)),
            CUresult::CUDA_ERROR_INVALID_VALUE,
            "{grid:?} {block:?} {shared}"
        );
    }
    launch((1, 1, 1), (32, 32, 1), 48 * 1024).unwrap();
}

#[test]
fn more_shared_memory_is_to_be_asked_for() {
    let gpu = Gpu::new();
    let function = gpu.module.load_function("simt_scan").unwrap();
    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    function.set_attribute(attribute, 163 * 1024).unwrap();
    assert_eq!(
        refused(function.set_attribute(attribute, 163 * 1024 + 1)),
        CUresult::CUDA_ERROR_INVALID_VALUE
    );
}

#[test]
fn captured_work_runs_at_each_launch_of_the_graph_and_not_before() {
    let gpu = gpu();
    let x = gpu.stream.clone_htod(&[2.0_f32; 4]).unwrap();
    let mut counts = gpu.stream.alloc_zeros::<u32>(2).unwrap();
    gpu.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    // The arguments are copied at the launch, as the driver does.
    let mut n = 3_i32;
    gpu.launch("simt_count", 1, 32, 0, |l| {
        l.arg(&mut counts).arg(&x).arg(&*Box::leak(Box::new(n)));
    })
    .unwrap();
    n += 1;
    gpu.launch("simt_count", 1, 32, 0, |l| {
        l.arg(&mut counts).arg(&x).arg(&*Box::leak(Box::new(n)));
    })
    .unwrap();
    let graph = gpu.stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
    assert_eq!(gpu.stream.clone_dtoh(&counts).unwrap(), [0, 0]);
    for round in 1..=3 {
        graph.launch().unwrap();
        assert_eq!(gpu.stream.clone_dtoh(&counts).unwrap(), [7 * round, 7 * round]);
    }
}

#[test]
fn capture_refuses_to_wait_and_to_allocate() {
    let gpu = gpu();
    let begin =
        || gpu.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    let end = || gpu.stream.end_capture(CUgraphInstantiate_flags(0)).map(drop);
    begin();
    assert_eq!(refused(gpu.stream.synchronize()), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(refused(end()), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    begin();
    assert_eq!(refused(gpu.stream.alloc_zeros::<f32>(1)), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    assert_eq!(refused(end()), CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    assert_eq!(refused(end()), CUresult::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    begin();
    end().unwrap();
}

#[test]
fn capture_refuses_events_from_outside() {
    let gpu = gpu();
    let event = gpu.stream.record_event(None).unwrap();
    gpu.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).unwrap();
    assert_eq!(refused(gpu.stream.wait(&event)), CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    assert!(gpu.stream.end_capture(CUgraphInstantiate_flags(0)).is_err());
}
