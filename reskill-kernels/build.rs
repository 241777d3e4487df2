//! Makes the machine code of the CUDA kernels part of the library (feature `cuda`).
//!
//! Every `src/ops/**/*.cu` is a unit, named after its file; a unit whose name ends in `_sm90a` uses instructions of
//! compute capability 9.0 only. Of each unit the source with its headers goes in, and machine code where there is some:
//!
//! 1. `prebuilt/<unit>.fatbin`, if its stamp says that it was made from this very source with these very flags;
//! 2. else what nvcc makes of it, if there is one: `$NVCC`, `$RESKILL_CUDA_TOOLKIT`, `$CUDA_HOME`, `$CUDA_PATH`, `$PATH`;
//! 3. else none: NVRTC compiles the source when the unit is first used.
//!
//! With `RESKILL_CUDA_COMPILE_TO=FOLDER` nvcc is required and used for all units, and code, stamps and ptxas' reports are
//! left in that folder (`scripts/cuda-build`).

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

type BuildResult<T> = Result<T, Box<dyn Error>>;

/// Machine code for the chips that kernels are tuned for, and PTX of the oldest as the way to newer ones.
const PORTABLE: &[&str] =
    &["arch=compute_80,code=sm_80", "arch=compute_90,code=sm_90", "arch=compute_80,code=compute_80"];
/// wgmma and TMA: not compatible with later chips by design.
const HOPPER: &[&str] = &["arch=compute_90a,code=sm_90a"];
/// The smallest binaries, for they are checked in. Spills are reported by ptxas; no line tables, so that two builds give the same bytes.
const FLAGS: &[&str] =
    &["-std=c++17", "-O3", "-fatbin", "-compress-mode=size", "-Xptxas", "-v", "-Xptxas", "-warn-spills"];
/// Headers of all operations.
const HEADERS: &str = "cuda";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Not by `?`: a compiler's report is to be read as it is.
            #[expect(clippy::print_stderr, reason = "that is how a build script speaks")]
            {
                eprintln!("{error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> BuildResult<()> {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    for path in ["src/ops", HEADERS, "prebuilt"] {
        println!("cargo:rerun-if-changed={path}");
    }
    for variable in ["NVCC", "RESKILL_CUDA_TOOLKIT", "CUDA_HOME", "CUDA_PATH", "RESKILL_CUDA_COMPILE_TO"] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let out = PathBuf::from(env::var("OUT_DIR")?).join("units");
    fs::create_dir_all(&out)?;
    let mut units = units(&out)?;
    match env::var_os("RESKILL_CUDA_COMPILE_TO").map(PathBuf::from) {
        Some(folder) => {
            let nvcc = nvcc().ok_or(
                "RESKILL_CUDA_COMPILE_TO is set, and there is no nvcc: scripts/cuda-toolkit installs it",
            )?;
            fs::create_dir_all(&folder)?;
            compile(&nvcc, &folder.canonicalize()?, &mut units, true)?;
        }
        None => {
            units.iter_mut().for_each(Unit::take_prebuilt);
            if let Some(nvcc) = nvcc() {
                compile(&nvcc, &out, &mut units, false)?;
            }
        }
    }
    fs::write(out.join("table.rs"), table(&units)?)?;
    Ok(())
}

/// One `.cu` file.
struct Unit {
    name: String,
    /// Of its source, headers included.
    source: PathBuf,
    stamp: String,
    fatbin: Option<PathBuf>,
}

impl Unit {
    fn is_hopper(&self) -> bool {
        self.name.ends_with("_sm90a")
    }

    fn targets(&self) -> &'static [&'static str] {
        if self.is_hopper() { HOPPER } else { PORTABLE }
    }

    fn take_prebuilt(&mut self) {
        let file = Path::new("prebuilt").join(format!("{}.fatbin", self.name));
        let stamp = fs::read_to_string(file.with_extension("stamp")).unwrap_or_default();
        if let (true, Ok(file)) = (stamp.trim() == self.stamp, file.canonicalize()) {
            self.fatbin = Some(file);
        }
    }
}

/// All units, by name; their sources are written to `out`.
fn units(out: &Path) -> BuildResult<Vec<Unit>> {
    let mut files = Vec::new();
    collect(Path::new("src/ops"), &mut files)?;
    let mut units: Vec<Unit> = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(other) = units.iter().find(|unit| unit.name == name) {
            return Err(format!("{}: a unit `{}` exists already", file.display(), other.name).into());
        }
        let mut text = String::new();
        flatten(&file, &mut BTreeSet::new(), &mut text)?;
        let source = out.join(format!("{name}.cu"));
        write_if_changed(&source, &text)?;
        let mut unit = Unit { name, source, stamp: String::new(), fatbin: None };
        unit.stamp = stamp(&text, unit.targets());
        units.push(unit);
    }
    units.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(units)
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> BuildResult<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            found.push(path);
        }
    }
    Ok(())
}

