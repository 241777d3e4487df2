//! Device memory can run out; a program of its own, and one test, since the limit holds for the process.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::Gpu;
use cudarc::driver::CudaContext;
use cudarc::driver::sys::CUresult;
use reskill_kernels::{DType, Device, KernelError, Tensor, ops};

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
    drop(gpu);
    what_operations_keep_is_given_back_when_memory_runs_out();
    reskill_simt::set_memory(0);
}

/// A product in parts leaves scratch memory behind, for the next one, and its tensors theirs: it must not be missing elsewhere.
fn what_operations_keep_is_given_back_when_memory_runs_out() {
    let device = reskill_simt::device();
    let Device::Cuda(cuda) = &device else { panic!("{device:?}") };
    cuda.keep_memory(usize::MAX);
    reskill_simt::set_memory(64 << 20);
    let driver = CudaContext::new(0).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros_as(shape, &device, DType::F32);
    {
        let (x, weight) = (zeros(&[32, 65_536]).unwrap(), zeros(&[32, 65_536]).unwrap());
        ops::matmul(&mut zeros(&[32, 32]).unwrap(), &x, &weight, false).unwrap();
    }
    // Two factors of 8 MiB each, a result, and the parts.
    let kept = (64 << 20) - driver.mem_get_info().unwrap().0;
    assert!(kept > 16 << 20, "{kept} bytes of kept memory show nothing");
    // New tensors can have it all the same.
    assert_eq!(device.free_memory().unwrap(), Some(64 << 20));
    let all = (64 << 20) / 4;
    assert_eq!(zeros(&[all]).unwrap().shape(), [all]);
    let error = zeros(&[all + 1]).unwrap_err();
    assert!(matches!(error, KernelError::OutOfDeviceMemory { free: 67_108_864, .. }), "{error}");
}
