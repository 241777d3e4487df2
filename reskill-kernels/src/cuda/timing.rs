//! Time between two events in a device's stream.

use cudarc::driver::{CudaEvent, sys};

use super::device::CudaDevice;
use crate::error::KernelError;

const OP: &str = "Device::seconds";

impl CudaDevice {
    /// Seconds from before to after `work` in the stream; waits for its end.
    pub(crate) fn seconds<E: From<KernelError>>(
        &self,
        work: impl FnOnce() -> Result<(), E>,
    ) -> Result<f64, E> {
        self.refuse_while_recording(OP, "measured time")?;
        let start = self.event()?;
        work()?;
        let end = self.event()?;
        let milliseconds = start.elapsed_ms(&end).map_err(|error| self.error(OP, error))?;
        Ok(f64::from(milliseconds) / 1e3)
    }

    /// An event that is recorded now and keeps its time.
    fn event(&self) -> Result<CudaEvent, KernelError> {
        let stream = self.stream(OP)?;
        let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
        stream.record_event(timed).map_err(|error| self.error(OP, error))
    }
}
