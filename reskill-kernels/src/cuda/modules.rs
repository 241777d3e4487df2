//! Kernels by name: a unit is loaded when its first kernel is launched.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::CUfunction_attribute_enum as FunctionAttribute;
use cudarc::driver::{CudaFunction, CudaModule, DriverError};

use super::device::CudaDevice;
use super::{driver, units};
use crate::error::KernelError;

/// Dynamic shared memory that every kernel gets without asking: of 48 KiB, what its own variables leave.
const SHARED_WITHOUT_ASKING: usize = 32 << 10;

/// The file that gets a line `unit kernel` for each kernel that a process uses, so that a check of kernels on a device can
/// say which it was that ran.
const USED: &str = "RESKILL_CUDA_KERNELS";

/// Loaded units, and the kernels that were looked up in them.
#[derive(Debug, Default)]
pub(super) struct Modules {
    loaded: Mutex<HashMap<&'static str, Arc<CudaModule>>>,
    kernels: Mutex<HashMap<(&'static str, &'static str), Kernel>>,
}

#[derive(Debug, Clone)]
struct Kernel {
    function: CudaFunction,
    /// Dynamic shared memory it may use.
    shared: usize,
}

impl CudaDevice {
    /// The kernel of this name, allowed to use `shared` bytes of dynamic shared memory.
    pub(super) fn function(
        &self,
        unit: &'static str,
        name: &'static str,
        shared: usize,
    ) -> Result<CudaFunction, KernelError> {
        // Each entry is added whole, so a panic of another thread leaves the tables usable.
        let kernels = || self.inner().modules.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kernels().get(&(unit, name)).map(|kernel| (kernel.function.clone(), kernel.shared));
        let function = match known {
            Some((function, allowed)) if shared <= allowed => return Ok(function),
            Some((function, _)) => function,
            // Without the table: loading waits for the stream, and who records on it may wait for the table.
            None => self.load(unit, name)?,
        };
        let mut kernels = kernels();
        let allowed = kernels.get(&(unit, name)).map_or(SHARED_WITHOUT_ASKING, |kernel| kernel.shared);
        if shared > allowed {
            let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function
                .set_attribute(attribute, i32::try_from(shared).unwrap_or(i32::MAX))
                .map_err(|error| self.kernel_fault(unit, name, error))?;
        }
        kernels.insert((unit, name), Kernel { function: function.clone(), shared: allowed.max(shared) });
        Ok(function)
    }

    fn load(&self, unit: &'static str, name: &'static str) -> Result<CudaFunction, KernelError> {
        let function =
            self.module(unit)?.load_function(name).map_err(|error| self.kernel_fault(unit, name, error))?;
        if let Some(path) = std::env::var_os(USED) {
            // A note for whoever asked for it; that it cannot be written is no reason to stop.
            let file = OpenOptions::new().create(true).append(true).open(path);
            let _written = file.and_then(|mut file| file.write_all(format!("{unit} {name}\n").as_bytes()));
        }
        Ok(function)
    }

    fn kernel_fault(&self, unit: &'static str, name: &str, error: DriverError) -> KernelError {
        KernelError::Kernels {
            unit,
            device: format!("cuda:{}", self.ordinal()),
            reason: format!("`{name}`: {}", driver::fault(error)),
        }
    }

    /// The unit, loaded.
    fn module(&self, unit: &'static str) -> Result<Arc<CudaModule>, KernelError> {
        let loaded = || self.inner().modules.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded().get(unit) {
            return Ok(Arc::clone(module));
        }
        self.refuse_while_recording("cuModuleLoadData", "loading kernels")?;
        // First the stream, then the table: waits while another thread records, since loading may synchronise.
        let stream = self.stream("cuModuleLoadData")?;
        let mut loaded = loaded();
        if let Some(module) = loaded.get(unit) {
            return Ok(Arc::clone(module));
        }
        let device = format!("cuda:{}", self.ordinal());
        let image = units::image(unit, self.properties().capability)
            .map_err(|reason| KernelError::Kernels { unit, device: device.clone(), reason })?;
        let module = stream.context().load_module(image).map_err(|error| KernelError::Kernels {
            unit,
            device,
            reason: driver::fault(error).to_string(),
        })?;
        loaded.insert(unit, Arc::clone(&module));
        Ok(module)
    }
}
