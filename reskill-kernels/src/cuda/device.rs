//! A handle on a CUDA device.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{CudaContext, CudaStream, DriverError};

use super::modules::Modules;
use super::pool::Pool;
use super::stream::Gate;
use super::uploads::Uploads;
use super::{driver, driver_pool, units};
use crate::dtype::DType;
use crate::error::KernelError;
use crate::ops::matmul::cuda::GemmState;

/// A CUDA device: context, stream, loaded kernels, scratch memory. A clone is the same device.
#[derive(Debug, Clone)]
pub struct CudaDevice {
    inner: Arc<Inner>,
    precision: DType,
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    /// NVIDIA's name of it.
    pub name: String,
    /// Compute capability, as (9, 0).
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// Bytes of memory.
    pub total_memory: usize,
    /// Bytes of shared memory that one block can ask for.
    pub shared_memory_per_block: usize,
    /// Bytes of the second-level cache.
    pub l2_cache: usize,
}

/// The one state of a device in this process.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) ordinal: usize,
    pub(super) properties: Properties,
    pub(super) modules: Modules,
    /// Memory of tensors that are gone, for the next ones.
    pub(super) kept: Pool,
    /// Most bytes of it.
    pub(super) keep: AtomicUsize,
    /// Memory for the inside of operations that none of them uses now.
    pub(super) scratch: Pool,
    pub(super) uploads: Mutex<Uploads>,
    pub(super) gate: Gate,
    pub(super) gemm: GemmState,
    pub(super) context: Arc<CudaContext>,
    pub(super) stream: Arc<CudaStream>,
}

/// Devices in use, so that two handles of one ordinal share a stream.
static DEVICES: Mutex<Vec<(usize, Weak<Inner>)>> = Mutex::new(Vec::new());

impl CudaDevice {
    /// The device with this ordinal.
    ///
    /// # Errors
    /// [`KernelError::NoDriver`], [`KernelError::OldDriver`], [`KernelError::NoDevice`], [`KernelError::Driver`].
    pub fn new(ordinal: usize) -> Result<CudaDevice, KernelError> {
        let count = driver::count(ordinal)?;
        if ordinal >= count {
            return Err(KernelError::NoDevice { ordinal, count });
        }
        // A panic while the list was locked leaves it as it was: entries are only added whole.
        let mut devices = DEVICES.lock().unwrap_or_else(PoisonError::into_inner);
        let known = devices.iter().find(|(of, _)| *of == ordinal).and_then(|(_, inner)| inner.upgrade());
        let inner = match known {
            Some(inner) => inner,
            None => {
                let inner = Arc::new(open(ordinal).map_err(|error| KernelError::Driver {
                    op: "CudaDevice::new",
                    device: format!("cuda:{ordinal}"),
                    fault: driver::fault(error),
                })?);
                devices.retain(|(of, _)| *of != ordinal);
                devices.push((ordinal, Arc::downgrade(&inner)));
                inner
            }
        };
        Ok(CudaDevice { inner, precision: DType::F32 })
    }

    /// Number of CUDA devices of this machine.
    ///
    /// # Errors
    /// [`KernelError::NoDriver`], [`KernelError::OldDriver`], [`KernelError::Driver`].
    pub fn count() -> Result<usize, KernelError> {
        driver::count(0)
    }

    /// What each CUDA device of this machine is.
    ///
    /// # Errors
    /// As [`CudaDevice::new`].
    pub fn list() -> Result<Vec<Properties>, KernelError> {
        (0..CudaDevice::count()?).map(|ordinal| Ok(CudaDevice::new(ordinal)?.properties().clone())).collect()
    }

    /// The version of CUDA that the driver is for, as (13, 0).
    #[must_use]
    pub fn driver_version(&self) -> (u32, u32) {
        let version = driver::version();
        (version / 1000, version % 1000 / 10)
    }

    /// Its number, from 0.
    #[must_use]
    pub fn ordinal(&self) -> usize {
        self.inner.ordinal
    }

