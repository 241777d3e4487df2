use rand::RngExt;
use reskill_grpo::{
    Aggregation, Learner, LearnerConfig, LossConfig, MinibatchSplit, OldLogprobs, Optimizer, OptimizerConfig,
    SequenceUnit, TokenTrajectory, UpdateMetrics,
};
use reskill_model::{Params, Transformer};

use crate::reference::Reference;
use crate::support::{config, model, random_trajectories, rng};

const TEMPERATURE: f32 = 0.8;

/// Advantages of both signs and sizes.
fn advantages(trajectories: &[TokenTrajectory]) -> Vec<Vec<f32>> {
    let of = |(i, trajectory): (usize, &TokenTrajectory)| {
        (0..trajectory.turns.len()).map(|turn| [1.3, -0.8, 0.4, -2.1][(i + 3 * turn) % 4]).collect()
    };
    trajectories.iter().enumerate().map(of).collect()
}

fn loss() -> LossConfig {
    LossConfig { clip_high: 0.25, kl_coef: 0.2, entropy_coef: 0.05, ..LossConfig::default() }
}

/// One optimizer step over all trajectories; returns the gradient.
fn run(
    model: &Transformer,
    trajectories: &[TokenTrajectory],
    advantages: &[Vec<f32>],
    loss: &LossConfig,
    max_tokens: usize,
) -> (UpdateMetrics, Params) {
    let learner_config =
        LearnerConfig { minibatch_turns: 1000, max_tokens, epochs: 1, ..LearnerConfig::default() };
    let mut learner = Learner::new(model.config(), &learner_config).unwrap();
    let mut optimizer = Optimizer::new(model.config(), &OptimizerConfig::default()).unwrap();
    let reference = crate::support::model(2);
    let mut updated = model.clone();
    let metrics = learner
        .update(
            &mut updated,
            &mut optimizer,
            &reference,
            trajectories,
            advantages,
            loss,
            TEMPERATURE,
            &mut rng(1),
        )
        .unwrap();
    (metrics, learner.grads().full().unwrap().clone())
}

/// The loss of the whole batch in f64, prompt by prompt, from the formulas alone.
fn reference_loss(
    model: &Reference,
    frozen: &Reference,
    trajectories: &[TokenTrajectory],
    advantages: &[Vec<f32>],
    loss: &LossConfig,
) -> f64 {
    let wide = |x: f32| f64::from(x);
    let mut total = 0.0;
    let n_sequences = trajectories
        .iter()
        .flat_map(|t| &t.turns)
        .filter(|turn| turn.reply.iter().any(|t| !t.is_forced()))
        .count();
    let n_tokens: usize = trajectories.iter().map(TokenTrajectory::trained_len).sum();
    for (trajectory, advantages) in trajectories.iter().zip(advantages) {
        let mut trunk: Vec<u32> = Vec::new();
        for (turn, &advantage) in trajectory.turns.iter().zip(advantages) {
            trunk.extend(&turn.trunk);
            let mut prompt = [&trunk[..], &turn.branch].concat();
            let n_reply = turn.reply.iter().filter(|token| !token.is_forced()).count();
            for token in &turn.reply {
                if !token.is_forced() {
                    let at = |model: &Reference| {
                        let hidden = model.hidden(&prompt);
                        model.logprobs(&hidden[hidden.len() - 1], &token.allowed, wide(TEMPERATURE))
                    };
                    let index = token
                        .allowed
                        .iter()
                        .position(|&id| id == token.token)
                        .unwrap_or(token.token as usize);
                    let logprobs = at(model);
                    let ratio = (logprobs[index] - wide(token.logprob)).exp();
                    let clipped = ratio.clamp(1.0 - wide(loss.clip_low), 1.0 + wide(loss.clip_high));
                    let mut value = -(ratio * wide(advantage)).min(clipped * wide(advantage));
                    if let (Some(dual), true) = (loss.dual_clip, advantage < 0.0) {
                        value = value.min(-wide(dual) * wide(advantage));
                    }
                    let d = at(frozen)[index] - logprobs[index];
                    let entropy = -logprobs.iter().map(|x| x.exp() * x).sum::<f64>();
                    value += wide(loss.kl_coef) * (d.exp() - d - 1.0) - wide(loss.entropy_coef) * entropy;
                    total += value
                        / match loss.aggregation {
                            Aggregation::TokenMean => n_tokens as f64,
                            Aggregation::SeqMeanTokenSum => n_sequences as f64,
                            Aggregation::SeqMeanTokenMean => (n_sequences * n_reply) as f64,
                            Aggregation::Constant => wide(loss.constant),
                        };
                }
                prompt.push(token.token);
            }
        }
    }
    total
}

