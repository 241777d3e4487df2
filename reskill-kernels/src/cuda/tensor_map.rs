//! Tensor maps: how the copy engine of compute capability 9.0 takes boxes out of a matrix.

use cudarc::driver::{DeviceRepr, sys};

use super::device::CudaDevice;
use crate::error::KernelError;
use crate::tensor::Tensor;

/// A map of one matrix, passed to a kernel by value.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(crate) struct TensorMap(sys::CUtensorMap);

// SAFETY: a tensor map is 128 plain bytes that kernels take by value.
unsafe impl DeviceRepr for TensorMap {}

impl TensorMap {
    /// Boxes of `box_rows` x 64 bf16, swizzled by 128 bytes, of the (rows, cols) matrix whose rows lie `stride` elements
    /// apart from element `first` of `tensor` on. What lies outside of the matrix reads as zero.
    ///
    /// # Errors
    /// [`KernelError::Driver`] if an address or stride is not a multiple of 16 bytes, or a size is 0 or too large.
    pub(crate) fn of(
        device: &CudaDevice,
        op: &'static str,
        (tensor, first, stride): (&Tensor, usize, usize),
        size: (usize, usize),
        box_rows: u32,
    ) -> Result<TensorMap, KernelError> {
        let swizzle = sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B;
        TensorMap::encode(device, op, (tensor, first, stride), size, ([64, box_rows], swizzle))
    }

    /// The same with boxes of `box_rows` x 32 bf16, swizzled by 64 bytes.
    pub(crate) fn of_32_columns(
        device: &CudaDevice,
        op: &'static str,
        matrix: (&Tensor, usize, usize),
        size: (usize, usize),
        box_rows: u32,
    ) -> Result<TensorMap, KernelError> {
        let swizzle = sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_64B;
        TensorMap::encode(device, op, matrix, size, ([32, box_rows], swizzle))
    }

    fn encode(
        device: &CudaDevice,
        op: &'static str,
        (tensor, first, stride): (&Tensor, usize, usize),
        (rows, cols): (usize, usize),
        (boxes, swizzle): ([u32; 2], sys::CUtensorMapSwizzle),
    ) -> Result<TensorMap, KernelError> {
        let address = tensor.cuda().map_or(0, |buffer| buffer.address(first));
        let sizes = [cols as u64, rows as u64];
        let strides = [stride as u64 * 2];
        let steps = [1, 1];
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        // SAFETY: every pointer is to a live array with as many elements as the rank asks for: two sizes, one stride, two
        // box sizes, two steps. The address is only stored.
        let encoded = unsafe {
            sys::cuTensorMapEncodeTiled(
                &raw mut map,
                sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                2,
                address as *mut std::ffi::c_void,
                sizes.as_ptr(),
                strides.as_ptr(),
                boxes.as_ptr(),
                steps.as_ptr(),
                sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle,
                sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        encoded.result().map_err(|error| device.error(op, error))?;
        Ok(TensorMap(map))
    }
}
