//! `reskill-cli bench kernels` and `bench ceilings`: every operation beside the floor that its bytes and operations set.

mod attention;
mod cached;
mod ceilings;
mod column_sums;
mod divergence;
mod exact;
mod head;
mod head_norms;
mod operation;
mod output;
mod plot;
mod products;
mod rows;
mod sizes;
mod timing;
mod update;

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Args, ValueEnum};
use regex::Regex;
use reskill_kernels::{DType, Device};

pub(super) use self::ceilings::Ceilings;
use self::operation::{Inputs, Operation};
use self::output::{Line, Printer};
pub(super) use self::sizes::Sizes;
pub(super) use self::timing::Timing;
use self::timing::{Mode, measure};
use super::report::Machine;
use crate::progress::print_line;

/// Measures every operation on fresh random inputs, beside the floor that its bytes and operations set.
#[derive(Debug, Args)]
#[command(
    after_help = "Each case: outputs are filled with NaN, the operation runs, its result is compared with f64; it is
measured; and is checked once more. The floor is the least time that its bytes take at the bandwidth, or its operations at
the matrix rate, that `bench ceilings` finds in the same run. `noise` is how far two halves of the same measurements are
apart: differences within twice that mean nothing.

Examples:
  reskill-cli bench kernels --sizes smollm2 --filter 'rms_norm|adamw'
  reskill-cli bench kernels --device cuda --dtype bf16 --sizes qwen3-0.6b --json --plot roofline.svg"
)]
pub(super) struct KernelArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Regular expression that the name of an operation must match
    #[arg(long, value_name = "RE", default_value = "")]
    filter: String,
    /// Widths of the model whose layers are run
    #[arg(long, value_enum, default_value_t = Sizes::Policy)]
    sizes: Sizes,
    /// Rows (packed tokens); without it what suits the device and the sizes
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// Draw the operations under the roofline of the device
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Measures what the device can do at best: bandwidth, matrix rate, launches.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli bench ceilings
  reskill-cli bench ceilings --device cuda --dtype bf16 --json")]
pub(super) struct CeilingArgs {
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Args)]
pub(super) struct CommonArgs {
    /// cpu, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// How activations and weights are stored
    #[arg(long, value_enum, default_value_t = Stored::F32)]
    dtype: Stored,
    /// Measurements of each case; half of them are set against the other half
    #[arg(long, value_name = "N", default_value_t = 21)]
    rounds: usize,
    /// Seed of the inputs; without it one from the clock, which is printed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Small probes for the ceilings: for a simulated device
    #[arg(long)]
    quick: bool,
    /// One JSON line a case on stdout instead of a table
    #[arg(long)]
    json: bool,
}

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Stored {
    F32,
    Bf16,
}

impl Stored {
    /// The device of this name, storing numbers so.
    pub(super) fn on(self, name: &str) -> Result<Device> {
        let device = Device::parse(name)?;
        let dtype = match self {
            Stored::F32 => DType::F32,
            Stored::Bf16 if device.is_cpu() => {
                bail!("--dtype bf16: the CPU computes in f32; use --device cuda")
            }
            Stored::Bf16 => DType::Bf16,
        };
        Ok(device.with_precision(dtype)?)
    }
}

/// What all cases are run with.
pub(super) struct Bench {
    pub(super) device: Device,
    pub(super) dtype: DType,
    pub(super) rounds: usize,
    pub(super) seed: u64,
    quick: bool,
    pub(super) json: bool,
}

impl Bench {
    pub(super) fn new(args: &CommonArgs) -> Result<Bench> {
        if args.rounds < 2 {
            bail!(
                "--rounds {}: expected 2 or more, half of them to be set against the other half",
                args.rounds
            );
        }
        let device = args.dtype.on(&args.device)?;
        let dtype = device.precision();
        let clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |since| since.as_micros() as u64 % 1_000_000_007)
        };
        let seed = args.seed.unwrap_or_else(clock);
        Ok(Bench { device, dtype, rounds: args.rounds, seed, quick: args.quick, json: args.json })
    }

    pub(super) fn machine(&self) -> Machine {
        Machine::here(self.seed)
    }

    /// The ways in which a case is measured on this device.
    fn modes(&self) -> &'static [Mode] {
        if self.device.can_record() {
            &[Mode::Hot, Mode::Cold, Mode::Graph]
        } else {
            &[Mode::Hot, Mode::Cold]
        }
    }
}

