//! Errors of the kernels: each names the operation and the argument at fault.

use crate::dtype::DType;

/// What an operation refuses, or what a device could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A tensor has the wrong shape.
    #[error("{op}: `{arg}` has shape {got:?}, expected {expected:?}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The argument.
        arg: &'static str,
        /// The shape it must have.
        expected: Vec<usize>,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// An argument is out of its range.
    #[error("{op}: `{arg}` = {got}, expected {expected}")]
    Range {
        /// The operation.
        op: &'static str,
        /// The argument.
        arg: &'static str,
        /// The value found.
        got: String,
        /// The values allowed.
        expected: String,
    },
    /// A tensor is stored in another type than the operation takes.
    #[error("{op}: `{arg}` is stored as {got}, expected {expected}")]
    DType {
        /// The operation.
        op: &'static str,
        /// The argument.
        arg: &'static str,
        /// The type it must have.
        expected: DType,
        /// The type it has.
        got: DType,
    },
    /// A tensor lies on another device than the rest.
    #[error("{op}: `{arg}` is on {got}, expected {expected}; copy it with `Tensor::to_device`")]
    Placement {
        /// The operation.
        op: &'static str,
        /// The argument.
        arg: &'static str,
        /// The device of the other arguments.
        expected: String,
        /// The device it is on.
        got: String,
    },
    /// A device cannot do what was asked.
    #[error("{op}: {device} does not offer {what}; {remedy}")]
    Unsupported {
        /// The operation.
        op: &'static str,
        /// The device, as `cuda:0`.
        device: String,
        /// What is missing.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The name of a device cannot be read.
    #[error("device `{name}` is not known; expected `cpu`, `cuda` or `cuda:N`")]
    DeviceName {
        /// The name given.
        name: String,
    },
    /// This build has no CUDA back end.
    #[error("cuda:{ordinal}: this build has no CUDA back end; build with feature `cuda` or use device `cpu`")]
    CudaNotCompiled {
        /// The device asked for.
        ordinal: usize,
    },
    /// The CUDA driver library is missing.
    #[error(
        "cuda:{ordinal}: no CUDA driver (libcuda) on this machine; install NVIDIA's driver or use device `cpu`"
    )]
    NoDriver {
        /// The device asked for.
        ordinal: usize,
    },
    /// The driver is older than the kernels' compiler.
    #[error(
        "cuda:{ordinal}: the driver is for CUDA {major}.{minor}, the kernels need 13.0; install driver 580 or newer, or use \
         device `cpu`"
    )]
    OldDriver {
        /// The device asked for.
        ordinal: usize,
        /// Version of CUDA that the driver is for.
        major: u32,
        /// The same, after the point.
        minor: u32,
    },
    /// There are fewer devices.
    #[error(
        "cuda:{ordinal}: this machine has {count} CUDA device{}, counted from 0; use one of them or device `cpu`",
        if *count == 1 { "" } else { "s" }
    )]
    NoDevice {
        /// The device asked for.
        ordinal: usize,
        /// Devices found.
        count: usize,
    },
    /// The driver refused a call, or reports the failure of an earlier one.
    #[error("{op}: {device}: the driver reports {fault}")]
    Driver {
        /// The operation that met the error.
        op: &'static str,
        /// The device, as `cuda:0`.
        device: String,
        /// The driver's own words.
        #[source]
        fault: DriverFault,
    },
    /// The device has not enough memory left.
    #[error(
        "{op}: {device} has no room for {bytes} bytes ({free} of {total} are free); use a smaller batch, bf16, an \
         adapter, or recomputation"
    )]
    OutOfDeviceMemory {
        /// The operation that asked.
        op: &'static str,
        /// The device, as `cuda:0`.
        device: String,
        /// Bytes asked for.
        bytes: usize,
        /// Bytes free.
        free: usize,
        /// Bytes in all.
        total: usize,
    },
    /// The kernels of a unit cannot be loaded.
    #[error("kernels of `{unit}` for {device}: {reason}")]
    Kernels {
        /// The unit: the name of its `.cu` file.
        unit: &'static str,
        /// The device, as `cuda:0`.
        device: String,
        /// Why, and what to do.
        reason: String,
    },
}

/// An error of the CUDA driver, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} ({text})")]
pub struct DriverFault {
    /// The name, as `CUDA_ERROR_ILLEGAL_ADDRESS`.
    pub name: String,
    /// The driver's explanation.
    pub text: String,
}

/// `Ok` if `got` equals `expected`.
pub(crate) fn check_shape(
    op: &'static str,
    arg: &'static str,
    got: &[usize],
    expected: &[usize],
) -> Result<(), KernelError> {
    if got == expected {
        return Ok(());
    }
    Err(KernelError::Shape { op, arg, expected: expected.to_vec(), got: got.to_vec() })
}

/// `Ok` if `holds`; else an error that says what was expected of `arg`.
pub(crate) fn check_range(
    holds: bool,
    op: &'static str,
    arg: &'static str,
    got: impl ToString,
    expected: impl ToString,
) -> Result<(), KernelError> {
    if holds {
        return Ok(());
    }
    Err(KernelError::Range { op, arg, got: got.to_string(), expected: expected.to_string() })
}
