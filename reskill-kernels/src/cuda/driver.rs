//! The driver library: whether it is there, how many devices it sees, and what its errors say.

use cudarc::driver::{DriverError, result, sys};

use crate::error::{DriverFault, KernelError};

/// The oldest version of the driver's interface that loads what CUDA 13.0 compiles.
const OLDEST: u32 = 13_000;

/// Number of CUDA devices. `ordinal` is the device asked for, to be named in an error.
///
/// cudarc panics when a function is called and the library is missing, so this is the door to all others.
pub(super) fn count(ordinal: usize) -> Result<usize, KernelError> {
    // SAFETY: the call looks for a shared library by the driver's names; loading NVIDIA's driver (or the test
    // stand-in) runs its initialisers only, which have no requirement on the caller.
    if !unsafe { sys::is_culib_present() } {
        return Err(KernelError::NoDriver { ordinal });
    }
    let version = version();
    if version < OLDEST {
        return Err(KernelError::OldDriver { ordinal, major: version / 1000, minor: version % 1000 / 10 });
    }
    match result::init().and_then(|()| result::device::get_count()) {
        Ok(count) => Ok(usize::try_from(count).unwrap_or(0)),
        Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => Ok(0),
        Err(error) => {
            Err(KernelError::Driver { op: "cuInit", device: format!("cuda:{ordinal}"), fault: fault(error) })
        }
    }
}

/// The version of CUDA that the driver is for, as 13000 for 13.0; 0 if it does not say. The library is known to be there.
pub(super) fn version() -> u32 {
    let mut version = 0;
    // SAFETY: the library is present (the caller's promise, kept by `count` being the door), and the pointer is to a live
    // number; the call needs no initialisation.
    let answer = unsafe { sys::cuDriverGetVersion(&raw mut version) };
    if answer == sys::CUresult::CUDA_SUCCESS { u32::try_from(version).unwrap_or(0) } else { 0 }
}

/// The driver's words for an error.
pub(super) fn fault(error: DriverError) -> DriverFault {
    let text = |words: Result<&std::ffi::CStr, DriverError>| {
        words.map_or_else(|_| format!("{:?}", error.0), |words| words.to_string_lossy().into_owned())
    };
    DriverFault { name: text(error.error_name()), text: text(error.error_string()) }
}
