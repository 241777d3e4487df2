//! A piece of a device's memory, kept for the next tensor or freed in stream order when its last owner goes.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DriverError, sys};

use super::device::CudaDevice;
use crate::error::KernelError;

/// Memory with its device. A recorded graph that uses it is one of its owners.
#[derive(Debug)]
pub(super) struct Memory {
    device: CudaDevice,
    /// Whether it comes from the pool of scratch memory and goes back there.
    pooled: bool,
    /// None only while it is dropped.
    slice: Option<CudaSlice<u8>>,
}

impl Memory {
    pub(super) fn bytes(&self) -> usize {
        self.slice.as_ref().map_or(0, CudaSlice::len)
    }

    /// The address of its first byte. A recording that asks for it becomes an owner, but of scratch memory: its
    /// graph takes that along, and operations of one recording share it.
    pub(super) fn address(self: &Arc<Memory>) -> u64 {
        if !self.pooled {
            self.device.keep_for_recording(self);
        }
        self.slice.as_ref().map_or(0, |slice| address_of(&self.device, slice))
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        match self.slice.take() {
            Some(slice) if self.pooled => self.device.give_to_pool(slice),
            Some(slice) => self.device.free(slice),
            None => {}
        }
    }
}

impl CudaDevice {
    /// Memory with undefined contents; none for no bytes.
    pub(super) fn memory_of(
        &self,
        op: &'static str,
        bytes: usize,
    ) -> Result<Option<Arc<Memory>>, KernelError> {
        let slice = self.allocate(op, bytes)?;
        Ok(slice.map(|slice| Arc::new(Memory { device: self.clone(), pooled: false, slice: Some(slice) })))
    }

    /// The same from the pool of scratch memory.
    pub(super) fn pooled_memory_of(
        &self,
        op: &'static str,
        bytes: usize,
    ) -> Result<Option<Arc<Memory>>, KernelError> {
        let slice = self.take_from_pool(op, bytes)?;
        Ok(slice.map(|slice| Arc::new(Memory { device: self.clone(), pooled: true, slice: Some(slice) })))
    }

    /// The same, for an owner that frees it with the device.
    pub(super) fn allocate(
        &self,
        op: &'static str,
        bytes: usize,
    ) -> Result<Option<CudaSlice<u8>>, KernelError> {
        if bytes == 0 {
            return Ok(None);
        }
        self.refuse_while_recording(op, "new memory")?;
        if let Some(kept) = self.take_kept(bytes) {
            return Ok(Some(kept));
        }
        let stream = self.stream(op)?;
        match self.new_memory(&stream, bytes) {
            // What nobody uses goes back to the driver, in the order of the stream, before there is none.
            Err(DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
                self.give_back_unused();
                self.new_memory(&stream, bytes)
            }
            other => other,
        }
        .map(Some)
        .map_err(|error| match error {
            DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY) => {
                let (free, total) = self.inner().context.mem_get_info().unwrap_or((0, 0));
                let device = format!("cuda:{}", self.ordinal());
                KernelError::OutOfDeviceMemory { op, device, bytes, free, total }
            }
            error => self.error(op, error),
        })
    }

    /// Sets how much memory of tensors that are gone is kept for new ones, at most; an eighth of the device's memory at first.
    /// If more is kept, all of it goes back to the driver now.
    ///
    /// A step of training or decoding that has been done once or twice finds its memory here and asks the driver for none. With 0
    /// every tensor has memory of exactly its size, fresh from the driver: for tools that look for accesses beside it.
    pub fn keep_memory(&self, most: usize) {
        self.inner().keep.store(most, Ordering::Relaxed);
        if self.inner().kept.bytes() > most {
            let _stream = self.stream("keep_memory");
            drop(self.inner().kept.take_all());
        }
    }

    /// A kept piece of `bytes` or, so that steps of nearly one size share pieces, up to an eighth more.
    fn take_kept(&self, bytes: usize) -> Option<CudaSlice<u8>> {
        // Work is done in the order of the one stream, so whoever used the piece before is through with it first.
        self.inner().kept.take(bytes, bytes + bytes / 8)
    }

    /// Keeps a piece that nobody uses any more, or returns it if enough is kept.
    pub(super) fn keep(&self, slice: CudaSlice<u8>) -> Option<CudaSlice<u8>> {
        self.inner().kept.give_within(slice, self.inner().keep.load(Ordering::Relaxed))
    }

    /// Bytes that are kept for new tensors and for the inside of operations.
    #[must_use]
    pub fn kept_memory(&self) -> usize {
        self.inner().kept.bytes() + self.inner().scratch.bytes()
    }

    /// Gives all pieces that nobody uses to the driver. The caller holds the stream.
    fn give_back_unused(&self) {
        for pool in [&self.inner().scratch, &self.inner().kept] {
            drop(pool.take_all());
        }
    }

    fn new_memory(&self, stream: &Arc<CudaStream>, bytes: usize) -> Result<CudaSlice<u8>, DriverError> {
        // SAFETY: the memory is undefined until it is written. Every tensor's memory is filled before anything reads it
        // (`CudaBuffer` clears or copies what it declares as elements), and scratch memory is documented as undefined.
        unsafe { stream.alloc::<u8>(bytes) }
    }
}

/// The address of a piece of memory.
pub(super) fn address_of(device: &CudaDevice, slice: &CudaSlice<u8>) -> u64 {
    // Events are off, so the guard that comes with the pointer has nothing to record.
    slice.device_ptr(&device.inner().stream).0
}
