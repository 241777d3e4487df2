//! What a benchmark prints: one line a case, with where it was measured.

use std::io::Write;

use anyhow::Result;
use reskill_kernels::Device;
use serde::Serialize;

use crate::device::GemmName;
use crate::progress::print_data;

/// One measured quantity over several rounds.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Case {
    /// What was measured, e.g. `alfworld steps, 1 thread`.
    pub(super) case: String,
    pub(super) unit: &'static str,
    pub(super) rounds: usize,
    pub(super) median: f64,
    pub(super) p10: f64,
    pub(super) p90: f64,
    /// What it is compared with, in the same unit, if there is something.
    pub(super) reference: Option<Reference>,
}

/// A figure to compare with.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Reference {
    pub(super) name: &'static str,
    pub(super) value: f64,
}

impl Case {
    /// Summarises the rounds; there is at least one.
    pub(super) fn new(case: impl Into<String>, unit: &'static str, mut rounds: Vec<f64>) -> Case {
        rounds.sort_by(f64::total_cmp);
        let at = |share: f64| rounds[((rounds.len() - 1) as f64 * share).round() as usize];
        let (median, p10, p90) = (at(0.5), at(0.1), at(0.9));
        Case { case: case.into(), unit, rounds: rounds.len(), median, p10, p90, reference: None }
    }

    pub(super) fn beside(mut self, name: &'static str, value: f64) -> Case {
        self.reference = Some(Reference { name, value });
        self
    }
}

/// Where and with what the numbers were measured.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    /// Runnable processes over the last minute: above 0 at the start, others were measured with.
    load: f64,
    version: &'static str,
    /// The commit that the program was built from.
    commit: &'static str,
    seed: u64,
    #[serde(flatten)]
    device: Option<DeviceRecord>,
}

/// On which device, and how.
#[derive(Debug, Serialize)]
struct DeviceRecord {
    /// In words.
    device: String,
    /// The version of CUDA that the driver is for, as `13.0`; none on the CPU, as the next two.
    driver: Option<String>,
    /// Compute capability, as `9.0`.
    capability: Option<String>,
    multiprocessors: Option<usize>,
    /// Who multiplies matrices.
    gemm: String,
    /// Whether the ceilings come from small probes.
    quick: bool,
}

impl Machine {
    pub(super) fn here(seed: u64) -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let cpu = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        let load = read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok());
        Machine {
            cpu: cpu.map_or_else(|| std::env::consts::ARCH.into(), |(_, model)| model.to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            load: load.unwrap_or(f64::NAN),
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("RESKILL_COMMIT"),
            seed,
            device: None,
        }
    }

    /// The same with the device that was measured.
    pub(super) fn on(self, device: &Device, gemm: GemmName, quick: bool) -> Machine {
        let facts = device.facts();
        let version = |(major, minor): (u32, u32)| format!("{major}.{minor}");
        let record = DeviceRecord {
            device: device.describe(),
            driver: facts.as_ref().map(|facts| version(facts.driver)),
            capability: facts.as_ref().map(|facts| version(facts.capability)),
            multiprocessors: facts.as_ref().map(|facts| facts.multiprocessors),
            gemm: gemm.backend().to_string(),
            quick,
        };
        Machine { device: Some(record), ..self }
    }

    pub(super) fn commit(&self) -> &'static str {
        self.commit
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Machine { cpu, cores, load, version, commit, .. } = self;
        write!(f, "{cpu} ({cores} cores, load {load:.1}), reskill {version} commit {commit}")?;
        match &self.device {
            Some(DeviceRecord { driver: Some(driver), multiprocessors: Some(count), gemm, .. }) => {
                write!(f, "\ndriver for CUDA {driver}, {count} multiprocessors, products by {gemm}")
            }
            _ => Ok(()),
        }
    }
}

/// Prints the cases: JSON lines, each with the machine, or a table.
pub(super) fn print(cases: &[Case], seed: u64, json: bool) -> Result<()> {
    let machine = Machine::here(seed);
    let mut out = Vec::new();
    if json {
        for case in cases {
            let mut line = serde_json::to_value(case)?;
            line["machine"] = serde_json::to_value(&machine)?;
            writeln!(out, "{line}")?;
        }
    } else {
        writeln!(out, "{machine}, seed {seed}\n")?;
        writeln!(out, "{:<44} {:>12} {:>12} {:>12}  {:<18} beside", "case", "median", "p10", "p90", "unit")?;
        for case in cases {
            let beside = case.reference.map_or(String::new(), |other| {
                format!("{} {} ({:.0}x)", other.name, other.value, case.median / other.value)
            });
            let [median, p10, p90] = [case.median, case.p10, case.p90].map(figure);
            writeln!(out, "{:<44} {median:>12} {p10:>12} {p90:>12}  {:<18} {beside}", case.case, case.unit)?;
        }
    }
    print_data(&out)?;
    Ok(())
}

/// Three to four significant digits.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}
