//! Compiles the simulator, the stand-in driver and every kernel into one `libcuda.so`.
//!
//! Objects are kept by the hash of what they are made from, so a changed kernel costs one compilation. With
//! `RESKILL_SIMT_ASAN=1` everything is built for AddressSanitizer; with feature `trace` kernels report every access.
//! The flags are left beside the library, in `flags`, for scripts that build variants of it.

use std::collections::hash_map::DefaultHasher;
use std::error::Error;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

type BuildResult<T> = Result<T, Box<dyn Error>>;

/// Kernels for one architecture only.
const HOPPER_SUFFIX: &str = "_sm90a.cu";
/// Those of them that use no other instructions than the simulator knows.
const SIMULATED_HOPPER: [&str; 9] = [
    "attention_flash_backward_key_value_sm90a.cu",
    "attention_flash_backward_query_sm90a.cu",
    "attention_flash_cached_sm90a.cu",
    "attention_flash_forward_sm90a.cu",
    "linear_kl_sm90a.cu",
    "linear_logprob_backward_sm90a.cu",
    "linear_logprob_forward_sm90a.cu",
    "linear_sample_sm90a.cu",
    "matmul_sm90a.cu",
];
/// Folders of headers.
const INCLUDES: [&str; 4] = ["shim", "runtime", "driver", "../cuda"];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Line by line: a compiler's report is to be read as it is.
            error.to_string().lines().for_each(|line| println!("cargo::error={line}"));
            ExitCode::FAILURE
        }
    }
}

fn build() -> BuildResult<()> {
    for path in ["shim", "runtime", "driver", "kernels", "../cuda", "../src/ops"] {
        println!("cargo:rerun-if-changed={path}");
    }
    println!("cargo:rerun-if-env-changed=RESKILL_SIMT_ASAN");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let variant = if env::var_os("CARGO_FEATURE_TRACE").is_some() {
        Variant::trace()
    } else if env::var("RESKILL_SIMT_ASAN").is_ok_and(|v| v == "1") {
        Variant::asan()
    } else {
        Variant::plain()
    };
    variant.build(&out.join(variant.name))?;
    println!("cargo:rustc-env=RESKILL_SIMT_DIR={}", out.join(variant.name).display());
    Ok(())
}

/// For kernels in every variant: misaligned accesses call `runtime/alignment.cpp`.
const ALIGNMENT: [&str; 2] = ["-fsanitize=alignment", "-fno-sanitize-recover=alignment"];

/// One library.
struct Variant {
    name: &'static str,
    /// For all sources and the link.
    flags: Vec<&'static str>,
    /// For kernels besides.
    kernel_flags: &'static [&'static str],
}

impl Variant {
    fn plain() -> Variant {
        let mut flags = vec!["-O2", "-g1"];
        if cfg!(target_arch = "x86_64") && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
        {
            flags.push("-march=x86-64-v3");
        }
        Variant { name: "plain", flags, kernel_flags: &[] }
    }

    fn asan() -> Variant {
        let flags = vec!["-O1", "-g", "-fsanitize=address", "-fno-omit-frame-pointer"];
        Variant { name: "asan", flags, kernel_flags: &[] }
    }

    fn trace() -> Variant {
        Variant {
            name: "trace",
            flags: vec!["-O1", "-g1", "-DSIMT_TRACE"],
            // A vector that is read at once stays one access.
            kernel_flags: &["-fsanitize=thread", "-fno-tree-sra"],
        }
    }

    fn build(&self, folder: &Path) -> BuildResult<()> {
        let objects_folder = folder.join("objects");
        fs::create_dir_all(&objects_folder)?;
        let mut flags: Vec<String> = self.flags.iter().map(ToString::to_string).collect();
        let common = "-std=c++17 -fPIC -fvisibility=hidden -fno-strict-aliasing -fno-exceptions -fstack-clash-protection -pthread -DRESKILL_SIMT -Wall \
                      -Wno-unknown-pragmas -Wno-psabi -Wno-unused-function -Wno-unused-variable";
        flags.extend(common.split_whitespace().map(str::to_owned));
        flags.extend(INCLUDES.iter().map(|folder| format!("-I{folder}")));
        fs::write(folder.join("flags"), flags.join(" "))?;
        let kernel_flags = [&ALIGNMENT, self.kernel_flags].concat();
        let headers = headers_hash(&flags, &kernel_flags)?;
        let sources = sources()?;
        let objects = compile_all(&sources, &objects_folder, &flags, &kernel_flags, headers)?;
        remove_others(&objects_folder, &objects)?;
        let (mut blas, driver): (Vec<PathBuf>, Vec<PathBuf>) =
            objects.into_iter().partition(|object| object.to_string_lossy().contains("/cublaslt-"));
        // The first names that cudarc looks for: once loaded, the stand-ins are found before any real library.
        let libcuda = folder.join("libcuda.so");
        link(&libcuda, &driver, &self.flags)?;
        // It gives its work to the driver's streams, and finds the driver beside itself where nobody has loaded it for all.
        blas.push(libcuda);
        link(&folder.join("libcublasLt.so"), &blas, &self.flags)?;
        let other_name = folder.join("libcuda.so.1");
        if !other_name.exists() {
            std::os::unix::fs::symlink("libcuda.so", other_name)?;
        }
        Ok(())
    }
}

