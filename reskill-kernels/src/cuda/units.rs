//! The compiled kernels of each unit, one unit a `.cu` file; see `build.rs` for where their code comes from.

use cudarc::driver::sys;
use cudarc::nvrtc::{self, Ptx};

/// One `.cu` file.
#[derive(Debug)]
struct Unit {
    name: &'static str,
    /// Made for compute capability 9.0 and no other.
    hopper: bool,
    /// CUDA C++ with all headers in it.
    source: &'static str,
    /// A fatbin, if the build had one.
    code: Option<&'static [u8]>,
    /// Where the code comes from: `prebuilt`, `nvcc`, or `source` if NVRTC is to make it.
    origin: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/units/table.rs"));

/// The image of `unit` for a device of this capability, ready for `cuModuleLoadData`. The error says what is missing.
pub(super) fn image(unit: &str, capability: (u32, u32)) -> Result<Ptx, String> {
    let unit = find(unit)?;
    if unit.hopper && capability != (9, 0) {
        let (major, minor) = capability;
        return Err(format!("made for compute capability 9.0, the device has {major}.{minor}"));
    }
    if is_simulator() {
        // The simulator has the kernels compiled in and takes any image.
        return Ok(Ptx::from_binary(unit.source.as_bytes().to_vec()));
    }
    if let Some(code) = unit.code {
        return Ok(Ptx::from_binary(code.to_vec()));
    }
    compile(unit, capability).map(Ptx::from_binary)
}

/// Where the code of a unit comes from: `prebuilt`, `nvcc`, or `source` if NVRTC is to make it.
pub(super) fn origin(unit: &str) -> Result<&'static str, String> {
    find(unit).map(|unit| unit.origin)
}

fn find(name: &str) -> Result<&'static Unit, String> {
    UNITS.iter().find(|unit| unit.name == name).ok_or_else(|| "not part of this build".to_owned())
}

/// Whether the loaded driver is the test stand-in, told by an entry point of its own.
fn is_simulator() -> bool {
    // SAFETY: the symbol is only looked up, never called, so its type does not matter; the driver library is loaded by
    // now, since the caller knows a device of it.
    unsafe { sys::culib().get::<unsafe extern "C" fn()>(b"reskill_simt_set_order\0").is_ok() }
}

/// Machine code of the unit by NVRTC, for this very capability.
fn compile(unit: &Unit, (major, minor): (u32, u32)) -> Result<Vec<u8>, String> {
    // SAFETY: the call looks for a shared library by NVRTC's names; its initialisers have no requirement on the caller.
    if !unsafe { nvrtc::sys::is_culib_present() } {
        return Err(
            "this build has no machine code of it, and libnvrtc is not found; install CUDA's NVRTC (put its \
                    folder into LD_LIBRARY_PATH) or build where scripts/cuda-toolkit was run"
                .to_owned(),
        );
    }
    let architecture = format!("--gpu-architecture=sm_{major}{minor}{}", if unit.hopper { "a" } else { "" });
    let source = std::ffi::CString::new(unit.source).map_err(|error| error.to_string())?;
    let program =
        nvrtc::result::create_program(&source, None).map_err(|error| format!("nvrtc: {error:?}"))?;
    // Of generic lambdas NVRTC does not see by itself, as nvcc does, that they run on the device.
    let options = [architecture.as_str(), "--std=c++17", "--device-as-default-execution-space"];
    // SAFETY: `program` was just created and is destroyed below, after its last use; the options are NVRTC's.
    let code = unsafe { nvrtc::result::compile_program(program, &options) }
        .map_err(|error| format!("nvrtc: {error:?}: {}", log(program)))
        .and_then(|()| cubin(program));
    // SAFETY: as above.
    let _ = unsafe { nvrtc::result::destroy_program(program) };
    code
}

/// What NVRTC said about the program.
fn log(program: nvrtc::sys::nvrtcProgram) -> String {
    // SAFETY: `program` is live (the caller destroys it later).
    let log = unsafe { nvrtc::result::get_program_log(program) }.unwrap_or_default();
    let bytes: Vec<u8> = log.iter().map(|&c| c.cast_unsigned()).take_while(|&c| c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The machine code of a compiled program.
fn cubin(program: nvrtc::sys::nvrtcProgram) -> Result<Vec<u8>, String> {
    let mut bytes = 0;
    // SAFETY: `program` is live, and `bytes` is a live size_t.
    unsafe { nvrtc::sys::nvrtcGetCUBINSize(program, &raw mut bytes) }
        .result()
        .map_err(|error| format!("nvrtc: {error:?}"))?;
    let mut code = vec![0_u8; bytes];
    // SAFETY: `code` has the size that NVRTC asked for.
    unsafe { nvrtc::sys::nvrtcGetCUBIN(program, code.as_mut_ptr().cast()) }
        .result()
        .map_err(|error| format!("nvrtc: {error:?}"))?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_self_contained_and_say_what_they_compute() {
        assert!(!UNITS.is_empty());
        for unit in UNITS {
            assert!(unit.source.contains("EXPORT_KERNEL("), "{} exports no kernel", unit.name);
            let open =
                unit.source.lines().find(|line| line.starts_with("#include") && !line.contains("simt.h"));
            assert_eq!(open, None, "{} includes a file that is not ours", unit.name);
        }
    }

    #[test]
    fn unknown_units_and_other_architectures_are_refused() {
        assert!(image("no_such_unit", (8, 0)).is_err());
        for unit in UNITS.iter().filter(|unit| unit.hopper) {
            assert!(image(unit.name, (8, 0)).unwrap_err().contains("9.0"));
        }
    }

    /// Needs NVRTC, and no device.
    #[cfg(feature = "nvrtc-tests")]
    #[test]
    fn nvrtc_makes_machine_code_of_every_unit() {
        for unit in UNITS {
            let capability = if unit.hopper { (9, 0) } else { (8, 0) };
            let code = compile(unit, capability).unwrap();
            assert_eq!(&code[..4], b"\x7fELF", "{}", unit.name);
        }
        let broken = Unit {
            name: "broken",
            hopper: false,
            source: "__global__ void f() { x = 1; }",
            code: None,
            origin: "source",
        };
        assert!(compile(&broken, (8, 0)).unwrap_err().contains("identifier \"x\" is undefined"));
    }
}
