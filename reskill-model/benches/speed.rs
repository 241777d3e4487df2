//! Tokens per second of the default run's policy: `cargo bench -p reskill-model --bench speed`.
//!
//! - prefill: 128 slots get 64 tokens each at once
//! - turn: 128 slots that hold 150 tokens get 24 more each, as in one turn of a rollout
//! - decode: 128 slots that hold 200 tokens get one more
//! - train: forward and backward of 32 episodes with a trunk of 64 tokens and four branches of 16
//!
//! One JSON line each: tokens, best and median seconds of at least five runs, tokens per second at the best.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reskill_kernels::Tensor;
use reskill_model::{Generator, ModelConfig, ModelError, PackedBatch, Params, Transformer, Workspace};

fn measure(
    name: &str,
    tokens: usize,
    mut work: impl FnMut() -> Result<f64, ModelError>,
) -> Result<(), ModelError> {
    work()?;
    let mut seconds = Vec::new();
    let begin = Instant::now();
    while seconds.len() < 5 || (begin.elapsed().as_secs_f64() < 1.0 && seconds.len() < 100) {
        seconds.push(work()?);
    }
    seconds.sort_by(f64::total_cmp);
    let (best, median) = (seconds[0], seconds[seconds.len() / 2]);
    println!(
        "{}",
        serde_json::json!({
            "op": name, "tokens": tokens, "seconds_best": best, "seconds_median": median,
            "tokens_per_s": (tokens as f64 / best).round(),
        })
    );
    Ok(())
}

fn main() -> Result<(), ModelError> {
    let config = ModelConfig { vocab_size: 400, ..ModelConfig::tiny() };
    let model = Transformer::init(&config, &mut ChaCha8Rng::seed_from_u64(0))?;
    let tokens: Vec<u32> = (0..256).map(|i| i * 31 % 400).collect();

    for (name, held, new) in [("prefill", 0, 64), ("turn", 150, 24), ("decode", 200, 1)] {
        let mut generator = Generator::new(&config, 128, 256)?;
        let fill: Vec<(usize, &[u32])> = (0..128).map(|slot| (slot, &tokens[..held])).collect();
        generator.extend(&model, &fill)?;
        let more: Vec<(usize, &[u32])> = (0..128).map(|slot| (slot, &tokens[..new])).collect();
        measure(name, 128 * new, || {
            let start = Instant::now();
            generator.extend(&model, &more)?;
            let seconds = start.elapsed().as_secs_f64();
            (0..128).for_each(|slot| generator.cache_mut().truncate(slot, held));
            Ok(seconds)
        })?;
    }

    let mut batch = PackedBatch::new()?;
    for _ in 0..32 {
        let trunk = batch.push_trunk(&tokens[..64]).expect("a batch on the CPU grows");
        for branch in 1..=4 {
            batch.push_branch(&tokens[64..80], trunk, 16 * branch).expect("a batch on the CPU grows");
        }
    }
    let n = batch.len();
    let d_hidden = Tensor::from_vec(&[n, config.hidden_size], vec![0.01; n * config.hidden_size])?;
    let (mut workspace, mut grads) = (Workspace::new(&config)?, Params::zeros(&config)?);
    measure("train_forward", n, || {
        let start = Instant::now();
        model.forward(&mut workspace, &batch)?;
        Ok(start.elapsed().as_secs_f64())
    })?;
    measure("train_forward_backward", n, || {
        let start = Instant::now();
        model.forward(&mut workspace, &batch)?;
        model.backward(&mut grads, &mut workspace, &batch, &d_hidden)?;
        Ok(start.elapsed().as_secs_f64())
    })
}