fn check(loss: &LossConfig, n_coordinates: usize) -> UpdateMetrics {
    let model = model(1);
    let trajectories = random_trajectories(6, 3);
    let advantages = advantages(&trajectories);
    let (metrics, grads) = run(&model, &trajectories, &advantages, loss, 4096);
    let reference = Reference::new(&config(), model.params());
    let frozen = Reference::new(&config(), crate::support::model(2).params());
    let of = |model: &Reference| reference_loss(model, &frozen, &trajectories, &advantages, loss);
    let at = of(&reference);
    assert!((metrics.loss - at).abs() < 1e-5 * (1.0 + at.abs()), "{} for {at}", metrics.loss);
    let mut rng = rng(4);
    for (index, grad) in grads.tensors().iter().enumerate() {
        let largest = grad.as_slice().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
        assert!(largest > 1e-4, "tensor {index} gets no gradient");
        for _ in 0..n_coordinates {
            let place = rng.random_range(0..grad.len());
            let moved = |by: f64| {
                let mut moved = reference.clone();
                moved.weights[index][place] += by;
                of(&moved)
            };
            let step = 1e-6;
            let want = (moved(step) - moved(-step)) / (2.0 * step);
            let got = f64::from(grad.as_slice()[place]);
            // f32 through two blocks and an exponential keeps some five digits of the largest element. A ratio within
            // 1e-5 of a clip would be told by a far larger difference.
            let tolerance = 3e-4 * (want.abs() + 0.1 * f64::from(largest));
            assert!((got - want).abs() < tolerance, "tensor {index}[{place}]: {got} for {want}");
        }
    }
    metrics
}

#[test]
fn gradient_of_model_and_loss_equals_finite_differences_with_clips_penalty_and_entropy() {
    let metrics = check(&loss(), 6);
    // The data reach every part of the loss.
    assert!(metrics.clip_fraction_high > 0.0 && metrics.clip_fraction_low > 0.0 && metrics.ref_kl > 0.01);
    assert!(metrics.clip_fraction_high + metrics.clip_fraction_low < 0.9 && metrics.entropy > 0.5);
}

#[test]
fn gradient_equals_finite_differences_under_every_aggregation() {
    for aggregation in [Aggregation::SeqMeanTokenSum, Aggregation::SeqMeanTokenMean, Aggregation::Constant] {
        check(&LossConfig { aggregation, constant: 40.0, dual_clip: None, ..loss() }, 1);
    }
}

#[test]
fn gradients_accumulated_over_packs_equal_those_of_one_pack() {
    let model = model(1);
    let trajectories = random_trajectories(12, 3);
    let advantages = advantages(&trajectories);
    let (whole, one) = run(&model, &trajectories, &advantages, &loss(), 100_000);
    for max_tokens in [1, 40] {
        let (parts, many) = run(&model, &trajectories, &advantages, &loss(), max_tokens);
        assert!((whole.loss - parts.loss).abs() < 1e-6);
        assert_eq!(
            (whole.trained_tokens, whole.optimizer_steps),
            (parts.trained_tokens, parts.optimizer_steps)
        );
        for (a, b) in one.tensors().iter().zip(many.tensors()) {
            let largest = a.as_slice().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
            // The same terms in another order.
            assert!(a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| (a - b).abs() < 1e-5 * largest));
        }
    }
}

