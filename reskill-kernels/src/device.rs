//! Where a tensor lives.

use std::fmt;

use crate::error::KernelError;

/// A device, chosen at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor this program runs on.
    Cpu,
}

impl Device {
    /// The CUDA device with this ordinal.
    ///
    /// # Errors
    /// [`KernelError::CudaNotCompiled`]: this version has no CUDA back end.
    pub fn cuda(ordinal: usize) -> Result<Device, KernelError> {
        Err(KernelError::CudaNotCompiled { ordinal })
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
        }
    }
}
