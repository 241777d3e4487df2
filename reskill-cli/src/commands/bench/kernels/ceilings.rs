//! What a device does at best, by its own simplest operations.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::ValueEnum;
use rayon::prelude::*;
use reskill_kernels::{DType, KernelError, Tensor, ops};
use serde::Serialize;

use super::random::Stream;
use super::setting::Bench;
use super::timing::Timing;
use crate::device::GemmName;

/// Rates that nothing on this device exceeds by much.
#[derive(Debug, Clone, Serialize)]
pub(in crate::commands::bench) struct Ceilings {
    /// Bytes a second of a copy, read and written.
    pub(in crate::commands::bench) copy_bytes_per_second: f64,
    /// Bytes a second of a sum, read only.
    pub(in crate::commands::bench) read_bytes_per_second: f64,
    /// Operations a second of a large product in the storage measured, by whoever multiplies quickest.
    pub(in crate::commands::bench) flops_per_second: f64,
    /// Who that is.
    pub(in crate::commands::bench) matrix_by: String,
    /// The same of all who can multiply here.
    pub(in crate::commands::bench) matrix_rates: BTreeMap<String, f64>,
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
        let matrix_rates = matrix_rates(bench)?;
        let quickest = matrix_rates.iter().max_by(|a, b| a.1.total_cmp(b.1));
        let (matrix_by, flops_per_second) =
            quickest.map_or((String::new(), 0.0), |(name, rate)| (name.clone(), *rate));
        Ok(Ceilings {
            copy_bytes_per_second: copy,
            read_bytes_per_second: read,
            flops_per_second,
            matrix_by,
            matrix_rates,
            launch_seconds: launches,
            graph_launch_seconds: in_graph,
        })
    }

    /// The rate that memory-bound operations are held against.
    pub(in crate::commands::bench) fn bytes_per_second(&self) -> f64 {
        self.copy_bytes_per_second.max(self.read_bytes_per_second)
    }
}

/// Of a copy and of a sum. The memory holds numbers: pages that nobody wrote to are all one page of zeros.
fn bandwidth(bench: &Bench) -> Result<(f64, f64)> {
    let len = match (bench.quick, bench.device.is_cpu()) {
        (true, _) => 1 << 14,
        (false, true) => 1 << 24,
        (false, false) => 1 << 28,
    };
    let numbers = Stream::new(bench.seed, 1).numbers(len, 1.0);
    let source = Tensor::from_slice(&[len], &numbers, &bench.device, DType::F32)?;
    let mut target = Tensor::zeros(&[len], &bench.device)?;
    let bytes = (len * DType::F32.size()) as f64;
    let copy = best(bench, || bench.device.seconds(|| target.copy_from(&source)))?;
    let read = if bench.device.is_cpu() {
        let mut total = 0.0;
        let read = best(bench, || {
            bench.device.seconds(|| {
                total += sum(&numbers);
                Ok::<(), KernelError>(())
            })
        })?;
        // The sum is used, or the compiler would leave it out.
        std::hint::black_box(total);
        read
    } else {
        let mut total = Tensor::zeros(&[1], &bench.device)?;
        best(bench, || bench.device.seconds(|| ops::add_sum_squares(&mut total, &source)))?
    };
    Ok((2.0 * bytes / copy, bytes / read))
}

/// A sum that is bound by reading: sixty-four of its parts are added side by side.
fn sum(numbers: &[f32]) -> f32 {
    const LANES: usize = 64;
    let block = |block: &[f32]| -> f32 {
        let mut sums = [0.0; LANES];
        for lanes in block.chunks_exact(LANES) {
            sums.iter_mut().zip(lanes).for_each(|(sum, x)| *sum += x);
        }
        sums.iter().sum()
    };
    numbers.par_chunks(1 << 16).map(block).sum()
}

/// Operations a second of a large product, by everybody who can multiply on this device.
fn matrix_rates(bench: &Bench) -> Result<BTreeMap<String, f64>> {
    let size = match (bench.quick, bench.device.is_cpu()) {
        (true, _) => 64,
        (false, true) => 1024,
        (false, false) => 8192,
    };
    // Zeros would be too easy for a clock that follows power.
    let square = |stream| {
        let numbers = Stream::new(bench.seed, stream).numbers(size * size, 0.5);
        Tensor::from_slice(&[size, size], &numbers, &bench.device, bench.dtype)
    };
    let (a, b) = (square(2)?, square(3)?);
    let mut out = Tensor::zeros_as(&[size, size], &bench.device, bench.dtype)?;
    let mut rate = || -> Result<f64> {
        let seconds = best(bench, || bench.device.seconds(|| ops::matmul(&mut out, &a, &b, false)))?;
        Ok(2.0 * (size as f64).powi(3) / seconds)
    };
    if bench.device.is_cpu() {
        return Ok(BTreeMap::from([("cpu".to_string(), rate()?)]));
    }
    let mut rates = BTreeMap::new();
    for gemm in GemmName::value_variants() {
        // What is not installed sets no ceiling.
        if bench.device.set_gemm_backend(gemm.backend()).is_ok() {
            rates.insert(gemm.backend().to_string(), rate()?);
        }
    }
    bench.device.set_gemm_backend(bench.gemm.backend())?;
    Ok(rates)
}

/// The least of the rounds, after one that does not count.
fn best(bench: &Bench, mut one: impl FnMut() -> Result<f64, KernelError>) -> Result<f64> {
    one()?;
    let seconds = (0..bench.rounds).map(|_| one()).collect::<Result<Vec<f64>, _>>()?;
    let p10 = Timing::new(&seconds).p10;
    Ok(p10.max(1e-9))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_sum_that_measures_reading_is_a_sum() {
        assert_eq!(super::sum(&vec![1.0; 3 << 16]), (3 << 16) as f32);
    }
}