#[test]
fn advantages_of_zero_leave_only_penalty_and_entropy() {
    let model = model(1);
    let trajectories = random_trajectories(4, 3);
    let none: Vec<Vec<f32>> = trajectories.iter().map(|t| vec![0.0; t.turns.len()]).collect();
    let plain = LossConfig { kl_coef: 0.0, entropy_coef: 0.0, ..loss() };
    let (metrics, grads) = run(&model, &trajectories, &none, &plain, 4096);
    assert_eq!((metrics.loss, metrics.grad_norm), (0.0, 0.0));
    assert!(grads.tensors().iter().all(|grad| grad.as_slice().iter().all(|&x| x == 0.0)));
}

#[test]
fn imitation_lowers_the_cross_entropy_it_reports() {
    let mut policy = model(1);
    let trajectories = random_trajectories(6, 3);
    let members: Vec<&TokenTrajectory> = trajectories.iter().collect();
    let frozen = Reference::new(&config(), policy.params());
    let mut want = 0.0;
    let mut n = 0;
    for trajectory in &trajectories {
        let mut trunk: Vec<u32> = Vec::new();
        for turn in &trajectory.turns {
            trunk.extend(&turn.trunk);
            let mut prompt = [&trunk[..], &turn.branch].concat();
            for token in &turn.reply {
                if !token.is_forced() {
                    let hidden = frozen.hidden(&prompt);
                    let logprobs = frozen.logprobs(&hidden[hidden.len() - 1], &token.allowed, 1.0);
                    let index = token
                        .allowed
                        .iter()
                        .position(|&id| id == token.token)
                        .unwrap_or(token.token as usize);
                    want -= logprobs[index];
                    n += 1;
                }
                prompt.push(token.token);
            }
        }
    }
    let mut learner = Learner::new(policy.config(), &LearnerConfig::default()).unwrap();
    let numbers = OptimizerConfig { learning_rate: 3e-3, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(policy.config(), &numbers).unwrap();
    let first = learner.imitate(&mut policy, &mut optimizer, &members).unwrap();
    assert!((first.loss - want / f64::from(n)).abs() < 1e-5);
    assert_eq!(first.trained_tokens, u64::from(n as u32));
    let mut last = first.clone();
    for _ in 0..60 {
        last = learner.imitate(&mut policy, &mut optimizer, &members).unwrap();
    }
    assert!(last.loss < 0.5 * first.loss, "{} after {}", last.loss, first.loss);
}

#[test]
fn minibatches_cover_every_trajectory_once_an_epoch() {
    let model = model(1);
    let trajectories = random_trajectories(12, 3);
    let turns: usize = trajectories.iter().map(|t| t.turns.len()).sum();
    assert_eq!(turns, 24);
    let trained: u64 = trajectories.iter().map(|t| t.trained_len() as u64).sum();
    // A rest of at least half a mini-batch stands alone, a smaller one joins the one before.
    for (minibatch_turns, epochs) in [(1, 1), (5, 2), (24, 1), (100, 3)] {
        let learner_config =
            LearnerConfig { minibatch_turns, max_tokens: 50, epochs, ..LearnerConfig::default() };
        let mut learner = Learner::new(model.config(), &learner_config).unwrap();
        let mut optimizer = Optimizer::new(model.config(), &OptimizerConfig::default()).unwrap();
        let metrics = learner
            .update(
                &mut model.clone(),
                &mut optimizer,
                &model,
                &trajectories,
                &advantages(&trajectories),
                &loss(),
                TEMPERATURE,
                &mut rng(5),
            )
            .unwrap();
        assert_eq!(metrics.trained_tokens, trained * epochs as u64);
        assert_eq!(metrics.optimizer_steps, optimizer.steps());
        assert!(metrics.optimizer_steps <= (epochs * turns.div_ceil(minibatch_turns)) as u64);
    }
}

#[test]
fn a_mini_batch_of_turns_has_the_gradient_of_the_same_turns_in_whole_trajectories() {
    let model = model(1);
    let trajectories = random_trajectories(6, 3);
    let advantages = advantages(&trajectories);
    for old_logprobs in [OldLogprobs::Sampler, OldLogprobs::Recompute] {
        let loss = LossConfig { old_logprobs, ..loss() };
        let (_, whole) = run(&model, &trajectories, &advantages, &loss, 4096);
        // All turns in one mini-batch, drawn turn by turn, in packs of a few tokens.
        let config = LearnerConfig {
            minibatch_turns: 1000,
            minibatch_split: MinibatchSplit::Turn,
            max_tokens: 30,
            ..LearnerConfig::default()
        };
        let mut learner = Learner::new(model.config(), &config).unwrap();
        let mut optimizer = Optimizer::new(model.config(), &OptimizerConfig::default()).unwrap();
        let reference = crate::support::model(2);
        let (mut updated, mut order) = (model.clone(), rng(9));
        learner
            .update(
                &mut updated,
                &mut optimizer,
                &reference,
                &trajectories,
                &advantages,
                &loss,
                TEMPERATURE,
                &mut order,
            )
            .unwrap();
        for (a, b) in whole.tensors().iter().zip(learner.grads().full().unwrap().tensors()) {
            let largest = a.as_slice().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
            // The same terms in another order.
            assert!(a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| (a - b).abs() < 1e-5 * largest));
        }
    }
}

