//! `reskill-cli bench kernels` and `bench ceilings`: every operation beside the floor that its bytes and operations set.

mod attention;
mod attention_gradients;
mod cached;
mod ceilings;
mod column_sums;
mod copies;
mod divergence;
mod exact;
mod head;
mod head_gradients;
mod head_norms;
mod low_rank;
mod operation;
mod optimizer;
mod output;
mod plot;
mod products;
mod random;
mod rotation;
mod rows;
mod sample;
mod sampling;
mod setting;
mod sizes;
mod timing;
mod update;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use regex::Regex;
use reskill_kernels::KernelError;

pub(super) use self::ceilings::Ceilings;
use self::operation::{Build, Inputs, Operation, worse};
use self::output::{Line, Printer};
pub(super) use self::random::Stream;
use self::sample::{Sample, not_finite};
pub(super) use self::setting::{Bench, CommonArgs};
pub(super) use self::sizes::Sizes;
pub(super) use self::timing::Timing;
use self::timing::measure;
use crate::progress::{print_data, print_line};

/// Measures every operation on fresh random inputs, beside the floor that its bytes and operations set.
#[derive(Debug, Args)]
#[command(
    after_help = "Each case: outputs are filled with NaN, the operation runs, a sample of its result is compared with f64 and all of it
must be numbers; it is measured; and is checked once more. The floor is the least time that its bytes take at the bandwidth, or
its operations at the matrix rate, that `bench ceilings` finds in the same run; `time/floor` says how many times as long it took.
`noise` is how far two halves of the same measurements are apart: differences within twice that mean nothing. Optimizer and norms
run on 2^24 elements at most; then `of` is how many the table of embeddings has. What finds no room or is not offered is left out
and named.

Examples:
  reskill-cli bench kernels --sizes smollm2 --filter 'rms_norm|adamw'
  reskill-cli bench kernels --device cuda --dtype bf16 --gemm auto --sizes qwen3-0.6b --json --plot roofline.svg"
)]
pub(super) struct KernelArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Regular expression that the name of an operation must match
    #[arg(long, value_name = "RE", default_value = "")]
    filter: String,
    /// Print the names of the operations and measure nothing
    #[arg(long)]
    list: bool,
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

/// Measures what the device can do at best: bandwidth, matrix rate by whoever multiplies quickest, launches.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli bench ceilings
  reskill-cli bench ceilings --device cuda --dtype bf16 --json")]
pub(super) struct CeilingArgs {
    #[command(flatten)]
    common: CommonArgs,
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
    let operations = chosen(&args.filter)?;
    if args.list {
        let names: String = operations.iter().map(|(name, _)| format!("{name}\n")).collect();
        print_data(names.as_bytes())?;
        return Ok(0);
    }
    if let Some(path) = &args.plot {
        check_plot(path)?;
    }
    if args.rows == Some(0) {
        bail!("--rows 0: expected 1 or more");
    }
    let bench = Bench::new(&args.common)?;
    let model = args.sizes.model();
    let n = args.rows.unwrap_or_else(|| args.sizes.rows(&bench.device));
    let ceilings = Ceilings::measure(&bench)?;
    let mut printer = Printer::new(&bench, &ceilings)?;
    let mut lines = Vec::new();
    for (name, build) in operations {
        let inputs = Inputs { device: &bench.device, dtype: bench.dtype, seed: bench.seed, n, model };
        match run_operation(&bench, &ceilings, name, build, &inputs) {
            Ok(found) => {
                for line in found {
                    printer.print(&line)?;
                    lines.push(line);
                }
            }
            Err(error) if leaves_out(&error) => printer.print_left_out(name, &format!("{error:#}"))?,
            Err(error) => return Err(error.context(name)),
        }
    }
    bench.print_choices()?;
    if let Some(path) = &args.plot {
        let drawing = plot::roofline(&bench, args.sizes, n, &ceilings, &lines);
        std::fs::write(path, drawing).with_context(|| format!("{}: cannot be written", path.display()))?;
        print_line(&format!("roofline: {}", path.display()));
    }
    Ok(u8::from(lines.iter().any(|line| !line.is_right())))
}

