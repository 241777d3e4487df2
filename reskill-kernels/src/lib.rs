//! The kernels of a transformer policy and of its GRPO loss.
//!
//! Every operation lives in a folder of its own under [`ops`]: `mod.rs` holds the formula, the shapes and the
//! checks, `cpu.rs` the embedded CPU version. Outputs come first and are `&mut`; what an operation allocates besides is
//! scratch for one block of rows or one sequence and gone when it returns, so a model plans its memory once.
//!
//! Every row of a forward result is computed by the same instructions whatever rows stand beside it, and no result
//! depends on the number of threads. That makes results independent of the batch, and it makes the log-probabilities
//! of a rollout and those of training equal to the bit. (The instructions are chosen by the processor, so another
//! processor may round differently.)
//!
//! ```
//! use reskill_kernels::{Device, Tensor, ops};
//!
//! let x = Tensor::from_vec(&[1, 2], vec![3.0, 4.0])?;
//! let weight = Tensor::from_vec(&[2], vec![1.0, 2.0])?;
//! let mut out = Tensor::zeros(&[1, 2], &Device::Cpu)?;
//! let mut rstd = Tensor::zeros(&[1], &Device::Cpu)?;
//! ops::rms_norm_forward(&mut out, &mut rstd, &x, &weight, 0.0)?;
//! assert!((out.as_slice()[0] - 3.0 / 12.5_f32.sqrt()).abs() < 1e-6);
//! # Ok::<(), reskill_kernels::KernelError>(())
//! ```

pub mod device;
pub mod dtype;
pub mod tensor;
pub mod graph;
pub mod gemm;
mod timing;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod ops;
pub mod error;
pub(crate) mod panels;
pub(crate) mod parallel;
pub(crate) mod simd;

#[cfg(feature = "cuda")]
pub use cuda::CudaDevice;
pub use device::{Device, DeviceFacts};
pub use dtype::{DType, Element};
pub use error::KernelError;
pub use gemm::{GemmBackend, GemmChoice, GemmTrial};
pub use graph::Graph;
pub use tensor::Tensor;

/// The README's example is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
