//! What cuBLASLt is told of one kind of product, and the algorithm that it recommends.

use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

use super::{Layout, Product, WORKSPACE_BYTES};
use crate::dtype::DType;

/// All that the descriptors of a product depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kind {
    pub(super) layout: Layout,
    pub(super) size: [usize; 3],
    /// Of out, left and right.
    pub(super) strides: [usize; 3],
    pub(super) factors: DType,
    pub(super) out: DType,
    /// Powers of two that divide the addresses of out, left and right, at most 256.
    pub(super) alignment: [u64; 3],
}

/// Descriptors and algorithm of one kind of product.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) product: Description,
    pub(super) right: Matrix,
    pub(super) left: Matrix,
    pub(super) out: Matrix,
    pub(super) algorithm: sys::cublasLtMatmulAlgo_t,
}

// SAFETY: cuBLASLt only reads descriptors that are complete, and any thread may destroy them.
unsafe impl Send for Prepared {}
// SAFETY: as above.
unsafe impl Sync for Prepared {}

impl Prepared {
    pub(super) fn new(handle: sys::cublasLtHandle_t, kind: &Kind) -> Result<Prepared, CublasError> {
        let [m, n, k] = kind.size;
        let [out_stride, left_stride, right_stride] = kind.strides;
        let [left_size, right_size] = Product::new(kind.layout, m, n, k, false).stored();
        let right = Matrix::new(kind.factors, right_size, right_stride)?;
        let left = Matrix::new(kind.factors, left_size, left_stride)?;
        let out = Matrix::new(kind.out, (m, n), out_stride)?;
        let product = Description::new(kind.layout)?;
        let preference = Preference::new(kind)?;
        // SAFETY: handle, descriptors and preference are alive, and complete.
        let found = unsafe {
            result::get_matmul_algo_heuristic(handle, product.0, right.0, left.0, out.0, out.0, preference.0)
        }?;
        Ok(Prepared { product, right, left, out, algorithm: found.algo })
    }
}

/// Type, sizes and stride of a matrix.
#[derive(Debug)]
pub(super) struct Matrix(pub(super) sys::cublasLtMatrixLayout_t);

impl Matrix {
    fn new(dtype: DType, (rows, cols): (usize, usize), stride: usize) -> Result<Matrix, CublasError> {
        let dtype = match dtype {
            DType::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
            _ => sys::cudaDataType_t::CUDA_R_32F,
        };
        // Their columns are our rows.
        result::create_matrix_layout(dtype, cols as u64, rows as u64, stride.max(1) as i64).map(Matrix)
    }
}

impl Drop for Matrix {
    fn drop(&mut self) {
        // SAFETY: `new` created it, and nobody else destroys it. A failure would leave some bytes behind.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// Sums in f32, f32 scalars, and which factors are turned.
#[derive(Debug)]
pub(super) struct Description(pub(super) sys::cublasLtMatmulDesc_t);

impl Description {
    fn new(layout: Layout) -> Result<Description, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let (sums, scalars) = (sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType_t::CUDA_R_32F);
        let description = Description(result::create_matmul_desc(sums, scalars)?);
        let turns = [
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSA, i32::from(layout == Layout::Nt)),
            (Attribute::CUBLASLT_MATMUL_DESC_TRANSB, i32::from(layout == Layout::Tn)),
        ];
        for (name, turn) in turns {
            // SAFETY: the descriptor was just created; the attribute is an int32, alive during the call.
            unsafe { result::set_matmul_desc_attribute(description.0, name, (&raw const turn).cast(), 4) }?;
        }
        Ok(description)
    }
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: as for a matrix.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

/// What an algorithm may use: memory, alignments, and for split sums partial sums in f32 only.
struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn new(kind: &Kind) -> Result<Preference, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        use sys::cublasLtReductionScheme_t as Scheme;
        let preference = Preference(result::create_matmul_pref()?);
        let [out, left, right] = kind.alignment.map(|alignment| alignment as u32);
        // The other two schemes add partial sums that were rounded to the type of the result.
        let schemes = Scheme::CUBLASLT_REDUCTION_SCHEME_NONE as u32
            | Scheme::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        let words = [
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, right),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, left),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out),
            (Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes),
        ];
        for (name, value) in words {
            // SAFETY: the preference was just created; the attribute is a uint32, alive during the call.
            unsafe { result::set_matmul_pref_attribute(preference.0, name, (&raw const value).cast(), 4) }?;
        }
        let (name, bytes) = (Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE_BYTES as u64);
        // SAFETY: as above; this one is a uint64.
        unsafe { result::set_matmul_pref_attribute(preference.0, name, (&raw const bytes).cast(), 8) }?;
        Ok(preference)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: as for a matrix.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}
