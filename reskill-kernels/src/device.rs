//! Where a tensor lives.

use std::fmt;

#[cfg(feature = "cuda")]
use crate::cuda::CudaDevice;
use crate::dtype::DType;
use crate::error::KernelError;

/// A device, chosen at run time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Device {
    /// The processor this program runs on.
    Cpu,
    /// A CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(CudaDevice),
}

/// What a record of a measurement says about a CUDA device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// NVIDIA's name of it.
    pub name: String,
    /// Compute capability, as (9, 0).
    pub capability: (u32, u32),
    /// Streaming multiprocessors.
    pub multiprocessors: usize,
    /// The version of CUDA that the driver is for, as (13, 0).
    pub driver: (u32, u32),
}

impl Device {
    /// The CUDA device with this ordinal, for numbers in f32. All handles of one ordinal share one context and stream.
    ///
    /// # Errors
    /// [`KernelError::CudaNotCompiled`] without the feature `cuda`; [`KernelError::NoDriver`], [`KernelError::NoDevice`]
    /// or [`KernelError::Driver`].
    pub fn cuda(ordinal: usize) -> Result<Device, KernelError> {
        #[cfg(feature = "cuda")]
        return Ok(Device::Cuda(CudaDevice::new(ordinal)?));
        #[cfg(not(feature = "cuda"))]
        Err(KernelError::CudaNotCompiled { ordinal })
    }

    /// The device of this name: `cpu`, `cuda` (the first) or `cuda:N`.
    ///
    /// # Errors
    /// [`KernelError::DeviceName`]; as [`Device::cuda`].
    pub fn parse(name: &str) -> Result<Device, KernelError> {
        let unknown = || KernelError::DeviceName { name: name.to_string() };
        match name {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Device::cuda(0),
            _ => {
                let ordinal = name.strip_prefix("cuda:").ok_or_else(unknown)?;
                Device::cuda(ordinal.parse().map_err(|_| unknown())?)
            }
        }
    }

    /// The same device, with `precision` as the type in which weights and activations are stored.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for anything but f32 on the CPU, and but f32 and bf16 elsewhere.
    pub fn with_precision(self, precision: DType) -> Result<Device, KernelError> {
        let offered = match &self {
            Device::Cpu => precision == DType::F32,
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => matches!(precision, DType::F32 | DType::Bf16),
        };
        if !offered {
            return Err(KernelError::Unsupported {
                op: "Device::with_precision",
                device: self.to_string(),
                what: format!("weights and activations in {precision}"),
                remedy: "use f32",
            });
        }
        Ok(match self {
            Device::Cpu => Device::Cpu,
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => Device::Cuda(device.with_precision(precision)),
        })
    }

    /// The type in which weights and activations are stored: f32 on the CPU.
    #[must_use]
    pub fn precision(&self) -> DType {
        match self {
            Device::Cpu => DType::F32,
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => device.precision(),
        }
    }

    /// Whether this is the processor.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        matches!(self, Device::Cpu)
    }

    /// Waits until all work given to the device is done, and reports what failed meanwhile.
    ///
    /// # Errors
    /// [`KernelError::Driver`].
    pub fn synchronize(&self) -> Result<(), KernelError> {
        match self {
            Device::Cpu => Ok(()),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => device.synchronize(),
        }
    }

    /// Bytes of memory that new tensors can have, those that this process keeps for them included; `None` on the CPU, whose
    /// memory belongs to the system.
    ///
    /// # Errors
    /// [`KernelError::Driver`].
    pub fn free_memory(&self) -> Result<Option<u64>, KernelError> {
        match self {
            Device::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => Ok(Some(device.memory()?.0 as u64)),
        }
    }

    /// What a record of a measurement says about a CUDA device; `None` on the CPU.
    #[must_use]
    pub fn facts(&self) -> Option<DeviceFacts> {
        match self {
            Device::Cpu => None,
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                let properties = device.properties();
                Some(DeviceFacts {
                    name: properties.name.clone(),
                    capability: properties.capability,
                    multiprocessors: properties.multiprocessors,
                    driver: device.driver_version(),
                })
            }
        }
    }

    /// The device in words: name, compute capability, memory, precision.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu => "cpu".to_string(),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => device.describe(),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => write!(f, "cuda:{}", device.ordinal()),
        }
    }
}

/// A tensor as an argument of an operation: its name, where it lies, how it is stored and how it must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Argument<'a> {
    pub(crate) name: &'static str,
    pub(crate) device: &'a Device,
    pub(crate) got: DType,
    pub(crate) expected: DType,
}

/// The device on which all of `arguments` lie, each stored as it must be.
pub(crate) fn placed(op: &'static str, arguments: &[Argument<'_>]) -> Result<Device, KernelError> {
    let Some(first) = arguments.first() else { return Ok(Device::Cpu) };
    for argument in arguments {
        let Argument { name: arg, device, got, expected } = *argument;
        if device != first.device {
            let (expected, got) = (first.device.to_string(), device.to_string());
            return Err(KernelError::Placement { op, arg, expected, got });
        }
        if got != expected {
            return Err(KernelError::DType { op, arg, expected, got });
        }
    }
    Ok(first.device.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_device_are_refused() {
        for name in ["", "gpu", "cuda:", "cuda:x", "cuda:-1"] {
            let message = Device::parse(name).unwrap_err().to_string();
            assert_eq!(message, format!("device `{name}` is not known; expected `cpu`, `cuda` or `cuda:N`"));
        }
        assert_eq!(Device::parse("cpu").unwrap(), Device::Cpu);
    }

    #[test]
    fn the_processor_computes_in_f32_only() {
        assert_eq!(Device::Cpu.with_precision(DType::F32).unwrap(), Device::Cpu);
        assert_eq!(
            Device::Cpu.with_precision(DType::Bf16).unwrap_err().to_string(),
            "Device::with_precision: cpu does not offer weights and activations in bf16; use f32"
        );
    }
}
