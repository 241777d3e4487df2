//! Memory of a device that belongs to a tensor.

use std::sync::{Arc, PoisonError};

use cudarc::driver::result;

use super::device::CudaDevice;
use super::memory::Memory;
use crate::dtype::DType;
use crate::error::KernelError;

/// `len` numbers of a type in a device's memory. It may hold room for more.
#[derive(Debug)]
pub(crate) struct CudaBuffer {
    device: CudaDevice,
    dtype: DType,
    len: usize,
    /// None while there is room for nothing.
    memory: Option<Arc<Memory>>,
}

impl CudaBuffer {
    /// Zeros.
    pub(crate) fn zeros(
        device: &CudaDevice,
        dtype: DType,
        len: usize,
        op: &'static str,
    ) -> Result<CudaBuffer, KernelError> {
        let memory = device.memory_of(op, len * dtype.size())?;
        let mut buffer = CudaBuffer { device: device.clone(), dtype, len, memory };
        buffer.clear(op, 0, len)?;
        Ok(buffer)
    }

    /// Undefined contents in scratch memory.
    pub(super) fn scratch(
        device: &CudaDevice,
        dtype: DType,
        len: usize,
        op: &'static str,
    ) -> Result<CudaBuffer, KernelError> {
        let memory = device.pooled_memory_of(op, len * dtype.size())?;
        Ok(CudaBuffer { device: device.clone(), dtype, len, memory })
    }

