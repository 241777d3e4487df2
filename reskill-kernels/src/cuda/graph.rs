//! Work recorded from the stream, to be given to it again in one call.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaStream, DriverError};

use super::device::CudaDevice;
use super::memory::Memory;
use super::pool::Pool;
use crate::error::KernelError;

/// A recorded graph of one device.
pub(crate) struct CudaGraph {
    device: CudaDevice,
    graph: Mutex<Handle>,
    /// The memory that it reads and writes.
    _memory: Vec<Arc<Memory>>,
    /// Its scratch memory.
    scratch: Pool,
}

struct Handle(cudarc::driver::CudaGraph);

// SAFETY: the driver allows a graph to be used by any thread, if not by two at once. The handle is reached through the
// mutex above only, and its context is made current on the thread before each use.
unsafe impl Send for Handle {}

impl fmt::Debug for CudaGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaGraph").field("device", &self.device.ordinal()).finish_non_exhaustive()
    }
}

/// Ends the stream's recording, also when the recorded work panics.
struct Capture<'a> {
    stream: &'a Arc<CudaStream>,
    open: bool,
}

impl Capture<'_> {
    fn end(&mut self) -> Result<Option<cudarc::driver::CudaGraph>, DriverError> {
        self.open = false;
        let ended = self.stream.end_capture(CUgraphInstantiate_flags(0));
        if ended.is_err() {
            // An earlier error that the context had kept is reported in place of the call: without it the stream would
            // record for ever. If the call was made, this one changes nothing.
            let _ended_already = self.stream.end_capture(CUgraphInstantiate_flags(0));
        }
        ended
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if self.open {
            // The work failed and its error is on its way; the half-recorded graph is of no use.
            let _abandoned = self.end();
        }
    }
}

impl CudaDevice {
    /// Records what `work` gives to the stream, without running it. Other threads wait meanwhile.
    ///
    /// # Errors
    /// Those of `work`; [`KernelError::Driver`]; [`KernelError::Unsupported`] inside another recording.
    pub(crate) fn record<E: From<KernelError>>(
        &self,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<CudaGraph, E> {
        const OP: &str = "Device::record";
        self.refuse_while_recording(OP, "another recording")?;
        let recording = self.start_recording();
        let stream = self.stream(OP)?;
        let failed = |error| E::from(self.error(OP, error));
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(failed)?;
        let mut capture = Capture { stream: &stream, open: true };
        work()?;
        let graph = capture.end().map_err(failed)?;
        let graph = graph.ok_or_else(|| {
            E::from(KernelError::Unsupported {
                op: OP,
                device: format!("cuda:{}", self.ordinal()),
                what: "a recording of this work".to_string(),
                remedy: "run it without a recording",
            })
        })?;
        let graph = Mutex::new(Handle(graph));
        let (memory, scratch) = (recording.take_kept(), recording.take_scratch());
        Ok(CudaGraph { device: self.clone(), graph, _memory: memory, scratch })
    }
}

impl Drop for CudaGraph {
    fn drop(&mut self) {
        // What the graph was launched for comes before all that is given to the stream from now on.
        self.device.give_pool(&self.scratch);
    }
}

impl CudaGraph {
    pub(crate) fn launch(&self) -> Result<(), KernelError> {
        const OP: &str = "Graph::launch";
        self.device.refuse_while_recording(OP, "launches of a graph")?;
        let _stream = self.device.stream(OP)?;
        // Launching does not change the handle, so a panic of another thread leaves it usable.
        let graph = self.graph.lock().unwrap_or_else(PoisonError::into_inner);
        graph.0.launch().map_err(|error| self.device.error(OP, error))
    }
}
