//! Kernels by name: a unit is loaded when its first kernel is launched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::sys::CUfunction_attribute_enum as FunctionAttribute;
use cudarc::driver::{CudaFunction, CudaModule};

use super::device::CudaDevice;
use super::{driver, units};
use crate::error::KernelError;

/// Dynamic shared memory that a kernel gets without asking.
const SHARED_WITHOUT_ASKING: usize = 48 << 10;

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
        let mut kernels = self.inner().modules.kernels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = kernels.get(&(unit, name))
            && shared <= kernel.shared
        {
            return Ok(kernel.function.clone());
        }
        let failed = |error| KernelError::Kernels {
            unit,
            device: format!("cuda:{}", self.ordinal()),
            reason: format!("`{name}`: {}", driver::fault(error)),
        };
        let function = match kernels.get(&(unit, name)) {
            Some(kernel) => kernel.function.clone(),
            None => self.module(unit)?.load_function(name).map_err(failed)?,
        };
        let allowed = shared.max(SHARED_WITHOUT_ASKING);
        if shared > SHARED_WITHOUT_ASKING {
            let attribute = FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            function.set_attribute(attribute, i32::try_from(shared).unwrap_or(i32::MAX)).map_err(failed)?;
        }
        kernels.insert((unit, name), Kernel { function: function.clone(), shared: allowed });
        Ok(function)
    }

    /// The unit, loaded.
    fn module(&self, unit: &'static str) -> Result<Arc<CudaModule>, KernelError> {
        let mut loaded = self.inner().modules.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = loaded.get(unit) {
            return Ok(Arc::clone(module));
        }
        self.refuse_while_recording("cuModuleLoadData", "loading kernels")?;
        let device = format!("cuda:{}", self.ordinal());
        let image = units::image(unit, self.properties().capability)
            .map_err(|reason| KernelError::Kernels { unit, device: device.clone(), reason })?;
        // Waits while another thread records: loading may synchronise.
        let stream = self.stream("cuModuleLoadData")?;
        let module = stream.context().load_module(image).map_err(|error| KernelError::Kernels {
            unit,
            device,
            reason: driver::fault(error).to_string(),
        })?;
        loaded.insert(unit, Arc::clone(&module));
        Ok(module)
    }
}
