//! Products by NVIDIA's cuBLASLt, where it is installed.
//!
//! cuBLASLt thinks in columns: a row-major (R, C) matrix is its column-major C x R. So it is given
//! `out^T (N, M) = right'^T left'^T`: the right factor comes first.

mod prepared;
mod recent;

use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use self::prepared::{Kind, Prepared};
use self::recent::Recent;
use super::{Layout, Product, View, ViewMut};
use crate::cuda::CudaDevice;
use crate::error::KernelError;

/// Memory that an algorithm may use; what NVIDIA recommends for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;

/// Kinds of products whose descriptors are kept: batches of ever new numbers of rows are each a kind of their own.
const KINDS: usize = 512;

/// A handle, and what was prepared for the last kinds of products.
#[derive(Debug)]
pub(crate) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    prepared: Mutex<Recent<Kind, Prepared>>,
}

// SAFETY: a cuBLASLt handle may be used from several threads (NVIDIA's documentation of cublasLtCreate).
unsafe impl Send for CublasLt {}
// SAFETY: as above.
unsafe impl Sync for CublasLt {}

impl CublasLt {
    /// Loads the library; the error says why it cannot be used.
    pub(crate) fn open(device: &CudaDevice) -> Result<CublasLt, String> {
        // SAFETY: the call looks for a shared library by cuBLASLt's names; its initialisers ask nothing of the caller.
        if !unsafe { sys::is_culib_present() } {
            return Err(
                "libcublasLt is not found; install CUDA's cuBLAS or put its folder into LD_LIBRARY_PATH"
                    .to_owned(),
            );
        }
        // Makes the device's context the current one, to which the handle then belongs.
        let _stream = device.stream("cublasLtCreate").map_err(|error| error.to_string())?;
        let handle = result::create_handle().map_err(|error| format!("cublasLtCreate: {error}"))?;
        Ok(CublasLt { handle, prepared: Mutex::new(Recent::new(KINDS)) })
    }

    /// `out (+)= alpha * left * right`, checked by the caller.
    pub(super) fn product(
        &self,
        device: &CudaDevice,
        op: &'static str,
        out: &mut ViewMut<'_>,
        left: View<'_>,
        right: View<'_>,
        p: &Product,
    ) -> Result<(), KernelError> {
        let failed = |error: CublasError| KernelError::Unsupported {
            op,
            device: format!("cuda:{}", device.ordinal()),
            what: format!("{p} by cuBLASLt ({error})"),
            remedy: "use gemm backend `own` or `auto`",
        };
        let address =
            |tensor: &crate::tensor::Tensor, first| tensor.cuda().map_or(0, |buffer| buffer.address(first));
        let addresses = [
            address(out.tensor, out.first),
            address(left.tensor, left.first),
            address(right.tensor, right.first),
        ];
        let kind = Kind {
            layout: p.layout,
            size: [p.m, p.n, p.k],
            strides: [out.stride, left.stride, right.stride],
            factors: left.tensor.dtype(),
            out: out.tensor.dtype(),
            alignment: addresses.map(|address| 1 << address.trailing_zeros().min(8)),
        };
        let prepared = self.prepare(&kind).map_err(failed)?;
        let workspace = device.scratch(op, WORKSPACE_BYTES)?;
        let beta = if p.accumulate { 1.0_f32 } else { 0.0 };
        let [out_address, left_address, right_address] = addresses.map(|address| address as *mut c_void);
        let stream = device.stream(op)?;
        // SAFETY:
        // - the descriptors describe the matrices at these addresses (`prepare`), which lie inside their tensors
        //   (`super::product` checked);
        // - `out` is borrowed mutably and the factors are other tensors, so nothing that is written is read elsewhere;
        //   C and D are the same matrix, which cuBLASLt allows;
        // - the scalars are host f32, as the descriptor's scale type and pointer mode say, and are read during the call.
        unsafe {
            result::matmul(
                self.handle,
                prepared.product.0,
                (&raw const p.alpha).cast(),
                (&raw const beta).cast(),
                right_address,
                prepared.right.0,
                left_address,
                prepared.left.0,
                out_address,
                prepared.out.0,
                out_address,
                prepared.out.0,
                &raw const prepared.algorithm,
                workspace.address(0) as *mut c_void,
                WORKSPACE_BYTES,
                stream.cu_stream().cast(),
            )
        }
        .map_err(failed)
    }

    fn prepare(&self, kind: &Kind) -> Result<Arc<Prepared>, CublasError> {
        // Entries are added whole, so a panic of another thread leaves the table usable.
        let mut known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = known.get(kind) {
            return Ok(prepared);
        }
        let prepared = Prepared::new(self.handle, kind)?;
        Ok(known.insert(*kind, prepared))
    }
}
