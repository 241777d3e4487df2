//! What all cases of a benchmark are run with.

use anyhow::{Result, bail};
use clap::Args;
use reskill_kernels::{DType, Device};

use super::output::machine_json;
use super::timing::Mode;
use crate::commands::bench::options::{DeviceOptions, choice_json, choices_table};
use crate::commands::bench::print_json;
use crate::commands::bench::report::Machine;
use crate::device::GemmName;
use crate::progress::print_data;

#[derive(Debug, Args)]
pub(in crate::commands::bench) struct CommonArgs {
    #[command(flatten)]
    on: DeviceOptions,
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

/// What all cases are run with.
pub(in crate::commands::bench) struct Bench {
    pub(in crate::commands::bench) device: Device,
    pub(in crate::commands::bench) dtype: DType,
    /// Who multiplies.
    pub(in crate::commands::bench) gemm: GemmName,
    pub(in crate::commands::bench) rounds: usize,
    pub(in crate::commands::bench) seed: u64,
    pub(super) quick: bool,
    pub(in crate::commands::bench) json: bool,
}

impl Bench {
    pub(in crate::commands::bench) fn new(args: &CommonArgs) -> Result<Bench> {
        if args.rounds < 2 {
            bail!(
                "--rounds {}: expected 2 or more, half of them to be set against the other half",
                args.rounds
            );
        }
        let device = args.on.open()?;
        let dtype = device.precision();
        let clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            now.map_or(0, |since| since.as_micros() as u64 % 1_000_000_007)
        };
        let seed = args.seed.unwrap_or_else(clock);
        Ok(Bench {
            device,
            dtype,
            gemm: args.on.gemm,
            rounds: args.rounds,
            seed,
            quick: args.quick,
            json: args.json,
        })
    }

    pub(in crate::commands::bench) fn machine(&self) -> Machine {
        Machine::here(self.seed).on(&self.device, self.gemm, self.quick)
    }

    /// The ways in which a case is measured on this device.
    pub(super) fn modes(&self) -> &'static [Mode] {
        if self.device.can_record() {
            &[Mode::Hot, Mode::Cold, Mode::Graph]
        } else {
            &[Mode::Hot, Mode::Cold]
        }
    }

    /// Prints who was chosen to multiply, where that was left open.
    pub(in crate::commands::bench) fn print_choices(&self) -> Result<()> {
        if self.gemm != GemmName::Auto {
            return Ok(());
        }
        let choices = self.device.gemm_choices();
        if self.json {
            let machine = machine_json(self)?;
            for choice in &choices {
                let mut line = choice_json(choice);
                line["machine"] = machine.clone();
                print_json(&line);
            }
            return Ok(());
        }
        print_data(choices_table(&choices).as_bytes())?;
        Ok(())
    }
}