    /// What it is.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.inner.properties
    }

    /// The type in which weights and activations are stored.
    #[must_use]
    pub fn precision(&self) -> DType {
        self.precision
    }

    /// A handle on the same device with another precision.
    #[must_use]
    pub fn with_precision(&self, precision: DType) -> CudaDevice {
        CudaDevice { inner: Arc::clone(&self.inner), precision }
    }

    /// Bytes of memory that new tensors can have, and of memory in all. What this process keeps for new tensors counts as free
    /// here; for other processes it is not.
    ///
    /// # Errors
    /// [`KernelError::Driver`].
    pub fn memory(&self) -> Result<(usize, usize), KernelError> {
        const OP: &str = "CudaDevice::memory";
        let (free, total) = self.inner.context.mem_get_info().map_err(|error| self.error(OP, error))?;
        Ok((free + self.kept_memory() + driver_pool::idle_bytes(&self.inner.context), total))
    }

    /// Waits until all work given to the device is done, and reports what failed meanwhile.
    ///
    /// # Errors
    /// [`KernelError::Driver`].
    pub fn synchronize(&self) -> Result<(), KernelError> {
        const OP: &str = "CudaDevice::synchronize";
        let stream = self.stream(OP)?;
        self.wait_for(&stream).map_err(|error| self.error(OP, error))
    }

    /// Waits for the stream. What was read from the host's memory is read by then.
    pub(super) fn wait_for(&self, stream: &CudaStream) -> Result<(), DriverError> {
        // Taken before the wait: copies that other threads start meanwhile are kept for the next one.
        let read = std::mem::take(&mut *self.inner.uploads.lock().unwrap_or_else(PoisonError::into_inner));
        stream.synchronize()?;
        drop(read);
        Ok(())
    }

    /// The device in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let Properties { name, capability: (major, minor), total_memory, .. } = self.properties();
        let gib = *total_memory as f64 / f64::from(1 << 30);
        format!(
            "cuda:{} ({name}, compute capability {major}.{minor}, {gib:.1} GiB, {})",
            self.ordinal(),
            self.precision
        )
    }

    /// Where the machine code of a unit (the name of its `.cu` file) comes from in this build: `prebuilt`, `nvcc`, or
    /// `source`, to be compiled by NVRTC. None if there is no such unit.
    #[must_use]
    pub fn code_origin(unit: &str) -> Option<&'static str> {
        units::origin(unit).ok()
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// What it knows of products of matrices.
    pub(crate) fn gemm(&self) -> &GemmState {
        &self.inner.gemm
    }

    /// The error of an operation, in the driver's words.
    pub(crate) fn error(&self, op: &'static str, error: DriverError) -> KernelError {
        KernelError::Driver { op, device: format!("cuda:{}", self.ordinal()), fault: driver::fault(error) }
    }
}

/// Two handles are equal if they are the same device, whatever their precision.
impl PartialEq for CudaDevice {
    fn eq(&self, other: &CudaDevice) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for CudaDevice {}

fn open(ordinal: usize) -> Result<Inner, DriverError> {
    let context = CudaContext::new(ordinal)?;
    // SAFETY: events order the use of memory by several streams. There is one stream a device here, and memory never
    // leaves its device but by copies that are waited for.
    unsafe { context.disable_event_tracking() };
    // Not the default stream: that one cannot be recorded into a graph.
    let stream = context.new_stream()?;
    driver_pool::keep_freed_memory(&context);
    let properties = properties(&context)?;
    let modules = Modules::default();
    let keep = AtomicUsize::new(properties.total_memory / 8);
    Ok(Inner {
        ordinal,
        properties,
        modules,
        kept: Pool::default(),
        keep,
        scratch: Pool::default(),
        uploads: Mutex::default(),
        gate: Gate::default(),
        gemm: GemmState::default(),
        context,
        stream,
    })
}

fn properties(context: &CudaContext) -> Result<Properties, DriverError> {
    let number =
        |attribute| context.attribute(attribute).map(|value| usize::try_from(value).unwrap_or_default());
    let (major, minor) = context.compute_capability()?;
    Ok(Properties {
        name: context.name()?,
        capability: (major.unsigned_abs(), minor.unsigned_abs()),
        multiprocessors: number(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        total_memory: context.total_mem()?,
        shared_memory_per_block: number(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        l2_cache: number(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?,
    })
}
