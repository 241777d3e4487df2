//! How long an operation takes: with warm caches, with cold ones, and inside a recorded graph.

use anyhow::Result;
use reskill_kernels::{Device, KernelError, Tensor};
use serde::Serialize;

use super::operation::Operation;
use super::setting::Bench;

/// How a case is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// Again and again: what fits the cache is in it.
    Hot,
    /// Once, after other memory was written: nothing is in the cache.
    Cold,
    /// Again and again inside one recorded graph.
    Graph,
}

/// Seconds of one run.
#[derive(Debug, Clone, Copy, Serialize)]
pub(in crate::commands::bench) struct Timing {
    pub(in crate::commands::bench) median: f64,
    pub(in crate::commands::bench) p10: f64,
    pub(in crate::commands::bench) p90: f64,
    pub(in crate::commands::bench) rounds: usize,
    /// How far the medians of the even and the odd rounds are apart, relative to the median.
    pub(in crate::commands::bench) noise: f64,
}

impl Timing {
    /// Of at least two rounds.
    pub(in crate::commands::bench) fn new(seconds: &[f64]) -> Timing {
        let at = |sorted: &[f64], share: f64| sorted[((sorted.len() - 1) as f64 * share).round() as usize];
        let sorted = |of: Vec<f64>| {
            let mut of = of;
            of.sort_by(f64::total_cmp);
            of
        };
        let all = sorted(seconds.to_vec());
        let [even, odd] =
            [0, 1].map(|first| at(&sorted(seconds.iter().skip(first).step_by(2).copied().collect()), 0.5));
        let median = at(&all, 0.5);
        let noise = (even - odd).abs() / median;
        Timing { median, p10: at(&all, 0.1), p90: at(&all, 0.9), rounds: all.len(), noise }
    }
}

/// Runs in one measurement of a warm operation take at least so long.
const LEAST_SECONDS: f64 = 2e-3;
/// Most runs in one measurement.
const MOST_RUNS: usize = 1000;

/// Measures; none if the operation cannot be measured in this way.
pub(super) fn measure(bench: &Bench, mode: Mode, operation: &mut dyn Operation) -> Result<Option<Timing>> {
    if mode == Mode::Graph && operation.waits() {
        return Ok(None);
    }
    let device = &bench.device;
    let once = device.seconds(|| operation.run())?;
    let runs = ((LEAST_SECONDS / once.max(1e-9)).ceil() as usize).clamp(1, MOST_RUNS);
    let seconds = match mode {
        Mode::Hot => rounds(bench, || repeated(device, runs, operation))?,
        Mode::Cold => {
            let mut other = Flush::new(bench)?;
            rounds(bench, || {
                other.write()?;
                device.seconds(|| operation.run())
            })?
        }
        Mode::Graph => {
            let graph = match device.record(|| (0..runs).try_for_each(|_| operation.run())) {
                Ok(graph) => graph,
                // It takes memory as it runs.
                Err(KernelError::Unsupported { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            rounds(bench, || Ok(device.seconds(|| graph.launch())? / runs as f64))?
        }
    };
    Ok(Some(Timing::new(&seconds)))
}

fn repeated(device: &Device, runs: usize, operation: &mut dyn Operation) -> Result<f64, KernelError> {
    Ok(device.seconds(|| (0..runs).try_for_each(|_| operation.run()))? / runs as f64)
}

fn rounds(bench: &Bench, mut one: impl FnMut() -> Result<f64, KernelError>) -> Result<Vec<f64>> {
    one()?;
    Ok((0..bench.rounds).map(|_| one()).collect::<Result<Vec<f64>, _>>()?)
}

/// Memory larger than the caches.
struct Flush {
    memory: Tensor,
    value: f32,
}

impl Flush {
    fn new(bench: &Bench) -> Result<Flush> {
        let bytes = if bench.quick { 1 << 20 } else { 256 << 20 };
        Ok(Flush { memory: Tensor::zeros(&[bytes / 4], &bench.device)?, value: 0.0 })
    }

    fn write(&mut self) -> Result<(), KernelError> {
        self.value += 1.0;
        self.memory.fill(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_noise_are_those_of_the_rounds() {
        let timing = Timing::new(&[1.0, 3.0, 2.0, 3.0, 2.0]);
        assert_eq!((timing.median, timing.p10, timing.p90, timing.rounds), (2.0, 1.0, 3.0, 5));
        // Even rounds 1, 2, 2; odd ones 3, 3.
        assert_eq!(timing.noise, 0.5);
    }
}
