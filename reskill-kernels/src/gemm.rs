//! Which kernels multiply matrices on a CUDA device.

use std::fmt;

/// The source of the kernels for products of matrices on a CUDA device. On the CPU there is one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum GemmBackend {
    /// This crate's portable kernels, chosen by the sizes alone: the same program gives the same bits each time.
    #[default]
    Own,
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
    /// Microseconds of each candidate, or why it was left out.
    pub candidates: Vec<(&'static str, Result<f64, String>)>,
}
