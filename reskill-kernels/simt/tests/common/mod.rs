//! What tests of the simulator share: a device through cudarc, inputs, tensors of which only the shape matters.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaModule, CudaStream, DriverError, LaunchArgs, LaunchConfig, PushKernelArg,
};
use cudarc::nvrtc::Ptx;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::ops::{self, AttentionShape, PackedSegment, PackedSegments};
use reskill_kernels::{DType, Device, KernelError, Tensor};
use reskill_simt::{Order, with_order};

/// The stand-in's device.
pub(crate) struct Gpu {
    pub(crate) stream: Arc<CudaStream>,
    pub(crate) module: Arc<CudaModule>,
}

impl Gpu {
    pub(crate) fn new() -> Gpu {
        assert!(reskill_simt::is_stand_in(), "these kernels are part of the stand-in only");
        reskill_simt::load();
        let context = CudaContext::new(0).unwrap();
        let module = context.load_module(Ptx::from_binary(b"the stand-in takes any image".to_vec())).unwrap();
        Gpu { stream: context.new_stream().unwrap(), module }
    }

    /// Launches `blocks` blocks of `threads` threads.
    pub(crate) fn launch<'a>(
        &'a self,
        kernel: &str,
        blocks: u32,
        threads: u32,
        shared: u32,
        args: impl FnOnce(&mut LaunchArgs<'a>),
    ) -> Result<(), DriverError> {
        let function = self.module.load_function(kernel)?;
        let mut launch = self.stream.launch_builder(Box::leak(Box::new(function)));
        args(&mut launch);
        let config =
            LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: shared };
        // SAFETY: the tests give each kernel of kernels/*.cu its own arguments; what a wrong kernel does is caught by
        // the stand-in.
        unsafe { launch.launch(config) }.map(drop)
    }
}

/// Values in [-1, 1).
pub(crate) fn f32_values(seed: u64, n: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// The same, rounded to bf16.
pub(crate) fn bf16_values(seed: u64, n: usize) -> Vec<u16> {
    f32_values(seed, n).into_iter().map(bf16).collect()
}

/// Rounds to the nearest bf16, ties to even.
pub(crate) fn bf16(v: f32) -> u16 {
    let bits = v.to_bits();
    ((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Runs a kernel that must fail, in this order; returns the driver's words.
pub(crate) fn failure(kernel: &str, threads: u32, order: Order) -> String {
    let gpu = Gpu::new();
    let x = gpu.stream.clone_htod(&vec![1.0_f32; 256]).unwrap();
    let mut y = gpu.stream.alloc_zeros::<f32>(256).unwrap();
    let result = with_order(order, || {
        gpu.launch(kernel, 1, threads, 0, |l| {
            l.arg(&mut y).arg(&x);
        })
    });
    result.unwrap_err().error_string().unwrap().to_string_lossy().into_owned()
}

/// Numbers in [-0.5, 0.5), the same for every tensor.
pub(crate) fn tensor(device: &Device, shape: &[usize], dtype: DType) -> Tensor {
    let len = shape.iter().product();
    let numbers: Vec<f32> = (0..len).map(|i: usize| (i * 7919 % 2003) as f32 / 2003.0 - 0.5).collect();
    Tensor::from_slice(shape, &numbers, device, dtype).unwrap()
}

pub(crate) fn ids(device: &Device, ids: &[u32]) -> Tensor<u32> {
    Tensor::from_slice(&[ids.len()], ids, device, DType::U32).unwrap()
}

/// Both passes of attention in bf16 over a segment of 128 rows and one of 64 that continues it, by name.
pub(crate) fn packed_attention(
    device: &Device,
    head_dim: usize,
    mut run: impl FnMut(&str, &mut dyn FnMut() -> Result<(), KernelError>),
) {
    let shape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim };
    let segment = |start, len, prefix_len| PackedSegment { start, len, prefix_start: 0, prefix_len };
    let segments: PackedSegments = vec![segment(0, 128, 0), segment(128, 64, 128)].into();
    let n = 192;
    let [qkv, mut d_qkv] = [(); 2].map(|()| tensor(device, &[n, shape.qkv_width()], DType::Bf16));
    let [mut out, d_out] = [(); 2].map(|()| tensor(device, &[n, shape.out_width()], DType::Bf16));
    let mut lse = tensor(device, &[n, shape.n_heads], DType::F32);
    run("attention_forward", &mut || ops::attention_forward(&mut out, &mut lse, &qkv, &segments, shape));
    run("attention_backward", &mut || {
        ops::attention_backward(&mut d_qkv, &d_out, &out, &lse, &qkv, &segments, shape)
    });
}
