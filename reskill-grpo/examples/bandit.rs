//! A policy learns which of eight arms pays for which of four cues: `cargo run --release -p reskill-grpo --example bandit`.
//!
//! Each step plays every cue 16 times, one group per cue, and makes one update.
#![expect(clippy::print_stdout, reason = "an example prints its result")]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_grpo::{
    AdvantageConfig, GrpoError, Learner, LearnerConfig, LossConfig, Optimizer, OptimizerConfig,
    TokenTrajectory, TokenTurn, turn_advantages,
};
use reskill_model::{Generator, ModelConfig, Request, SamplingParams, TokenTrie, Transformer};

/// Tokens: 0 ends a reply, 1 to 4 are cues, 5 to 12 are arms. Cue `c` pays for arm `2 c + 3`.
const CUES: [u32; 4] = [1, 2, 3, 4];
const ARMS: [u32; 8] = [5, 6, 7, 8, 9, 10, 11, 12];
const GROUP_SIZE: usize = 16;
const SAMPLING: SamplingParams = SamplingParams { temperature: 1.0, max_new_tokens: 1, end_token: 0 };

fn play(model: &Transformer, rng: &mut ChaCha8Rng) -> Result<Vec<TokenTrajectory>, GrpoError> {
    let arms: Vec<&[u32]> = ARMS.iter().map(std::slice::from_ref).collect();
    let trie = TokenTrie::new(&arms, SAMPLING.end_token);
    let n = CUES.len() * GROUP_SIZE;
    let mut generator = Generator::new(model.config(), n, 4)?;
    let mut requests: Vec<Request<'_, ChaCha8Rng>> = (0..n)
        .map(|slot| Request {
            slot,
            tokens: std::slice::from_ref(&CUES[slot / GROUP_SIZE]),
            constraint: &trie,
            rng: ChaCha8Rng::seed_from_u64(rng.random()),
        })
        .collect();
    let (replies, _) = generator.generate(model, &mut requests, &SAMPLING)?;
    let played = replies.into_iter().enumerate().map(|(slot, reply)| {
        let cue = CUES[slot / GROUP_SIZE];
        let paid = reply.ids() == [2 * cue + 3];
        TokenTrajectory {
            group: u64::from(cue),
            stratum: 0,
            turns: vec![TokenTurn { trunk: vec![], branch: vec![cue], reply: reply.tokens, invalid: false }],
            return_: if paid { 1.0 } else { 0.0 },
        }
    });
    Ok(played.collect())
}

fn main() -> Result<(), GrpoError> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let config = ModelConfig {
        vocab_size: 13,
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 2,
        head_dim: 16,
        ..ModelConfig::tiny()
    };
    let mut policy = Transformer::init(&config, &mut rng)?;
    let reference = policy.clone();
    let mut learner = Learner::new(&config, &LearnerConfig::default())?;
    let numbers = OptimizerConfig { learning_rate: 3e-3, weight_decay: 0.0, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(&config, &numbers)?;
    println!("step  mean return  entropy  k3 to reference");
    for step in 0..50 {
        let trajectories = play(&policy, &mut rng)?;
        let advantages = turn_advantages(&trajectories, &AdvantageConfig::default())?;
        let metrics = learner.update(
            &mut policy,
            &mut optimizer,
            &reference,
            &trajectories,
            &advantages,
            &LossConfig::default(),
            SAMPLING.temperature,
            &mut rng,
        )?;
        let mean =
            trajectories.iter().map(|trajectory| trajectory.return_).sum::<f32>() / trajectories.len() as f32;
        if step % 5 == 0 || step == 49 {
            println!("{step:4}  {mean:11.3}  {:7.3}  {:15.4}", metrics.entropy, metrics.ref_kl);
        }
    }
    Ok(())
}
