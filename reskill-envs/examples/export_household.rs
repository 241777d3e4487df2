//! Writes generated games as files that ALFWorld's own tools read.
//!
//! `cargo run --release -p reskill-envs --example export_household -- DIR [SEED] [GAMES]`
#![expect(clippy::print_stdout, reason = "an example that says what it wrote")]

use std::error::Error;
use std::path::Path;

use reskill_envs::household::{Household, HouseholdConfig};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("expected a folder to write to")?;
    let seed = arguments.next().map_or(Ok(0), |seed| seed.parse())?;
    let n_train = arguments.next().map_or(Ok(12), |games| games.parse())?;
    let shares = HouseholdConfig { closed_fraction: 0.6, idle_fraction: 0.6, ..HouseholdConfig::default() };
    let config = HouseholdConfig { seed, n_train, n_seen: 0, n_unseen: 0, ..shares };
    Household::generate(&config)?.export(Path::new(&dir))?;
    println!("{n_train} games below {dir}");
    Ok(())
}
