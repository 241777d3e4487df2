//! A version test, step by step: `cargo run --release -p reskill-skills --example version_test`.
//!
//! Sixteen tasks a step, eight rollouts each. Tasks are easy or hard; the candidate bank succeeds 15 points more often.
#![expect(clippy::print_stdout, reason = "an example prints its result")]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_skills::version_test::{Claim, assign, shares};
use reskill_skills::{Arm, VersionTest, VersionTestConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let config = VersionTestConfig::default();
    config.validate()?;
    let mut test = VersionTest::new(1);
    println!("step  share of new   old      new      P(new > old)");
    for step in 0..20u64 {
        let shares = shares(&config, test.p_best());
        let mut outcomes = Vec::new();
        for group in step * 16..(step + 1) * 16 {
            let old_rate = if group % 2 == 0 { 0.15 } else { 0.65 };
            for arm in assign(&shares, 8, config.sampling, &mut rng) {
                let rate = if arm == Arm::Incumbent { old_rate } else { old_rate + 0.15 };
                outcomes.push((group, arm, rng.random_bool(rate)));
            }
        }
        test.record(step, outcomes, config.discount, None);
        let count = |arm| test.totals(arm);
        let (old, new) = (count(Arm::Incumbent), count(Arm::Candidate(0)));
        println!(
            "{step:>4}  {:>12.2}   {:>3}/{:<3}  {:>3}/{:<3}  {:.4}",
            shares[1],
            old.successes,
            old.episodes,
            new.successes,
            new.episodes,
            test.p_better()[0]
        );
        if let Some(decision) = test.decide(&config, Claim::Better) {
            println!(
                "{:?} ({:?}) after {} episodes: z = {:.2}, bound {:.2}, level {:.2}",
                decision.verdict,
                decision.reason,
                decision.n_episodes,
                decision.z.unwrap_or(f64::NAN),
                decision.bound.unwrap_or(f64::NAN),
                decision.level.unwrap_or(f64::NAN),
            );
            break;
        }
    }
    Ok(())
}
