//! Products by NVIDIA's cuBLASLt, where it is installed.
//!
//! cuBLASLt thinks in columns: a row-major (R, C) matrix is its column-major C x R. So it is given
//! `out^T (N, M) = right'^T left'^T`: the right factor comes first.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, PoisonError};

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use super::{Layout, Product, View, ViewMut};
use crate::cuda::CudaDevice;
use crate::dtype::DType;
use crate::error::KernelError;

/// Memory that an algorithm may use; what NVIDIA recommends for Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;

/// A handle, and what was prepared for each kind of product.
#[derive(Debug)]
pub(crate) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    prepared: Mutex<HashMap<Kind, Prepared>>,
}

// SAFETY: a cuBLASLt handle may be used from several threads (NVIDIA's documentation of cublasLtCreate), and descriptors
// are changed only before they are put into the table.
unsafe impl Send for CublasLt {}
// SAFETY: as above.
unsafe impl Sync for CublasLt {}

/// All that the descriptors of a product depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    layout: Layout,
    size: [usize; 3],
    strides: [usize; 3],
    factors: DType,
    out: DType,
    /// Powers of two that divide the three addresses, at most 256.
    alignment: [u64; 3],
}

/// Descriptors and algorithm of one kind of product. They live as long as the program: there are few.
#[derive(Debug, Clone, Copy)]
struct Prepared {
    product: sys::cublasLtMatmulDesc_t,
    right: sys::cublasLtMatrixLayout_t,
    left: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

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
        Ok(CublasLt { handle, prepared: Mutex::default() })
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
                prepared.product,
                (&raw const p.alpha).cast(),
                (&raw const beta).cast(),
                right_address,
                prepared.right,
                left_address,
                prepared.left,
                out_address,
                prepared.out,
                out_address,
                prepared.out,
                &raw const prepared.algorithm,
                workspace.address(0) as *mut c_void,
                WORKSPACE_BYTES,
                stream.cu_stream().cast(),
            )
        }
        .map_err(failed)
    }

    fn prepare(&self, kind: &Kind) -> Result<Prepared, CublasError> {
        // Entries are added whole, so a panic of another thread leaves the table usable.
        let mut known = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(prepared) = known.get(kind) {
            return Ok(*prepared);
        }
        let prepared = self.describe(kind)?;
        known.insert(*kind, prepared);
        Ok(prepared)
    }

    fn describe(&self, kind: &Kind) -> Result<Prepared, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        use sys::cublasLtMatmulPreferenceAttributes_t as Preference;
        let [m, n, k] = kind.size;
        let [out_stride, left_stride, right_stride] = kind.strides;
        let product = Product::new(kind.layout, m, n, k, false);
        let [left_size, right_size] = product.stored();
        let matrix = |dtype: DType, (rows, cols): (usize, usize), stride: usize| {
            // Their columns are our rows.
            result::create_matrix_layout(type_of(dtype), cols as u64, rows as u64, stride.max(1) as i64)
        };
        let right = matrix(kind.factors, right_size, right_stride)?;
        let left = matrix(kind.factors, left_size, left_stride)?;
        let out = matrix(kind.out, (m, n), out_stride)?;
        let description = result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType_t::CUDA_R_32F,
        )?;
        let preference = result::create_matmul_pref()?;
        let turn = |turned: bool| i32::from(turned);
        let turns = [turn(kind.layout == Layout::Nt), turn(kind.layout == Layout::Tn)];
        let alignments =
            [kind.alignment[2], kind.alignment[1], kind.alignment[0], kind.alignment[0]].map(|a| a as u32);
        let names = [
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ];
        let memory = WORKSPACE_BYTES as u64;
        // SAFETY: the descriptors were just created; each attribute gets a live value of its documented type (transpose:
        // int32, alignments: uint32, workspace: uint64) and its size.
        let found = unsafe {
            let transposes = [Attribute::CUBLASLT_MATMUL_DESC_TRANSA, Attribute::CUBLASLT_MATMUL_DESC_TRANSB];
            for (name, turn) in transposes.into_iter().zip(&turns) {
                result::set_matmul_desc_attribute(description, name, std::ptr::from_ref(turn).cast(), 4)?;
            }
            for (name, bytes) in names.into_iter().zip(&alignments) {
                result::set_matmul_pref_attribute(preference, name, std::ptr::from_ref(bytes).cast(), 4)?;
            }
            let name = Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            result::set_matmul_pref_attribute(preference, name, (&raw const memory).cast(), 8)?;
            let found = result::get_matmul_algo_heuristic(
                self.handle,
                description,
                right,
                left,
                out,
                out,
                preference,
            );
            result::destroy_matmul_pref(preference)?;
            found?
        };
        Ok(Prepared { product: description, right, left, out, algorithm: found.algo })
    }
}

fn type_of(dtype: DType) -> sys::cudaDataType_t {
    match dtype {
        DType::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
        _ => sys::cudaDataType_t::CUDA_R_32F,
    }
}