/// Runs `bench ceilings`; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub(super) fn run_ceilings(args: &CeilingArgs) -> Result<u8> {
    let bench = Bench::new(&args.common)?;
    let ceilings = Ceilings::measure(&bench)?;
    output::print_ceilings(&bench, &ceilings)?;
    Ok(0)
}

/// Runs `bench kernels`; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub(super) fn run(args: &KernelArgs) -> Result<u8> {
    let bench = Bench::new(&args.common)?;
    let filter = Regex::new(&args.filter).map_err(|error| {
        // The last line says what is wrong, those before it show where.
        let why = error.to_string().lines().last().unwrap_or_default().trim().to_string();
        anyhow!("--filter {}: is no regular expression ({why})", args.filter)
    })?;
    let model = args.sizes.model();
    let n = args.rows.unwrap_or_else(|| args.sizes.rows(&bench.device));
    if n == 0 {
        bail!("--rows 0: expected 1 or more");
    }
    let ceilings = Ceilings::measure(&bench)?;
    let mut printer = Printer::new(&bench, &ceilings)?;
    let mut lines = Vec::new();
    for (name, build) in operations() {
        if !filter.is_match(name) {
            continue;
        }
        let inputs = Inputs { device: &bench.device, dtype: bench.dtype, seed: bench.seed, n, model };
        let mut operation = match build(&inputs) {
            Ok(operation) => operation,
            Err(error) => {
                print_line(&format!("{name}: left out: {error:#}"));
                continue;
            }
        };
        for line in run_operation(&bench, &ceilings, name, operation.as_mut())? {
            printer.print(&line)?;
            lines.push(line);
        }
    }
    if let Some(path) = &args.plot {
        std::fs::write(path, plot::roofline(&ceilings, &lines))
            .with_context(|| format!("{}: cannot be written", path.display()))?;
    }
    Ok(u8::from(lines.iter().any(|line| !line.is_right())))
}

/// One operation in all modes, checked before and after.
fn run_operation(
    bench: &Bench,
    ceilings: &Ceilings,
    name: &'static str,
    operation: &mut dyn Operation,
) -> Result<Vec<Line>> {
    let check = |operation: &mut dyn Operation| -> Result<f64> {
        operation.poison()?;
        operation.run()?;
        operation.error()
    };
    let before = check(operation)?;
    let mut lines = Vec::new();
    for &mode in bench.modes() {
        match measure(bench, mode, operation)? {
            Some(timing) => lines.push(Line::new(bench, ceilings, name, operation, mode, timing, before)),
            None => {
                print_line(&format!("{name}: waits for the device or takes memory, so it cannot be recorded"))
            }
        }
    }
    let after = check(operation)?;
    for line in &mut lines {
        line.error = line.error.max(after);
        // NaN is no number that `max` keeps.
        if before.is_nan() || after.is_nan() {
            line.error = f64::NAN;
        }
    }
    Ok(lines)
}

/// All operations by name, in the order of a training step.
fn operations() -> Vec<(&'static str, operation::Build)> {
    let mut all: Vec<(&'static str, operation::Build)> = Vec::new();
    all.extend(rows::OPERATIONS);
    all.extend(column_sums::OPERATIONS);
    all.extend(head_norms::OPERATIONS);
    all.extend(products::OPERATIONS);
    all.extend(attention::OPERATIONS);
    all.extend(cached::OPERATIONS);
    all.extend(head::OPERATIONS);
    all.extend(divergence::OPERATIONS);
    all.extend(update::OPERATIONS);
    all
}
