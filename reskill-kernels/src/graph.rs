//! Work recorded once and given to the device again in one call.

#[cfg(feature = "cuda")]
use crate::cuda::CudaGraph;
use crate::device::Device;
use crate::error::KernelError;

/// Recorded work of a device. A launch reads and writes the memory of the tensors that the recorded operations were given,
/// with what it holds then. The graph keeps that memory alive. A tensor that has since been given other memory (by
/// [`crate::Tensor::set_rows`] beyond what it had, or [`crate::Tensor::shrink`]) no longer takes part.
#[derive(Debug)]
pub struct Graph {
    #[cfg(feature = "cuda")]
    inner: CudaGraph,
    /// No value exists without a back end that can record.
    #[cfg(not(feature = "cuda"))]
    never: std::convert::Infallible,
}

impl Graph {
    /// Runs the recorded work, after all work given to the device before.
    ///
    /// # Errors
    /// [`KernelError::Driver`].
    pub fn launch(&self) -> Result<(), KernelError> {
        #[cfg(feature = "cuda")]
        return self.inner.launch();
        #[cfg(not(feature = "cuda"))]
        match self.never {}
    }
}

impl Device {
    /// Whether [`Device::record`] can record.
    #[must_use]
    pub fn can_record(&self) -> bool {
        !self.is_cpu()
    }

    /// Records the operations of `work` without running them. They must have run once before, so that kernels are loaded
    /// and scratch memory is there; and they must neither take memory nor copy to or from the host.
    ///
    /// # Errors
    /// Those of `work`; [`KernelError::Unsupported`] on the CPU; [`KernelError::Driver`].
    pub fn record<E: From<KernelError>>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<Graph, E> {
        match self {
            Device::Cpu => {
                drop(work);
                Err(E::from(KernelError::Unsupported {
                    op: "Device::record",
                    device: "cpu".to_string(),
                    what: "recorded work".to_string(),
                    remedy: "run the operations themselves",
                }))
            }
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => Ok(Graph { inner: cuda.record(work)? }),
        }
    }
}