/// Appends `file` with every `#include "..."` of ours replaced by that file, once each.
fn flatten(file: &Path, seen: &mut BTreeSet<PathBuf>, text: &mut String) -> BuildResult<()> {
    if !seen.insert(file.to_path_buf()) {
        return Ok(());
    }
    let source = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let place = |line: usize| format!("#line {line} \"reskill-kernels/{}\"\n", file.display());
    text.push_str(&place(1));
    for (number, line) in source.lines().enumerate() {
        let included = line.strip_prefix("#include \"").and_then(|rest| rest.split('"').next());
        let header = included.and_then(|name| {
            let beside = file.with_file_name(name);
            [beside, Path::new(HEADERS).join(name)].into_iter().find(|path| path.is_file())
        });
        match header {
            Some(header) => {
                flatten(&header, seen, text)?;
                text.push_str(&place(number + 2));
            }
            None if line.trim() == "#pragma once" => text.push('\n'),
            None => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    Ok(())
}

/// FNV-1a of source and flags: enough to notice that a binary is stale.
fn stamp(source: &str, targets: &[&str]) -> String {
    let flags = FLAGS.iter().chain(targets).flat_map(|flag| flag.bytes());
    let hash = source.bytes().chain(flags).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn write_if_changed(path: &Path, text: &str) -> BuildResult<()> {
    if fs::read_to_string(path).ok().as_deref() != Some(text) {
        fs::write(path, text)?;
    }
    Ok(())
}

fn nvcc() -> Option<PathBuf> {
    let named = env::var_os("NVCC").map(PathBuf::from);
    let roots = ["RESKILL_CUDA_TOOLKIT", "CUDA_HOME", "CUDA_PATH"];
    let in_roots = roots.into_iter().filter_map(env::var_os).map(|root| Path::new(&root).join("bin/nvcc"));
    let path = env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<PathBuf> = env::split_paths(&path).map(|folder| folder.join("nvcc")).collect();
    named.into_iter().chain(in_roots).chain(in_path).find(|file| file.is_file())
}

/// Compiles the units that have no code yet into `folder`, several at once. Code of the same stamp is kept unless `fresh`.
fn compile(nvcc: &Path, folder: &Path, units: &mut [Unit], fresh: bool) -> BuildResult<()> {
    let mut open: Vec<&mut Unit> = units.iter_mut().filter(|unit| unit.fatbin.is_none()).collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from).min(open.len()) {
            scope.spawn(|| {
                while let Some(unit) = open.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let stamp_file = folder.join(format!("{}.stamp", unit.name));
                    if !fresh && fs::read_to_string(&stamp_file).is_ok_and(|stamp| stamp == unit.stamp) {
                        continue;
                    }
                    if let Err(error) = compile_unit(nvcc, folder, unit)
                        && let Ok(mut failures) = failures.lock()
                    {
                        failures.push(error.to_string());
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    if !failures.is_empty() {
        return Err(failures.join("\n").into());
    }
    for unit in &mut open {
        unit.fatbin = Some(folder.join(format!("{}.fatbin", unit.name)));
    }
    Ok(())
}

fn compile_unit(nvcc: &Path, folder: &Path, unit: &Unit) -> BuildResult<()> {
    let mut command = Command::new(nvcc);
    // By name in its own folder: no path of this machine gets into the code.
    command.current_dir(unit.source.parent().unwrap_or(Path::new("."))).args(FLAGS);
    for target in unit.targets() {
        command.args(["-gencode", target]);
    }
    command.arg("-o").arg(folder.join(format!("{}.fatbin", unit.name))).arg(format!("{}.cu", unit.name));
    let output = command.output().map_err(|error| format!("{}: {error}", nvcc.display()))?;
    let report = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("nvcc does not compile {}:\n{report}", unit.name).into());
    }
    fs::write(folder.join(format!("{}.ptxas", unit.name)), report.as_bytes())?;
    fs::write(folder.join(format!("{}.stamp", unit.name)), &unit.stamp)?;
    Ok(())
}

/// The Rust source of the table of units.
fn table(units: &[Unit]) -> BuildResult<String> {
    let mut text = String::from("static UNITS: &[Unit] = &[\n");
    for unit in units {
        let origin = match &unit.fatbin {
            Some(file) if file.parent().is_some_and(|folder| folder.ends_with("prebuilt")) => "prebuilt",
            Some(_) => "nvcc",
            None => "source",
        };
        let code = match &unit.fatbin {
            Some(file) => format!("Some(include_bytes!({file:?}))"),
            None => "None".to_owned(),
        };
        writeln!(
            text,
            "    Unit {{ name: {:?}, hopper: {}, source: include_str!({:?}), code: {code}, origin: {origin:?} }},",
            unit.name,
            unit.is_hopper(),
            unit.source
        )?;
    }
    text.push_str("];\n");
    Ok(text)
}
