//! Speed of an update of the default run's policy: `cargo bench -p reskill-grpo --bench update`.
//!
//! 64 episodes of 8 turns: 40 tokens of opening, then per turn 12 tokens that stay in the trunk, 20 that do not, and a
//! reply of three tokens drawn from eight. One epoch in mini-batches of 256 turns, with and without a reference. One JSON
//! line each: packed tokens, best and median seconds of five runs, packed tokens per second at the best.
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

use std::time::Instant;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reskill_grpo::{
    GrpoError, Learner, LearnerConfig, LossConfig, Optimizer, OptimizerConfig, TokenTrajectory, TokenTurn,
};
use reskill_model::{ModelConfig, ReplyToken, Transformer};

fn trajectories() -> Vec<TokenTrajectory> {
    let ids = |n: u32, salt: u32| -> Vec<u32> { (0..n).map(|i| (i * 31 + salt * 17) % 400).collect() };
    let reply = |salt: u32| -> Vec<ReplyToken> {
        let allowed = |i: u32| -> Vec<u32> { (0..8).map(|k| (salt * 5 + i * 11 + k) % 400).collect() };
        (0..3).map(|i| ReplyToken { token: allowed(i)[3], logprob: -2.0, allowed: allowed(i) }).collect()
    };
    let episode = |index: u32| {
        let turn = |turn: u32| TokenTurn {
            trunk: ids(if turn == 0 { 40 } else { 12 }, index + turn),
            branch: ids(20, index * 8 + turn),
            reply: reply(index * 8 + turn),
            invalid: false,
        };
        TokenTrajectory {
            group: u64::from(index / 8),
            stratum: 0,
            turns: (0..8).map(turn).collect(),
            return_: 0.0,
        }
    };
    (0..64).map(episode).collect()
}

fn main() -> Result<(), GrpoError> {
    let config = ModelConfig { vocab_size: 400, ..ModelConfig::tiny() };
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut policy = Transformer::init(&config, &mut rng)?;
    let reference = policy.clone();
    let trajectories = trajectories();
    let advantages: Vec<Vec<f32>> =
        (0..64).map(|index| vec![if index % 2 == 0 { 0.7 } else { -0.7 }; 8]).collect();
    let learner_config = LearnerConfig { minibatch_turns: 256, ..LearnerConfig::default() };
    let mut learner = Learner::new(&config, &learner_config)?;
    for (name, kl_coef) in [("update", 0.0), ("update_with_reference", 0.01)] {
        let loss = LossConfig { kl_coef, ..LossConfig::default() };
        let mut optimizer = Optimizer::new(&config, &OptimizerConfig::default())?;
        let (mut seconds, mut tokens) = (Vec::new(), 0);
        for _ in 0..6 {
            let start = Instant::now();
            let metrics = learner.update(
                &mut policy,
                &mut optimizer,
                &reference,
                &trajectories,
                &advantages,
                &loss,
                1.0,
                &mut rng,
            )?;
            seconds.push(start.elapsed().as_secs_f64());
            tokens = metrics.packed_tokens;
        }
        // The first run takes the memory.
        let mut seconds = seconds.split_off(1);
        seconds.sort_by(f64::total_cmp);
        println!(
            "{}",
            serde_json::json!({
                "op": name, "tokens": tokens, "seconds_best": seconds[0], "seconds_median": seconds[2],
                "tokens_per_s": (tokens as f64 / seconds[0]).round(),
            })
        );
    }
    Ok(())
}
