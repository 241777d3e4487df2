//! Episodes as trunk and branches equal their turns as separate samples: log-probabilities and all gradients, on random
//! trees of 1 to 50 turns.

use rand::RngExt;
use reskill_grpo::{
    Learner, LearnerConfig, LossConfig, Optimizer, OptimizerConfig, TokenTrajectory, TokenTurn, UpdateMetrics,
};
use reskill_model::{ModelConfig, Params, Transformer};

use crate::support::{config, rng, token};

fn sizes() -> ModelConfig {
    ModelConfig { max_position_embeddings: 512, ..config() }
}

/// An episode of `n_turns` turns of random lengths.
fn tree(n_turns: usize, seed: u64) -> TokenTrajectory {
    let mut rng = rng(seed);
    let turns = (0..n_turns)
        .map(|_| {
            let mut ids = |n: usize| -> Vec<u32> { (0..n).map(|_| rng.random_range(0..17)).collect() };
            let (trunk, branch, reply) = (ids(5), ids(4), ids(3));
            let (n_trunk, n_branch, n_reply) =
                (rng.random_range(0..=5), rng.random_range(1..=4), rng.random_range(1..=3));
            TokenTurn {
                trunk: trunk[..n_trunk].to_vec(),
                branch: branch[..n_branch].to_vec(),
                reply: reply[..n_reply].iter().map(|&id| token(id, -2.8, &[])).collect(),
                invalid: false,
            }
        })
        .collect();
    TokenTrajectory { group: 0, stratum: 0, turns, return_: 0.0 }
}

/// Each turn as a trajectory of its own, with its whole prompt.
fn separate(trajectory: &TokenTrajectory) -> Vec<TokenTrajectory> {
    let mut trunk: Vec<u32> = Vec::new();
    let sample = |turn: &TokenTurn| {
        trunk.extend(&turn.trunk);
        let branch = trunk.iter().chain(&turn.branch).copied().collect();
        let turn = TokenTurn { trunk: vec![], branch, ..turn.clone() };
        TokenTrajectory { turns: vec![turn], ..trajectory.clone() }
    };
    trajectory.turns.iter().map(sample).collect()
}

fn run(
    model: &Transformer,
    trajectories: &[TokenTrajectory],
    advantages: &[Vec<f32>],
) -> (UpdateMetrics, Params) {
    let learner_config = LearnerConfig {
        minibatch_turns: 100_000,
        max_tokens: 100_000,
        epochs: 1,
        ..LearnerConfig::default()
    };
    let mut learner = Learner::new(&sizes(), &learner_config).unwrap();
    let mut optimizer = Optimizer::new(&sizes(), &OptimizerConfig::default()).unwrap();
    let frozen = Transformer::init(&sizes(), &mut rng(2)).unwrap();
    let loss = LossConfig { kl_coef: 0.1, entropy_coef: 0.05, ..LossConfig::default() };
    let metrics = learner
        .update(
            &mut model.clone(),
            &mut optimizer,
            &frozen,
            trajectories,
            advantages,
            &loss,
            0.9,
            &mut rng(3),
        )
        .unwrap();
    (metrics, learner.grads().full().unwrap().clone())
}

#[test]
fn random_trees_give_the_log_probabilities_and_gradients_of_separate_samples() {
    let model = Transformer::init(&sizes(), &mut rng(1)).unwrap();
    for (n_turns, seed) in [(1, 1), (2, 2), (3, 3), (7, 4), (13, 5), (24, 6), (37, 7), (50, 8), (50, 9)] {
        let whole = tree(n_turns, seed);
        let advantages: Vec<f32> = (0..n_turns).map(|turn| [1.0, -0.6, 0.3][turn % 3]).collect();
        let samples = separate(&whole);
        let alone: Vec<Vec<f32>> = advantages.iter().map(|&advantage| vec![advantage]).collect();
        let (one, together) = run(&model, std::slice::from_ref(&whole), &[advantages]);
        let (many, apart) = run(&model, &samples, &alone);
        // Log-probabilities are equal to the bit, so whatever is computed from them is, but for the order of sums.
        assert_eq!((one.sampler_mismatch, one.ratio), (many.sampler_mismatch, many.ratio));
        assert!((one.loss - many.loss).abs() < 1e-6 * (1.0 + one.loss.abs()), "{n_turns} turns");
        assert!((one.entropy - many.entropy).abs() < 1e-9);
        for (index, (a, b)) in together.tensors().iter().zip(apart.tensors()).enumerate() {
            let distance: f64 = a
                .as_slice()
                .iter()
                .zip(b.as_slice())
                .map(|(a, b)| f64::from(a - b).powi(2))
                .sum::<f64>()
                .sqrt();
            let norm: f64 = a.as_slice().iter().map(|a| f64::from(*a).powi(2)).sum::<f64>().sqrt();
            assert!(norm > 0.0, "tensor {index} gets no gradient");
            // f32 sums of the same terms in another order.
            assert!(distance <= 1e-5 * norm, "{n_turns} turns, tensor {index}: {distance:e} of {norm:e}");
        }
    }
}