    pub(crate) fn device(&self) -> &CudaDevice {
        &self.device
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Numbers there is room for.
    pub(crate) fn capacity(&self) -> usize {
        self.memory.as_ref().map_or(0, |memory| memory.bytes() / self.dtype.size())
    }

    /// Address of element `index`, or 0 if there is no memory. The caller keeps within `len`.
    pub(crate) fn address(&self, index: usize) -> u64 {
        match &self.memory {
            Some(memory) => memory.address() + (index * self.dtype.size()) as u64,
            None => 0,
        }
    }

    /// Sets elements `first..first + n` to zero bits.
    pub(crate) fn clear(&mut self, op: &'static str, first: usize, n: usize) -> Result<(), KernelError> {
        if n == 0 {
            return Ok(());
        }
        debug_assert!(first + n <= self.capacity());
        let stream = self.device.stream(op)?;
        // SAFETY: the bytes lie inside this buffer's memory (the callers' counts come from `len` and `capacity`), which
        // is borrowed mutably and belongs to the context of this stream.
        let done = unsafe {
            result::memset_d8_async(self.address(first), 0, n * self.dtype.size(), stream.cu_stream())
        };
        done.map_err(|error| self.device.error(op, error))
    }

    /// Sets the number of elements: those that stay keep their values, new ones are zero. Memory is kept.
    pub(crate) fn resize(&mut self, op: &'static str, len: usize) -> Result<(), KernelError> {
        if len > self.capacity() {
            let mut grown = CudaBuffer {
                device: self.device.clone(),
                dtype: self.dtype,
                len,
                memory: self.device.memory_of(op, len * self.dtype.size())?,
            };
            grown.copy_within_device(op, 0, self, 0, self.len)?;
            // `clear` below must see the old length.
            grown.len = self.len;
            *self = grown;
        }
        let old = self.len;
        self.len = len;
        if len > old { self.clear(op, old, len - old) } else { Ok(()) }
    }

    /// Gives back memory beyond `len`.
    pub(crate) fn shrink(&mut self, op: &'static str) -> Result<(), KernelError> {
        if self.capacity() == self.len {
            return Ok(());
        }
        let mut fitting = CudaBuffer {
            device: self.device.clone(),
            dtype: self.dtype,
            len: self.len,
            memory: self.device.memory_of(op, self.len * self.dtype.size())?,
        };
        fitting.copy_within_device(op, 0, self, 0, self.len)?;
        *self = fitting;
        Ok(())
    }

    /// Copies elements `from..from + n` of a buffer of the same type and device to `to..to + n` of this one.
    pub(crate) fn copy_within_device(
        &mut self,
        op: &'static str,
        to: usize,
        source: &CudaBuffer,
        from: usize,
        n: usize,
    ) -> Result<(), KernelError> {
        if n == 0 {
            return Ok(());
        }
        debug_assert!(
            self.dtype == source.dtype && to + n <= self.capacity() && from + n <= source.capacity()
        );
        let stream = self.device.stream(op)?;
        let bytes = n * self.dtype.size();
        // SAFETY: both ranges lie inside their buffers (checked by the callers, asserted above), both buffers live in
        // the context of this stream, and being one `&mut` and one `&` they do not overlap.
        let done = unsafe {
            result::memcpy_dtod_async(self.address(to), source.address(from), bytes, stream.cu_stream())
        };
        done.map_err(|error| self.device.error(op, error))
    }

    /// Copies elements `from..from + n` to `to..to + n` of the same buffer; the ranges do not overlap.
    pub(crate) fn copy_inside(
        &mut self,
        op: &'static str,
        to: usize,
        from: usize,
        n: usize,
    ) -> Result<(), KernelError> {
        if n == 0 {
            return Ok(());
        }
        debug_assert!(to + n <= self.capacity() && from + n <= self.capacity());
        debug_assert!(to + n <= from || from + n <= to);
        let stream = self.device.stream(op)?;
        let bytes = n * self.dtype.size();
        // SAFETY: both ranges lie inside this buffer and do not overlap (checked by the callers, asserted above).
        let done = unsafe {
            result::memcpy_dtod_async(self.address(to), self.address(from), bytes, stream.cu_stream())
        };
        done.map_err(|error| self.device.error(op, error))
    }

    /// Writes `bytes` from element `first` on.
    pub(crate) fn upload(
        &mut self,
        op: &'static str,
        first: usize,
        bytes: Vec<u8>,
    ) -> Result<(), KernelError> {
        if bytes.is_empty() {
            return Ok(());
        }
        debug_assert!(first * self.dtype.size() + bytes.len() <= self.capacity() * self.dtype.size());
        self.refuse_while_recording(op, "copies from the host")?;
        let stream = self.device.stream(op)?;
        let mut uploads = self.device.inner().uploads.lock().unwrap_or_else(PoisonError::into_inner);
        let (kept, may_go_on) = uploads.keep(bytes);
        // SAFETY: the bytes fit behind element `first` (checked by the callers, asserted above); they are kept until the
        // stream has been waited for.
        let done = unsafe { result::memcpy_htod_async(self.address(first), kept, stream.cu_stream()) };
        drop(uploads);
        let done = if may_go_on { done } else { done.and_then(|()| self.device.wait_for(&stream)) };
        done.map_err(|error| self.device.error(op, error))
    }

    /// The bytes of elements `first..first + n`, after all work given to the device so far.
    pub(crate) fn download(&self, op: &'static str, first: usize, n: usize) -> Result<Vec<u8>, KernelError> {
        let mut bytes = vec![0_u8; n * self.dtype.size()];
        if bytes.is_empty() {
            return Ok(bytes);
        }
        debug_assert!(first + n <= self.len);
        self.refuse_while_recording(op, "copies to the host")?;
        let stream = self.device.stream(op)?;
        // SAFETY: the elements lie inside this buffer (checked by the callers, asserted above); `bytes` has exactly their
        // size and is not touched until the stream has been waited for.
        let done = unsafe { result::memcpy_dtoh_async(&mut bytes, self.address(first), stream.cu_stream()) };
        done.and_then(|()| self.device.wait_for(&stream)).map_err(|error| self.device.error(op, error))?;
        Ok(bytes)
    }

    /// A copy in memory of its own.
    pub(crate) fn duplicate(&self, op: &'static str) -> Result<CudaBuffer, KernelError> {
        let mut copy = CudaBuffer {
            device: self.device.clone(),
            dtype: self.dtype,
            len: self.len,
            memory: self.device.memory_of(op, self.len * self.dtype.size())?,
        };
        copy.copy_within_device(op, 0, self, 0, self.len)?;
        Ok(copy)
    }

    fn refuse_while_recording(&self, op: &'static str, what: &str) -> Result<(), KernelError> {
        self.device.refuse_while_recording(op, what)
    }
}

impl CudaDevice {
    /// An error if this thread is recording a graph, in which `what` has no place.
    pub(super) fn refuse_while_recording(&self, op: &'static str, what: &str) -> Result<(), KernelError> {
        if !self.is_recording() {
            return Ok(());
        }
        Err(KernelError::Unsupported {
            op,
            device: format!("cuda:{}", self.ordinal()),
            what: format!("{what} while a graph is recorded"),
            remedy: "run the work once before it is recorded",
        })
    }
}
