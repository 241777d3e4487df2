//! Memory for the inside of an operation, taken from a pool and given back when the operation returns.

use cudarc::driver::CudaSlice;

use super::buffer::CudaBuffer;
use super::device::CudaDevice;
use super::memory::address_of;
use super::pool::Pool;
use crate::dtype::{DType, Element};
use crate::error::KernelError;
use crate::tensor::Tensor;

/// Smallest piece taken from the driver.
const SMALLEST: usize = 1 << 16;

/// Memory with undefined contents, for one operation.
///
/// It must not outlive the operation that took it: it would be kept from all others, and one that is dropped inside a
/// recording belongs to that graph from then on.
#[derive(Debug)]
pub(crate) struct Scratch<'d> {
    device: &'d CudaDevice,
    memory: Option<CudaSlice<u8>>,
}

impl Scratch<'_> {
    /// Address of byte `offset`. The caller keeps within what it asked for.
    pub(crate) fn address(&self, offset: usize) -> u64 {
        self.memory.as_ref().map_or(0, |memory| address_of(self.device, memory) + offset as u64)
    }
}

impl CudaDevice {
    /// At least `bytes` of undefined contents, aligned to 256 bytes.
    ///
    /// # Errors
    /// [`KernelError::OutOfDeviceMemory`], [`KernelError::Driver`]; [`KernelError::Unsupported`] if a graph is being
    /// recorded and no piece is large enough.
    pub(crate) fn scratch(&self, op: &'static str, bytes: usize) -> Result<Scratch<'_>, KernelError> {
        Ok(Scratch { device: self, memory: self.take_from_pool(op, bytes)? })
    }

    /// A tensor of undefined contents in scratch memory. As [`Scratch`], it must not outlive the operation.
    ///
    /// # Errors
    /// As [`CudaDevice::scratch`].
    pub(crate) fn scratch_tensor<T: Element>(
        &self,
        op: &'static str,
        shape: &[usize],
        dtype: DType,
    ) -> Result<Tensor<T>, KernelError> {
        let buffer = CudaBuffer::scratch(self, dtype, shape.iter().product(), op)?;
        Ok(Tensor::from_cuda(shape, buffer))
    }

    pub(super) fn take_from_pool(
        &self,
        op: &'static str,
        bytes: usize,
    ) -> Result<Option<CudaSlice<u8>>, KernelError> {
        if bytes == 0 {
            return Ok(None);
        }
        // Up to eight times as much, lest small wishes hold large pieces.
        let most = bytes.max(SMALLEST).saturating_mul(8);
        // A recording takes pieces out of the device's pool and has a pool of its own for those it is done with, which its
        // graph keeps: a launch of the graph writes to them at any time, also between two kernels of another thread.
        let recorded = if self.is_recording() { self.inner().gate.scratch.take(bytes, most) } else { None };
        match recorded.or_else(|| self.inner().scratch.take(bytes, most)) {
            Some(slice) => Ok(Some(slice)),
            None => self.allocate(op, rounded(bytes)),
        }
    }

    pub(super) fn give_to_pool(&self, slice: CudaSlice<u8>) {
        let inner = self.inner();
        let pool = if self.is_recording() { &inner.gate.scratch } else { &inner.scratch };
        pool.give(slice);
    }

    /// Gives the pieces of a graph back.
    pub(super) fn give_pool(&self, pool: &Pool) {
        self.inner().scratch.take_over(pool);
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.device.give_to_pool(memory);
        }
    }
}

/// `bytes` rounded up to one of eight sizes between powers of two, so that wishes of nearly one size share a piece.
fn rounded(bytes: usize) -> usize {
    let bytes = bytes.max(SMALLEST);
    let step = (bytes.next_power_of_two() / 16).max(1);
    bytes.div_ceil(step) * step
}

#[cfg(test)]
mod tests {
    use super::{SMALLEST, rounded};

    #[test]
    fn rounding_adds_at_most_an_eighth() {
        for bytes in [1, SMALLEST, SMALLEST + 1, 3 * SMALLEST + 7, 1 << 30, (1 << 30) + 1] {
            let got = rounded(bytes);
            assert!(got >= bytes && got <= bytes.max(SMALLEST) * 9 / 8 + 1, "{bytes} -> {got}");
            assert_eq!(got % 256, 0);
        }
    }
}
