//! Device memory can run out; one test in a program of its own, since the limit holds for the process.

mod common;

use common::Gpu;
use cudarc::driver::sys::CUresult;

#[test]
fn memory_runs_out_at_the_limit_and_freed_memory_can_be_used_again() {
    let gpu = Gpu::new();
    reskill_simt::set_memory(1 << 20);
    let first = gpu.stream.alloc_zeros::<u8>(700_000).unwrap();
    let error = gpu.stream.alloc_zeros::<u8>(400_000).err().unwrap();
    assert_eq!(error.0, CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    let (free, total) = gpu.stream.context().mem_get_info().unwrap();
    assert_eq!((free, total), ((1 << 20) - 700_000, 1 << 20));
    drop(first);
    gpu.stream.alloc_zeros::<u8>(400_000).unwrap();
    reskill_simt::set_memory(0);
}
