//! The machine: program, processor, memory, disk, devices.

use std::path::Path;

use reskill_kernels::{Device, GemmBackend};

use super::Finding;
use crate::memory::{available_memory, physical_memory};

const GIB: f64 = (1_u64 << 30) as f64;
/// The default run takes some 0.35 GiB; less than this leaves it no room.
const MEMORY: u64 = 1 << 30;
/// A default run leaves a few MB; less than this leaves it no room.
const DISK: u64 = 200 << 20;
/// Devices that are asked for at most.
const MOST_DEVICES: usize = 64;

/// All of them.
pub(super) fn findings() -> Vec<Finding> {
    let mut findings = vec![program(), processor(), memory(), disk(Path::new("."))];
    findings.extend(devices());
    findings
}

fn program() -> Finding {
    let parts = [
        ("cuda", cfg!(feature = "cuda")),
        ("dense", cfg!(feature = "dense")),
        ("hub", cfg!(feature = "hub")),
        ("llm", cfg!(feature = "llm")),
        ("bedrock", cfg!(feature = "bedrock")),
    ];
    let names = |built: bool| -> String {
        let names: Vec<&str> = parts.iter().filter(|part| part.1 == built).map(|part| part.0).collect();
        if names.is_empty() { "nothing".into() } else { names.join(" ") }
    };
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let version = env!("CARGO_PKG_VERSION");
    Finding::ok(
        "program",
        format!("{version} for {os} on {arch}, with {}, without {}", names(true), names(false)),
    )
}

fn processor() -> Finding {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(':').nth(1));
    let model = model.map_or("unknown processor", str::trim);
    let features = features();
    let features = if features.is_empty() { "no wide vectors".to_string() } else { features.join(" ") };
    Finding::ok("cpu", format!("{model}, {threads} threads, {features}"))
}

#[cfg(target_arch = "x86_64")]
fn features() -> Vec<&'static str> {
    let all = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("f16c", std::arch::is_x86_feature_detected!("f16c")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
        ("avx512bf16", std::arch::is_x86_feature_detected!("avx512bf16")),
    ];
    all.into_iter().filter(|feature| feature.1).map(|feature| feature.0).collect()
}

#[cfg(target_arch = "aarch64")]
fn features() -> Vec<&'static str> {
    let all = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("bf16", std::arch::is_aarch64_feature_detected!("bf16")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    all.into_iter().filter(|feature| feature.1).map(|feature| feature.0).collect()
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn features() -> Vec<&'static str> {
    Vec::new()
}

fn memory() -> Finding {
    let Some(total) = physical_memory() else {
        return Finding::ok("memory", "the system does not tell");
    };
    let available = available_memory().unwrap_or(total).min(total);
    let found = format!("{:.1} GiB, {:.1} GiB of it free", total as f64 / GIB, available as f64 / GIB);
    if available < MEMORY {
        return Finding::problem("memory", found, "end other programs: the default run wants 1 GiB");
    }
    Finding::ok("memory", found)
}

/// The disk that runs are written to.
fn disk(folder: &Path) -> Finding {
    let shown = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    match free_bytes(folder) {
        None => Finding::ok("disk", format!("{}: the system does not tell", shown.display())),
        Some(free) => {
            let found = format!("{}: {:.1} GiB free", shown.display(), free as f64 / GIB);
            if free < DISK {
                return Finding::problem("disk", found, "make room, or give --out a folder on another disk");
            }
            Finding::ok("disk", found)
        }
    }
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}

/// The CUDA devices, or why there is none.
fn devices() -> Vec<Finding> {
    let mut found = Vec::new();
    for ordinal in 0..MOST_DEVICES {
        match Device::cuda(ordinal) {
            Ok(device) => {
                found.push(Finding::ok("gpu", described(&device)));
                if ordinal == 0 {
                    found.push(library(&device));
                }
            }
            Err(error) if found.is_empty() => {
                let get = if cfg!(feature = "cuda") {
                    "a device of NVIDIA with its driver, so that `nvidia-smi` lists it; nothing else is needed"
                } else {
                    "cargo install --path reskill-cli --features cuda"
                };
                return vec![Finding::absent("gpu", error.to_string(), get)];
            }
            Err(_) => break,
        }
    }
    found
}

fn described(device: &Device) -> String {
    let version = |(major, minor): (u32, u32)| format!(", driver for CUDA {major}.{minor}");
    let driver = device.facts().map_or_else(String::new, |facts| version(facts.driver));
    format!("{}{driver}", device.describe())
}

/// Whether NVIDIA's library for products can be used.
fn library(device: &Device) -> Finding {
    let opened = device.set_gemm_backend(GemmBackend::CublasLt);
    // As it was: nothing is multiplied here.
    let opened = opened.and_then(|()| device.set_gemm_backend(GemmBackend::Own));
    match opened {
        Ok(()) => Finding::ok("cublaslt", "found; --gemm cublaslt or auto uses it"),
        Err(error) => Finding::absent(
            "cublaslt",
            error.to_string(),
            "cuBLAS of CUDA with its folder in LD_LIBRARY_PATH; `--gemm own` needs none",
        ),
    }
}
