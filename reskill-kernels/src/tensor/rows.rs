//! Tensors that grow and shrink by rows.

use super::{Storage, Tensor};
use crate::dtype::Element;
use crate::error::KernelError;

impl<T: Element> Tensor<T> {
    /// Sets the number of rows. Memory once taken is kept, so a buffer that is used for batches of several sizes
    /// settles at the largest. New rows are zero; rows that stay keep their values. A scalar has no rows to set.
    ///
    /// # Errors
    /// None on the CPU; [`KernelError::OutOfDeviceMemory`] or [`KernelError::Driver`] elsewhere, and the tensor is as it
    /// was.
    pub fn set_rows(&mut self, rows: usize) -> Result<(), KernelError> {
        let len = rows * self.row_len();
        if self.shape.is_empty() {
            return Ok(());
        }
        match &mut self.storage {
            Storage::Cpu(data) => data.resize(len, T::default()),
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer, _) => buffer.resize("Tensor::set_rows", len)?,
            #[cfg(feature = "cuda")]
            Storage::Lost(error, _) => return Err(error.clone()),
        }
        self.shape[0] = rows;
        Ok(())
    }

    /// Gives back memory that the rows do not need.
    ///
    /// # Errors
    /// None on the CPU; elsewhere as [`Tensor::set_rows`].
    pub fn shrink(&mut self) -> Result<(), KernelError> {
        match &mut self.storage {
            Storage::Cpu(data) => data.shrink_to_fit(),
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer, _) => buffer.shrink("Tensor::shrink")?,
            #[cfg(feature = "cuda")]
            Storage::Lost(error, _) => return Err(error.clone()),
        }
        Ok(())
    }
}
