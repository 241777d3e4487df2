//! What launches and copies did: matrix instructions, and in the tracing build the bytes touched.

use crate::library::functions;

/// Sums over launches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Kernel launches.
    pub launches: u64,
    /// Multiply-adds of tensor-core instructions.
    pub multiply_adds: u64,
    /// Unique bytes of device memory that a launch read, summed over launches; 0 without feature `trace`.
    pub read_bytes: u64,
    /// Unique bytes of device memory that a launch wrote, summed over launches; 0 without feature `trace`.
    pub written_bytes: u64,
    /// Copies from device to host that moved something: each waits for the device.
    pub downloads: u64,
    /// Pieces of device memory taken from the driver.
    pub allocations: u64,
}

/// Runs `f`; what the calling thread's launches and copies did meanwhile, or `None` on a real device.
pub fn count(f: impl FnOnce()) -> Option<Counters> {
    let Some(functions) = functions() else {
        f();
        return None;
    };
    let mut counters = Counters::default();
    let take = |counters: &mut Counters| {
        // SAFETY: `Counters` has the layout of the C++ struct of that name: six u64.
        unsafe { (functions.take_counters)(std::ptr::from_mut(counters).cast()) };
    };
    take(&mut counters);
    f();
    take(&mut counters);
    Some(counters)
}
