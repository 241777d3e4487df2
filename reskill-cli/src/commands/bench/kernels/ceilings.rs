//! What a device does at best, by its own simplest operations.

use anyhow::Result;
use reskill_kernels::{DType, KernelError, Tensor, ops};
use serde::Serialize;

use super::Bench;
use super::timing::Timing;

/// Rates that nothing on this device exceeds by much.
#[derive(Debug, Clone, Copy, Serialize)]
pub(in crate::commands::bench) struct Ceilings {
    /// Bytes a second of a copy, read and written.
    pub(in crate::commands::bench) copy_bytes_per_second: f64,
    /// Bytes a second of a sum, read only.
    pub(in crate::commands::bench) read_bytes_per_second: f64,
    /// Operations a second of a large product in the storage measured.
    pub(in crate::commands::bench) flops_per_second: f64,
    /// Seconds from one launch of a small operation to the next.
    pub(in crate::commands::bench) launch_seconds: f64,
    /// The same inside a recorded graph; none where nothing can be recorded.
    pub(in crate::commands::bench) graph_launch_seconds: Option<f64>,
}

/// Small operations in a row, to tell their launches' time.
const LAUNCHES: usize = 100;

impl Ceilings {
    pub(in crate::commands::bench) fn measure(bench: &Bench) -> Result<Ceilings> {
        let (copy, read) = bandwidth(bench)?;
        let mut small = Tensor::zeros(&[64], &bench.device)?;
        let mut value = 1.0;
        let mut fills = || {
            (0..LAUNCHES).try_for_each(|_| {
                value += 1.0;
                small.fill(value)
            })
        };
        fills()?;
        let launches = best(bench, || Ok(bench.device.seconds(&mut fills)? / LAUNCHES as f64))?;
        let in_graph = if bench.device.can_record() {
            let graph = bench.device.record(fills)?;
            Some(best(bench, || Ok(bench.device.seconds(|| graph.launch())? / LAUNCHES as f64))?)
        } else {
            None
        };
        Ok(Ceilings {
            copy_bytes_per_second: copy,
            read_bytes_per_second: read,
            flops_per_second: matrix_rate(bench)?,
            launch_seconds: launches,
            graph_launch_seconds: in_graph,
        })
    }

    /// The rate that memory-bound operations are held against.
    pub(in crate::commands::bench) fn bytes_per_second(&self) -> f64 {
        self.copy_bytes_per_second.max(self.read_bytes_per_second)
    }
}

fn bandwidth(bench: &Bench) -> Result<(f64, f64)> {
    let len = match (bench.quick, bench.device.is_cpu()) {
        (true, _) => 1 << 14,
        (false, true) => 1 << 24,
        (false, false) => 1 << 28,
    };
    let source = Tensor::zeros(&[len], &bench.device)?;
    let mut target = Tensor::zeros(&[len], &bench.device)?;
    let bytes = (len * DType::F32.size()) as f64;
    let copy = best(bench, || bench.device.seconds(|| target.copy_from(&source)))?;
    let mut total = Tensor::zeros(&[1], &bench.device)?;
    let read = best(bench, || bench.device.seconds(|| ops::add_sum_squares(&mut total, &source)))?;
    Ok((2.0 * bytes / copy, bytes / read))
}

fn matrix_rate(bench: &Bench) -> Result<f64> {
    let size = match (bench.quick, bench.device.is_cpu()) {
        (true, _) => 64,
        (false, true) => 1024,
        (false, false) => 8192,
    };
    let square = || Tensor::zeros_as(&[size, size], &bench.device, bench.dtype);
    let (mut out, mut a, mut b) = (square()?, square()?, square()?);
    // Zeros would be too easy for a clock that follows power.
    let numbers: Vec<f32> = (0..size * size).map(|i| (i * 7919 % 2003) as f32 / 2003.0 - 0.5).collect();
    a.copy_from_slice(&numbers)?;
    b.copy_from_slice(&numbers)?;
    let seconds = best(bench, || bench.device.seconds(|| ops::matmul(&mut out, &a, &b, false)))?;
    Ok(2.0 * (size as f64).powi(3) / seconds)
}

/// The least of the rounds, after one that does not count.
fn best(bench: &Bench, mut one: impl FnMut() -> Result<f64, KernelError>) -> Result<f64> {
    one()?;
    let seconds = (0..bench.rounds).map(|_| one()).collect::<Result<Vec<f64>, _>>()?;
    let p10 = Timing::new(&seconds).p10;
    Ok(p10.max(1e-9))
}
