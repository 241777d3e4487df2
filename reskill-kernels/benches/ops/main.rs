//! Speed of every operation on the CPU: `cargo bench -p reskill-kernels [-- FILTER] [-- --json]`.
//!
//! A line for each operation and shape: best and median of at least five runs, GFLOP/s and GB/s at the best. Bytes and
//! operations are the least there are, by the formulas of `ops::cost`. Shapes are those of a layer of SmolLM2-135M (512
//! rows) and of the default run's policy (4096 rows in 32 episodes). Times vary on a busy machine: compare bests.
//! `reskill-cli bench kernels` checks results as well, and sets them beside the machine's ceilings.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

mod attention;
mod head;
mod products;
mod rows;
mod update;

use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::ops::Cost;
use reskill_kernels::{KernelError, Tensor};
use serde_json::json;

/// What is run, and how it is shown.
struct Bench {
    /// Part of an operation's name.
    filter: String,
    json: bool,
}

impl Bench {
    /// Measures `work` if its name is asked for. `sizes` have the letters of the crate.
    fn run(
        &self,
        op: &str,
        sizes: &[(&str, usize)],
        cost: Cost,
        mut work: impl FnMut() -> Result<(), KernelError>,
    ) -> Result<(), KernelError> {
        if !op.contains(&self.filter) {
            return Ok(());
        }
        work()?;
        let mut seconds = Vec::new();
        let begin = Instant::now();
        while seconds.len() < 5 || (begin.elapsed().as_secs_f64() < 0.2 && seconds.len() < 200) {
            let start = Instant::now();
            work()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let (best, median) = (seconds[0], seconds[seconds.len() / 2]);
        let (gflops, gb) = (cost.flops as f64 / best / 1e9, cost.bytes as f64 / best / 1e9);
        if self.json {
            let shape: serde_json::Map<String, serde_json::Value> =
                sizes.iter().map(|&(name, size)| (name.to_string(), size.into())).collect();
            let line = json!({
                "op": op, "shape": shape, "seconds_best": best, "seconds_median": median,
                "gflops": round(gflops), "gb_per_s": round(gb),
            });
            println!("{line}");
            return Ok(());
        }
        let shape: Vec<String> = sizes.iter().map(|(name, size)| format!("{name}={size}")).collect();
        let (best, median) = (duration(best), duration(median));
        println!("{op:<27} {:<42} {best:>10} {median:>10} {gflops:>9.1} {gb:>7.1}", shape.join(" "));
        Ok(())
    }
}

fn round(x: f64) -> f64 {
    (x * 100.0).round() / 100.0
}

/// Seconds for people, in four digits.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} us", s * 1e6),
        s if s < 1.0 => format!("{:.2} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}

fn random(shape: &[usize]) -> Result<Tensor, KernelError> {
    let mut rng = ChaCha8Rng::seed_from_u64(shape.len() as u64);
    let len = shape.iter().product();
    Tensor::from_vec(shape, (0..len).map(|_| rng.random::<f32>() - 0.5).collect())
}

/// N tokens, as many of them different as there can be.
fn tokens(n: usize, vocab: usize) -> Result<Tensor<u32>, KernelError> {
    Tensor::from_vec(&[n], (0..n).map(|i| (i * 31 % vocab) as u32).collect())
}

fn main() -> Result<(), KernelError> {
    // `cargo bench` passes `--bench`; what is no option is a filter on the name of the operation.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|arg| !arg.starts_with("--")).cloned().unwrap_or_default();
    let bench = Bench { filter, json: arguments.iter().any(|arg| arg == "--json") };
    if !bench.json {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        println!(
            "{threads} threads at most (RAYON_NUM_THREADS sets them); bytes and operations: the least there are"
        );
        println!(
            "{:<27} {:<42} {:>10} {:>10} {:>9} {:>7}",
            "operation", "sizes", "best", "median", "GFLOP/s", "GB/s"
        );
    }
    products::run(&bench)?;
    rows::run(&bench)?;
    attention::run(&bench)?;
    head::run(&bench)?;
    update::run(&bench)
}