/// The operations whose names match.
fn chosen(filter: &str) -> Result<Vec<(&'static str, Build)>> {
    let matches = Regex::new(filter).map_err(|error| {
        // The last line says what is wrong, those before it show where.
        let why = error.to_string().lines().last().unwrap_or_default().trim().to_string();
        anyhow!("--filter {filter}: is no regular expression ({why})")
    })?;
    let (chosen, others): (Vec<_>, Vec<_>) =
        operations().into_iter().partition(|(name, _)| matches.is_match(name));
    if chosen.is_empty() {
        let names: Vec<&str> = others.iter().map(|(name, _)| *name).collect();
        bail!("--filter {filter}: no operation has such a name; there are {}", names.join(", "));
    }
    Ok(chosen)
}

/// Refuses a drawing that could not be written when all is measured.
fn check_plot(path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("svg")) {
        bail!("--plot {}: the drawing is SVG; give a name that ends in .svg", path.display());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) {
        bail!("--plot {}: its folder is not there; make it, or give another", path.display());
    }
    Ok(())
}

/// A case that this device or storage has not, as its constructor says.
#[derive(Debug)]
struct NotHere(&'static str);

impl std::fmt::Display for NotHere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for NotHere {}

/// Whether a case with this error is named and the next one goes on: no room, or nothing that is offered here.
fn leaves_out(error: &anyhow::Error) -> bool {
    let kernel = error.chain().find_map(|cause| cause.downcast_ref::<KernelError>());
    error.is::<NotHere>()
        || matches!(kernel, Some(KernelError::OutOfDeviceMemory { .. } | KernelError::Unsupported { .. }))
}

/// One operation in all modes, checked before and after.
fn run_operation(
    bench: &Bench,
    ceilings: &Ceilings,
    name: &'static str,
    build: Build,
    inputs: &Inputs<'_>,
) -> Result<Vec<Line>> {
    let mut operation = build(inputs)?;
    let operation = operation.as_mut();
    let before = check(operation, Sample::new(bench.seed, 0))?;
    let mut lines = Vec::new();
    for &mode in bench.modes() {
        match measure(bench, mode, operation)? {
            Some(timing) => lines.push(Line::new(ceilings, name, operation, mode, timing)),
            None => {
                print_line(&format!("{name}: waits for the device or takes memory, so it cannot be recorded"))
            }
        }
    }
    let after = check(operation, Sample::new(bench.seed, 1))?;
    for line in &mut lines {
        line.error = worse(before.error, after.error);
        line.not_finite = before.not_finite + after.not_finite;
    }
    Ok(lines)
}

/// How a result was found to be.
struct Check {
    error: f64,
    /// Elements that are no numbers and should be.
    not_finite: usize,
}

fn check(operation: &mut dyn Operation, sample: Sample) -> Result<Check> {
    operation.poison()?;
    operation.run()?;
    let found = operation.outputs().into_iter().map(not_finite).sum::<Result<usize>>()?;
    // More is poison that was left, less something written where nothing belongs.
    Ok(Check { error: operation.error(sample)?, not_finite: found.abs_diff(operation.left_poisoned()) })
}

/// All operations by name, in the order of a training step.
fn operations() -> Vec<(&'static str, Build)> {
    let mut all: Vec<(&'static str, Build)> = Vec::new();
    all.extend(rows::OPERATIONS);
    all.extend(rotation::OPERATIONS);
    all.extend(column_sums::OPERATIONS);
    all.extend(head_norms::OPERATIONS);
    all.extend(products::OPERATIONS);
    all.extend(low_rank::OPERATIONS);
    all.extend(attention::OPERATIONS);
    all.extend(attention_gradients::OPERATIONS);
    all.extend(cached::OPERATIONS);
    all.extend(head::OPERATIONS);
    all.extend(head_gradients::OPERATIONS);
    all.extend(sampling::OPERATIONS);
    all.extend(divergence::OPERATIONS);
    all.extend(update::OPERATIONS);
    all.extend(optimizer::OPERATIONS);
    all.extend(copies::OPERATIONS);
    all
}
