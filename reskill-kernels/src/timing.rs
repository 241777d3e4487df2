//! How long work takes on a device.

use std::time::Instant;

use crate::device::Device;
use crate::error::KernelError;

impl Device {
    /// Seconds that `work` takes: by the clock on the CPU; on a CUDA device between two events in its stream, so that
    /// neither the call's way to the device nor the waiting for its end counts, as long as the device does not run dry.
    ///
    /// # Errors
    /// Those of `work`; [`KernelError::Driver`]; [`KernelError::Unsupported`] while a graph is recorded.
    pub fn seconds<E: From<KernelError>>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
        match self {
            Device::Cpu => {
                let start = Instant::now();
                work()?;
                Ok(start.elapsed().as_secs_f64())
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => cuda.seconds(work),
        }
    }
}