/// C++ compiler.
fn compiler() -> Command {
    let mut build = cc::Build::new();
    build.cpp(true).opt_level(2).cargo_metadata(false);
    Command::new(build.get_compiler().path())
}

/// The simulator's own sources, test kernels, and the kernels of all operations.
fn sources() -> BuildResult<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["runtime", "driver", "kernels", "../src/ops"] {
        collect(Path::new(folder), &mut found)?;
    }
    found.retain(|path| {
        let name = path.to_string_lossy();
        let simulated = SIMULATED_HOPPER.iter().any(|known| name.ends_with(known));
        (name.ends_with(".cpp") || name.ends_with(".cu")) && (simulated || !name.ends_with(HOPPER_SUFFIX))
    });
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> BuildResult<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// Headers lie in the include folders and beside the kernels.
fn headers_hash(flags: &[String], kernel_flags: &[&str]) -> BuildResult<u64> {
    let mut files = Vec::new();
    for folder in INCLUDES.iter().chain(&["../src/ops"]) {
        collect(Path::new(folder), &mut files)?;
    }
    files.retain(|path| path.extension().is_some_and(|e| e == "h" || e == "cuh"));
    files.sort();
    let mut hasher = DefaultHasher::new();
    (flags, kernel_flags).hash(&mut hasher);
    for file in files {
        file.hash(&mut hasher);
        fs::read(&file)?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

fn compile_all(
    sources: &[PathBuf],
    folder: &Path,
    flags: &[String],
    kernel_flags: &[&str],
    headers: u64,
) -> BuildResult<Vec<PathBuf>> {
    let mut jobs = Vec::new();
    for source in sources {
        let mut hasher = DefaultHasher::new();
        (headers, source, fs::read(source)?).hash(&mut hasher);
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        jobs.push((source, folder.join(format!("{stem}-{:016x}.o", hasher.finish()))));
    }
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(jobs.len()) {
            scope.spawn(|| {
                while let Some((source, object)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if object.exists() {
                        continue;
                    }
                    let more = if source.extension().is_some_and(|e| e == "cu") { kernel_flags } else { &[] };
                    if let Err(error) = compile(source, object, flags, more)
                        && let Ok(mut failures) = failures.lock()
                    {
                        failures.push(error);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    if failures.is_empty() {
        return Ok(jobs.into_iter().map(|(_, object)| object).collect());
    }
    Err(failures.join("\n").into())
}

fn compile(source: &Path, object: &Path, flags: &[String], more: &[&str]) -> Result<(), String> {
    let unfinished = object.with_extension("tmp");
    let output = compiler()
        .args(flags)
        .args(more)
        .args(["-x", "c++", "-c"])
        .arg(source)
        .arg("-o")
        .arg(&unfinished)
        .output()
        .map_err(|error| format!("the C++ compiler cannot be run: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} does not compile:\n{words}", source.display()));
    }
    for line in words.lines().filter(|line| line.contains("warning:")) {
        println!("cargo:warning={line}");
    }
    fs::rename(&unfinished, object).map_err(|error| format!("{}: {error}", object.display()))
}

/// Objects of older sources.
fn remove_others(folder: &Path, keep: &[PathBuf]) -> BuildResult<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !keep.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn link(library: &Path, objects: &[PathBuf], flags: &[&str]) -> BuildResult<()> {
    let name = library.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = library.with_extension("so.tmp");
    let output = compiler()
        .args(flags)
        .args(["-shared", "-pthread", "-Wl,-Bsymbolic", "-Wl,-rpath,$ORIGIN"])
        .arg(format!("-Wl,-soname,{name}"))
        .args(objects)
        .arg("-o")
        .arg(&unfinished)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    fs::rename(&unfinished, library)?;
    Ok(())
}
