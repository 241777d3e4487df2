//! The driver's own pool of memory, out of which it serves allocations in the order of a stream.

use cudarc::driver::sys::CUmemPool_attribute as Attribute;
use cudarc::driver::{CudaContext, result, sys};

/// Lets the driver keep freed memory for the next allocation. By default it gives all back to the system whenever the
/// stream is waited for, and takes it anew.
pub(super) fn keep_freed_memory(context: &CudaContext) {
    let mut keep = u64::MAX;
    // Where the driver does not know pools, allocation is slower and otherwise the same, so its refusal is not an error.
    let _tolerated = of(context).map(|pool| {
        // SAFETY: the pool is that of a live context's device, and the attribute's value a u64 that outlives the call.
        unsafe {
            let attribute = Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
            result::mem_pool::set_attribute(pool, attribute, (&raw mut keep).cast())
        }
    });
}

/// Bytes that the driver keeps and nobody uses; 0 where it does not say.
pub(super) fn idle_bytes(context: &CudaContext) -> usize {
    let Some(pool) = of(context) else { return 0 };
    let bytes = |attribute| -> Option<u64> {
        let mut value = 0_u64;
        // SAFETY: as above.
        unsafe { result::mem_pool::get_attribute(pool, attribute, (&raw mut value).cast()) }.ok()?;
        Some(value)
    };
    let reserved = bytes(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT).unwrap_or(0);
    let used = bytes(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT).unwrap_or(reserved);
    usize::try_from(reserved.saturating_sub(used)).unwrap_or(0)
}

/// The pool of the context's device; `None` where there is none.
fn of(context: &CudaContext) -> Option<sys::CUmemoryPool> {
    // SAFETY: the device is that of a live context.
    let pool = || unsafe { result::device::get_default_mem_pool(context.cu_device()) };
    context.has_async_alloc().then(pool).and_then(Result::ok)
}
