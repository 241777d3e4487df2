//! How the accesses of kernels fall on sectors of device memory and on banks of shared memory.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};

use crate::library::functions;

/// Sums over the requests of warps: to device memory, in sectors of 32 bytes, or to shared memory, in passes over its banks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Statements that a warp executed.
    pub requests: u64,
    /// Different bytes that each of them asked for.
    pub bytes: u64,
    /// Sectors or passes that they took.
    pub units: u64,
    /// The least of them for as many bytes.
    pub least: u64,
}

impl Requests {
    /// How many times the least they took; 1 if there were none.
    #[must_use]
    pub fn excess(&self) -> f64 {
        if self.least == 0 { 1.0 } else { self.units as f64 / self.least as f64 }
    }
}

/// The requests of one kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KernelRequests {
    /// To device memory: loads, stores and asynchronous copies; no atomics, no tensor copies.
    pub device: Requests,
    /// To shared memory.
    pub shared: Requests,
}

/// Runs `f`; what the kernels that it launches on this thread ask of memory, by name. Empty without feature `trace`, and on a real device.
pub fn count(f: impl FnOnce()) -> BTreeMap<String, KernelRequests> {
    let mut kernels = BTreeMap::new();
    let Some(functions) = functions() else {
        f();
        return kernels;
    };
    let take = |kernels: &mut BTreeMap<String, KernelRequests>| {
        // SAFETY: `found` is called with this context, a name that ends with zero, and four numbers, before the call returns.
        unsafe { (functions.take_requests)(std::ptr::from_mut(kernels).cast(), found) };
    };
    take(&mut kernels);
    kernels.clear();
    f();
    take(&mut kernels);
    kernels
}

/// # Safety
/// `context` is a `BTreeMap<String, KernelRequests>` that nobody else uses, `kernel` a string that ends with zero, `sums` four
/// numbers in the order of [`Requests`].
unsafe extern "C" fn found(context: *mut c_void, kernel: *const c_char, shared: c_int, sums: *const u64) {
    // SAFETY: as the caller promises.
    let (kernels, kernel, sums) = unsafe {
        let kernels = &mut *context.cast::<BTreeMap<String, KernelRequests>>();
        (kernels, CStr::from_ptr(kernel), std::slice::from_raw_parts(sums, 4))
    };
    let entry = kernels.entry(kernel.to_string_lossy().into_owned()).or_default();
    let requests = Requests { requests: sums[0], bytes: sums[1], units: sums[2], least: sums[3] };
    *(if shared == 0 { &mut entry.device } else { &mut entry.shared }) = requests;
}
