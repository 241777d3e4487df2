//! The stand-in library: where it lies, and loading it in place of the driver.

use std::ffi::{c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use reskill_kernels::Device;

/// The folder of the stand-in's `libcuda.so` and `libcuda.so.1`; a program started with it in `LD_LIBRARY_PATH` runs on
/// the stand-in.
///
/// `RESKILL_SIMT_LIBRARY_DIR` names another one, as scripts do that try wrong kernels.
#[must_use]
pub fn library_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        std::env::var_os("RESKILL_SIMT_LIBRARY_DIR")
            .map_or_else(|| PathBuf::from(env!("RESKILL_SIMT_DIR")), PathBuf::from)
    })
}

/// Whether tests run on the stand-in; not so with `RESKILL_GPU_TESTS=1`.
#[must_use]
pub fn is_stand_in() -> bool {
    !std::env::var("RESKILL_GPU_TESTS").is_ok_and(|value| value == "1")
}

/// Makes the stand-in the driver of this process, unless tests run on a real one. Call it before anything of CUDA.
///
/// # Panics
/// If the library cannot be loaded.
pub fn load() {
    if is_stand_in() {
        stand_in();
    }
}

/// The first CUDA device: of the stand-in, or with `RESKILL_GPU_TESTS=1` the machine's. It keeps no memory of tensors that
/// are gone, so that each new one is fresh and ends where its memory ends.
///
/// # Panics
/// If there is none: a test that cannot run has failed.
#[must_use]
pub fn device() -> Device {
    /// A device's context takes long to open: on a machine's own device it stays open for all tests of the process.
    static KEPT: OnceLock<Device> = OnceLock::new();
    load();
    let open = || {
        let device = Device::cuda(0).unwrap_or_else(|error| panic!("tests of CUDA need a device: {error}"));
        if let Device::Cuda(device) = &device {
            device.keep_memory(0);
        }
        device
    };
    if is_stand_in() { open() } else { KEPT.get_or_init(open).clone() }
}

/// Gives the stand-in's device this much memory in bytes, for the whole process; 0 puts back the default.
/// No effect on a real device.
pub fn set_memory(bytes: usize) {
    if let Some(functions) = functions() {
        // SAFETY: the signature is that of `reskill_simt_set_memory(size_t)`; it takes a lock and sets a number.
        unsafe { (functions.set_memory)(bytes) };
    }
}

/// Gives the stand-in's devices this compute capability (80, 86, 89 or 90), for the whole process and before a device is opened.
/// No effect on a real device.
pub fn set_capability(capability: i32) {
    if let Some(functions) = functions() {
        // SAFETY: the signature is that of `reskill_simt_set_capability(int)`; it sets a number.
        unsafe { (functions.set_capability)(capability) };
    }
}

/// Gives the stand-in's devices this many multiprocessors, for the whole process and before a device is opened; 0 puts back the
/// default. No effect on a real device.
pub fn set_multiprocessors(n: i32) {
    if let Some(functions) = functions() {
        // SAFETY: the signature is that of `reskill_simt_set_multiprocessors(int)`; it sets a number.
        unsafe { (functions.set_multiprocessors)(n) };
    }
}

/// Hears of one kernel: context, name, whether it is shared memory, four sums.
pub(crate) type Found = unsafe extern "C" fn(*mut c_void, *const c_char, c_int, *const u64);

/// The stand-in's own entry points.
pub(crate) struct Functions {
    pub(crate) set_order: unsafe extern "C" fn(i32, u64),
    pub(crate) take_counters: unsafe extern "C" fn(*mut c_void),
    pub(crate) take_requests: unsafe extern "C" fn(*mut c_void, Found),
    set_memory: unsafe extern "C" fn(usize),
    set_capability: unsafe extern "C" fn(i32),
    set_multiprocessors: unsafe extern "C" fn(i32),
}

/// The stand-in's entry points, or `None` on a real driver.
pub(crate) fn functions() -> Option<&'static Functions> {
    is_stand_in().then(stand_in)
}

fn stand_in() -> &'static Functions {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    FUNCTIONS.get_or_init(|| {
        let path = library_dir().join("libcuda.so");
        let blas = library_dir().join("libcublasLt.so");
        // SAFETY: the library is the one that this crate's build made; its initialisers only fill the table of kernels.
        let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) }
            .unwrap_or_else(|error| panic!("{} cannot be loaded: {error}", path.display()));
        // SAFETY: the types are those of the definitions in runtime/order.cpp and driver/. The pointers stay valid:
        // the library is never unloaded.
        let functions = unsafe {
            Functions {
                set_order: entry(&library, b"reskill_simt_set_order\0"),
                take_counters: entry(&library, b"reskill_simt_take_counters\0"),
                take_requests: entry(&library, b"reskill_simt_take_requests\0"),
                set_memory: entry(&library, b"reskill_simt_set_memory\0"),
                set_capability: entry(&library, b"reskill_simt_set_capability\0"),
                set_multiprocessors: entry(&library, b"reskill_simt_set_multiprocessors\0"),
            }
        };
        std::mem::forget(library);
        // SAFETY: as above; it finds the driver's entry points, which are loaded by now.
        let blas = unsafe { Library::open(Some(&blas), RTLD_NOW | RTLD_GLOBAL) }
            .unwrap_or_else(|error| panic!("{} cannot be loaded: {error}", blas.display()));
        std::mem::forget(blas);
        functions
    })
}

/// The entry point of this name.
///
/// # Safety
/// `F` is the type of its definition, and the library stays loaded as long as the result is used.
unsafe fn entry<F: Copy>(library: &Library, name: &[u8]) -> F {
    // SAFETY: as the caller promises.
    match unsafe { library.get::<F>(name) } {
        Ok(symbol) => *symbol,
        Err(error) => panic!("the stand-in lacks an entry point: {error}"),
    }
}
