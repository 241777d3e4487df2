//! Which kernels multiply matrices on a CUDA device.

use std::fmt;

use crate::device::Device;
use crate::error::KernelError;

/// The source of the kernels for products of matrices on a CUDA device. On the CPU there is one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum GemmBackend {
    /// This crate's kernels, chosen by device, addresses and sizes alone: the same program gives the same bits each time
    /// on devices of one model. Products where they pay, and the output head (log-probabilities, divergence, sampling), in
    /// bf16 are computed by other kernels on compute capability 9.0 than on 8.x, so the two round differently.
    #[default]
    Own,
    /// This crate's kernels for products and the output head without those for compute capability 9.0: `mma.sync` on every
    /// device. Attention in bf16 has kernels of its own there all the same.
    Portable,
    /// NVIDIA's cuBLASLt, which must be installed.
    CublasLt,
    /// The quickest of all there are: each kind of product is timed once and the choice remembered. Another run of the
    /// program may choose differently and then rounds differently.
    Auto,
}

impl fmt::Display for GemmBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GemmBackend::Own => "own",
            GemmBackend::Portable => "portable",
            GemmBackend::CublasLt => "cublaslt",
            GemmBackend::Auto => "auto",
        })
    }
}

/// What [`GemmBackend::Auto`] found for one kind of product.
#[derive(Debug, Clone, PartialEq)]
pub struct GemmChoice {
    /// Layout and sizes, the rows rounded up to a power of two.
    pub product: String,
    /// The kernels that are used.
    pub chosen: &'static str,
    /// How each candidate did, or why it was left out.
    pub candidates: Vec<(&'static str, Result<GemmTrial, String>)>,
}

/// How a candidate did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GemmTrial {
    /// Microseconds of a run, the mean of some in a row.
    pub micros: f64,
    /// Largest difference from our portable kernels, as a part of the largest value of its row.
    pub distance: f32,
}

impl Device {
    /// Says who computes products of matrices on this device, for all its handles. The CPU has one way only and is left
    /// as it is.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] if cuBLASLt is asked for and cannot be used.
    pub fn set_gemm_backend(&self, backend: GemmBackend) -> Result<(), KernelError> {
        match self {
            Device::Cpu => {
                let _ = backend;
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => device.set_gemm_backend(backend),
        }
    }

    /// What [`GemmBackend::Auto`] has found on this device so far, in the order of names; nothing on the CPU.
    #[must_use]
    pub fn gemm_choices(&self) -> Vec<GemmChoice> {
        match self {
            Device::Cpu => Vec::new(),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => device.gemm_choices(),
        }
    }
}
