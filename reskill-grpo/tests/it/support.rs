//! Trajectories and small models.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_grpo::{TokenTrajectory, TokenTurn};
use reskill_model::{ModelConfig, ReplyToken, Transformer};

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

pub(crate) fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 17,
        hidden_size: 12,
        intermediate_size: 20,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        max_position_embeddings: 64,
        ..ModelConfig::tiny()
    }
}

pub(crate) fn model(seed: u64) -> Transformer {
    Transformer::init(&config(), &mut rng(seed)).unwrap()
}

pub(crate) fn token(token: u32, logprob: f32, allowed: &[u32]) -> ReplyToken {
    ReplyToken { token, logprob, allowed: allowed.to_vec() }
}

/// A trajectory of one-token turns with this return in this group; the turns listed are invalid.
pub(crate) fn trajectory(group: u64, return_: f32, n_turns: usize, invalid: &[usize]) -> TokenTrajectory {
    let turn = |index: usize| TokenTurn {
        trunk: vec![1],
        branch: vec![2],
        reply: vec![token(3, -1.0, &[])],
        invalid: invalid.contains(&index),
    };
    TokenTrajectory { group, stratum: 0, turns: (0..n_turns).map(turn).collect(), return_ }
}

/// Turns with drawn, restricted and forced tokens, and log-probabilities some way off.
pub(crate) fn random_trajectories(n: usize, seed: u64) -> Vec<TokenTrajectory> {
    let mut rng = rng(seed);
    let mut ids = |n: usize| -> Vec<u32> { (0..n).map(|_| rng.random_range(0..17)).collect() };
    let mut trajectories = Vec::new();
    for index in 0..n {
        let turns = (0..1 + index % 3)
            .map(|turn| {
                let reply = ids(1 + (index + turn) % 4)
                    .into_iter()
                    .enumerate()
                    .map(|(i, id)| {
                        let allowed = match i % 3 {
                            0 => vec![],
                            1 => vec![id, (id + 3) % 17, (id + 7) % 17],
                            _ => vec![id],
                        };
                        let logprob = if allowed.len() == 1 {
                            0.0
                        } else {
                            -1.0 - 0.2 * ((id + 2 * i as u32) % 9) as f32
                        };
                        token(id, logprob, &allowed)
                    })
                    .collect();
                TokenTurn { trunk: ids(index % 2 + turn), branch: ids(2 + turn), reply, invalid: false }
            })
            .collect();
        trajectories.push(TokenTrajectory {
            group: index as u64 / 2,
            stratum: 0,
            turns,
            return_: (index % 2) as f32,
        });
    }
    trajectories
}
