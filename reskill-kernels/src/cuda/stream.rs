//! Access to the stream: shared by all threads, but for the time in which one of them records a graph.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cudarc::driver::{CudaSlice, CudaStream};

use super::device::CudaDevice;
use super::memory::Memory;
use super::pool::Pool;
use crate::error::KernelError;

thread_local! {
    /// The device into whose graph this thread is recording.
    static RECORDING: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Keeps the work of other threads, and the freeing of memory, out of a recording.
#[derive(Debug, Default)]
pub(super) struct Gate {
    lock: RwLock<()>,
    /// Memory that was dropped by the recording thread: kept or freed when the recording ends.
    dropped: Mutex<Vec<CudaSlice<u8>>>,
    /// Memory that the recorded work uses.
    kept: Mutex<Vec<Arc<Memory>>>,
    /// Scratch memory that recorded operations are done with.
    pub(super) scratch: Pool,
}

/// The stream, held for one call to the driver.
pub(crate) struct StreamGuard<'a> {
    stream: &'a Arc<CudaStream>,
    _shared: Option<RwLockReadGuard<'a, ()>>,
}

impl Deref for StreamGuard<'_> {
    type Target = Arc<CudaStream>;

    fn deref(&self) -> &Arc<CudaStream> {
        self.stream
    }
}

/// The right to record: while it lives, other threads wait.
pub(super) struct Recording<'a> {
    device: &'a CudaDevice,
    _exclusive: RwLockWriteGuard<'a, ()>,
}

impl CudaDevice {
    /// The stream, with the device's context made the current one of this thread. Waits while another thread records a
    /// graph. One guard a thread: a second one could wait for ever behind a recording that waits for the first.
    pub(crate) fn stream(&self, op: &'static str) -> Result<StreamGuard<'_>, KernelError> {
        let inner = self.inner();
        // The lock protects no data, so a panic of another thread under it leaves nothing half done.
        let shared =
            (!self.is_recording()).then(|| inner.gate.lock.read().unwrap_or_else(PoisonError::into_inner));
        inner.context.bind_to_thread().map_err(|error| self.error(op, error))?;
        Ok(StreamGuard { stream: &inner.stream, _shared: shared })
    }

    /// Whether this thread is recording a graph of this device.
    pub(crate) fn is_recording(&self) -> bool {
        RECORDING.with(Cell::get) == Some(self.ordinal())
    }

    /// Starts a recording by this thread. Not to be called while it records already.
    pub(super) fn start_recording(&self) -> Recording<'_> {
        let exclusive = self.inner().gate.lock.write().unwrap_or_else(PoisonError::into_inner);
        RECORDING.with(|recording| recording.set(Some(self.ordinal())));
        Recording { device: self, _exclusive: exclusive }
    }

    /// Makes the recording of this thread, if there is one, an owner of `memory`.
    pub(super) fn keep_for_recording(&self, memory: &Arc<Memory>) {
        if !self.is_recording() {
            return;
        }
        let mut kept = self.inner().gate.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.iter().any(|known| Arc::ptr_eq(known, memory)) {
            kept.push(Arc::clone(memory));
        }
    }

    /// Keeps or frees memory that nobody uses, now or when the recording ends.
    pub(super) fn free(&self, slice: CudaSlice<u8>) {
        if self.is_recording() {
            let mut dropped = self.inner().gate.dropped.lock().unwrap_or_else(PoisonError::into_inner);
            dropped.push(slice);
            return;
        }
        let Some(slice) = self.keep(slice) else { return };
        // A failure shows at the next call: the context keeps what was refused while something was dropped.
        let _stream = self.stream("free");
        drop(slice);
    }
}

impl Recording<'_> {
    /// What the recorded work uses.
    pub(super) fn take_kept(&self) -> Vec<Arc<Memory>> {
        std::mem::take(&mut *self.device.inner().gate.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Recording<'_> {
    /// The scratch memory that the recorded work uses.
    pub(super) fn take_scratch(&self) -> Pool {
        self.device.inner().gate.scratch.take_all()
    }
}

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        // Of a recording that failed; the graph of one that did not has taken them.
        self.device.give_pool(&self.device.inner().gate.scratch);
        // While the recording's owners go, memory is still only set aside, which is freed last.
        drop(self.take_kept());
        RECORDING.with(|recording| recording.set(None));
        let dropped = &self.device.inner().gate.dropped;
        let dropped = std::mem::take(&mut *dropped.lock().unwrap_or_else(PoisonError::into_inner));
        // The gate is still closed, so what is not kept is freed without asking for the stream.
        dropped.into_iter().for_each(|slice| drop(self.device.keep(slice)));
    }
}