#[test]
fn mini_batches_of_turns_make_one_step_for_each_count() {
    let model = model(1);
    let trajectories = random_trajectories(12, 3);
    let trained: u64 = trajectories.iter().map(|t| t.trained_len() as u64).sum();
    let config = LearnerConfig {
        minibatch_turns: 5,
        minibatch_split: MinibatchSplit::Turn,
        ..LearnerConfig::default()
    };
    let mut learner = Learner::new(model.config(), &config).unwrap();
    let mut optimizer = Optimizer::new(model.config(), &OptimizerConfig::default()).unwrap();
    let mut update = |loss: &LossConfig| {
        learner.update(
            &mut model.clone(),
            &mut optimizer,
            &model,
            &trajectories,
            &advantages(&trajectories),
            loss,
            TEMPERATURE,
            &mut rng(5),
        )
    };
    let metrics = update(&loss()).unwrap();
    // 24 turns: four fives and a rest of four, which is more than half.
    assert_eq!((metrics.optimizer_steps, metrics.trained_tokens), (5, trained));
    let episodes = LossConfig { sequence: SequenceUnit::Episode, ..loss() };
    assert_eq!(
        update(&episodes).unwrap_err().to_string(),
        "`learner.minibatch_split` = turn, expected `trajectory` where loss.sequence is `episode`: a sequence is not cut"
    );
}

#[test]
fn update_refuses_advantages_that_do_not_fit() {
    let model = model(1);
    let trajectories = random_trajectories(2, 3);
    let refused = |advantages: &[Vec<f32>]| {
        let mut learner = Learner::new(model.config(), &LearnerConfig::default()).unwrap();
        let mut optimizer = Optimizer::new(model.config(), &OptimizerConfig::default()).unwrap();
        learner
            .update(
                &mut model.clone(),
                &mut optimizer,
                &model,
                &trajectories,
                advantages,
                &loss(),
                1.0,
                &mut rng(1),
            )
            .unwrap_err()
            .to_string()
    };
    assert_eq!(refused(&[vec![1.0]]), "`trajectories` has 2 entries, `advantages` has 1");
    assert_eq!(refused(&[vec![1.0], vec![1.0]]), "`turns` has 2 entries, `advantages` has 1");
    assert_eq!(
        Learner::new(model.config(), &LearnerConfig { epochs: 0, ..LearnerConfig::default() })
            .unwrap_err()
            .to_string(),
        "`learner.epochs` = 0, expected at least 1"
    );
}
