//! The driver library: whether it is there, how many devices it sees, and what its errors say.

use cudarc::driver::{DriverError, result, sys};

use crate::error::{DriverFault, KernelError};

/// Number of CUDA devices. `ordinal` is the device asked for, to be named in an error.
///
/// cudarc panics when a function is called and the library is missing, so this is the door to all others.
pub(super) fn count(ordinal: usize) -> Result<usize, KernelError> {
    // SAFETY: the call looks for a shared library by the driver's names; loading NVIDIA's driver (or the test
    // stand-in) runs its initialisers only, which have no requirement on the caller.
    if !unsafe { sys::is_culib_present() } {
        return Err(KernelError::NoDriver { ordinal });
    }
    match result::init().and_then(|()| result::device::get_count()) {
        Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Ok(0),
        Err(error) => {
            Err(KernelError::Driver { op: "cuInit", device: format!("cuda:{ordinal}"), fault: fault(error) })
        }
    }
}

/// The newest CUDA that the driver knows: major and minor version.
pub(super) fn version() -> Result<(u32, u32), KernelError> {
    count(0)?;
    let mut version = 0;
    // SAFETY: the library is there (`count` looked for it), and the call writes one int, which outlives it.
    let said = unsafe { sys::cuDriverGetVersion(&raw mut version) }.result();
    said.map_err(|error| KernelError::Driver {
        op: "cuDriverGetVersion",
        device: "cuda:0".to_string(),
        fault: fault(error),
    })?;
    let version = version.unsigned_abs();
    Ok((version / 1000, version % 1000 / 10))
}

/// The driver's words for an error.
pub(super) fn fault(error: DriverError) -> DriverFault {
    let text = |words: Result<&std::ffi::CStr, DriverError>| {
        words.map_or_else(|_| format!("{:?}", error.0), |words| words.to_string_lossy().into_owned())
    };
    DriverFault { name: text(error.error_name()), text: text(error.error_string()) }
}
