//! Every option of the loss through the learner: gradients of all weights against finite differences of an f64 version.

use rand::RngExt;
use reskill_grpo::{
    KlEstimator, Learner, LearnerConfig, LossConfig, OldLogprobs, Optimizer, OptimizerConfig, RatioLevel,
    Reference as ReferencePolicy, SequenceUnit, Surrogate, TokenTrajectory, UpdateMetrics,
};
use reskill_model::{Params, Transformer};

use crate::reference::Reference;
use crate::support::{config, model, random_trajectories, rng};

const TEMPERATURE: f32 = 0.8;

fn advantages(trajectories: &[TokenTrajectory]) -> Vec<Vec<f32>> {
    let of = |(i, trajectory): (usize, &TokenTrajectory)| {
        (0..trajectory.turns.len()).map(|turn| [1.3, -0.8, 0.4, -2.1][(i + 3 * turn) % 4]).collect()
    };
    trajectories.iter().enumerate().map(of).collect()
}

fn run(model: &Transformer, trajectories: &[TokenTrajectory], loss: &LossConfig) -> (UpdateMetrics, Params) {
    // Packs of few tokens: sequences must stay whole.
    let learner_config =
        LearnerConfig { minibatch_turns: 1000, max_tokens: 30, epochs: 1, ..LearnerConfig::default() };
    let mut learner = Learner::new(model.config(), &learner_config).unwrap();
    let mut optimizer = Optimizer::new(model.config(), &OptimizerConfig::default()).unwrap();
    let frozen = crate::support::model(2);
    let metrics = learner
        .update(
            &mut model.clone(),
            &mut optimizer,
            &frozen,
            trajectories,
            &advantages(trajectories),
            loss,
            TEMPERATURE,
            &mut rng(1),
        )
        .unwrap();
    (metrics, learner.grads().full().unwrap().clone())
}

/// One trained token: log-probability, divergence from the frozen policy, what it was sampled with.
struct Token {
    logprob: f64,
    divergence: f64,
    sampled: f64,
    advantage: f64,
    sequence: usize,
}

fn tokens(
    network: &Reference,
    frozen: &Reference,
    trajectories: &[TokenTrajectory],
    loss: &LossConfig,
) -> Vec<Token> {
    let mut all = Vec::new();
    let mut sequence = 0;
    for (trajectory, advantages) in trajectories.iter().zip(advantages(trajectories)) {
        let mut trunk: Vec<u32> = Vec::new();
        for (turn, advantage) in trajectory.turns.iter().zip(advantages) {
            trunk.extend(&turn.trunk);
            let mut prompt = [&trunk[..], &turn.branch].concat();
            for token in &turn.reply {
                if !token.is_forced() {
                    let at = |model: &Reference| {
                        let hidden = model.hidden(&prompt);
                        model.logprobs(&hidden[hidden.len() - 1], &token.allowed, f64::from(TEMPERATURE))
                    };
                    let index = token
                        .allowed
                        .iter()
                        .position(|&id| id == token.token)
                        .unwrap_or(token.token as usize);
                    let (p, q) = (at(network), at(frozen));
                    let d = q[index] - p[index];
                    all.push(Token {
                        logprob: p[index],
                        divergence: match loss.kl {
                            KlEstimator::K1 => -d,
                            KlEstimator::K2 => d * d / 2.0,
                            KlEstimator::K3 => d.exp() - d - 1.0,
                            KlEstimator::Full => p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum(),
                        },
                        sampled: f64::from(token.logprob),
                        advantage: f64::from(advantage),
                        sequence,
                    });
                }
                prompt.push(token.token);
            }
            sequence += usize::from(loss.sequence == SequenceUnit::Turn);
        }
        sequence += usize::from(loss.sequence == SequenceUnit::Episode);
    }
    all
}

/// Token-mean loss; `held` are the tokens of the unmoved network, for what is not differentiated.
fn formula(tokens: &[Token], held: &[Token], loss: &LossConfig) -> f64 {
    let old = |i: usize| match loss.old_logprobs {
        OldLogprobs::Sampler => tokens[i].sampled,
        OldLogprobs::Recompute => held[i].logprob,
    };
    let log_ratio = |of: &[Token], i: usize| {
        if loss.ratio == RatioLevel::Token {
            return of[i].logprob - old(i);
        }
        let members: Vec<usize> = (0..of.len()).filter(|&j| of[j].sequence == of[i].sequence).collect();
        members.iter().map(|&j| of[j].logprob - old(j)).sum::<f64>() / members.len() as f64
    };
    let clip = |r: f64| r.clamp(1.0 - f64::from(loss.clip_low), 1.0 + f64::from(loss.clip_high));
    let total: f64 = (0..tokens.len())
        .map(|i| {
            let (token, a) = (&tokens[i], tokens[i].advantage);
            let r = log_ratio(tokens, i).exp();
            let policy = match loss.surrogate {
                Surrogate::Clip => {
                    let value = (-r * a).max(-clip(r) * a);
                    loss.dual_clip.filter(|_| a < 0.0).map_or(value, |c| value.min(-f64::from(c) * a))
                }
                Surrogate::Cispo => -clip(log_ratio(held, i).exp()) * a * token.logprob,
                Surrogate::Sapo => {
                    let tau = if a > 0.0 { 1.0 } else { 1.05 };
                    -4.0 / tau * a / (1.0 + (-tau * (r - 1.0)).exp())
                }
                Surrogate::PolicyGradient => -a * token.logprob,
            };
            let correction = loss
                .importance_truncation
                .map_or(1.0, |c| (held[i].logprob - token.sampled).exp().min(f64::from(c)));
            correction * policy + f64::from(loss.kl_coef) * token.divergence
        })
        .sum();
    total / tokens.len() as f64
}

fn check(loss: &LossConfig) -> UpdateMetrics {
    let policy = model(1);
    let trajectories = random_trajectories(5, 3);
    let (metrics, grads) = run(&policy, &trajectories, loss);
    let network = Reference::new(&config(), policy.params());
    let frozen = Reference::new(&config(), model(2).params());
    let held = tokens(&network, &frozen, &trajectories, loss);
    let want = formula(&held, &held, loss);
    assert!((metrics.loss - want).abs() < 1e-5 * (1.0 + want.abs()), "{loss:?}: {} for {want}", metrics.loss);
    let mut rng = rng(4);
    for (index, grad) in grads.tensors().iter().enumerate() {
        let largest = grad.as_slice().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
        assert!(largest > 1e-5, "{loss:?}: tensor {index} gets no gradient");
        for _ in 0..2 {
            let place = rng.random_range(0..grad.len());
            let at = |by: f64| {
                let mut moved = network.clone();
                moved.weights[index][place] += by;
                formula(&tokens(&moved, &frozen, &trajectories, loss), &held, loss)
            };
            let step = 1e-6;
            let want = (at(step) - at(-step)) / (2.0 * step);
            let got = f64::from(grad.as_slice()[place]);
            // f32 through two blocks and an exponential keeps some five digits of the largest element.
            let tolerance = 3e-4 * (want.abs() + 0.1 * f64::from(largest));
            assert!((got - want).abs() < tolerance, "{loss:?}: tensor {index}[{place}]: {got} for {want}");
        }
    }
    metrics
}

fn base() -> LossConfig {
    LossConfig { clip_high: 0.25, kl_coef: 0.2, ..LossConfig::default() }
}

#[test]
fn gradients_of_every_surrogate_equal_finite_differences() {
    for surrogate in [Surrogate::Cispo, Surrogate::Sapo, Surrogate::PolicyGradient] {
        check(&LossConfig { surrogate, ..base() });
    }
}

#[test]
fn gradients_of_every_divergence_equal_finite_differences() {
    for kl in [KlEstimator::K1, KlEstimator::K2, KlEstimator::Full] {
        let metrics = check(&LossConfig { kl, kl_coef: 0.7, ..base() });
        assert!(metrics.ref_kl.abs() > 1e-3);
    }
}

#[test]
fn gradients_of_sequence_ratios_equal_finite_differences_for_turns_and_episodes() {
    for sequence in [SequenceUnit::Turn, SequenceUnit::Episode] {
        check(&LossConfig { ratio: RatioLevel::Sequence, sequence, dual_clip: None, ..base() });
    }
}

#[test]
fn gradients_with_recomputed_and_truncated_ratios_equal_finite_differences() {
    let recompute = LossConfig { old_logprobs: OldLogprobs::Recompute, ..base() };
    let metrics = check(&recompute);
    // Nothing has moved yet, and the log-probabilities of the trajectories are made up.
    assert!(metrics.approx_kl == 0.0 && metrics.sampler_mismatch > 0.5, "{metrics:?}");
    assert_eq!((metrics.ratio.min, metrics.ratio.max), (1.0, 1.0));
    check(&LossConfig { importance_truncation: Some(1.1), ..recompute });
}

#[test]
fn the_filter_at_a_low_threshold_leaves_the_gradient() {
    let trajectories = random_trajectories(5, 3);
    let (_, exact) = run(&model(1), &trajectories, &base());
    let (_, filtered) = run(&model(1), &trajectories, &LossConfig { gradient_filter: Some(1e-9), ..base() });
    for (a, b) in exact.tensors().iter().zip(filtered.tensors()) {
        let largest = a.as_slice().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
        assert!(a.as_slice().iter().zip(b.as_slice()).all(|(a, b)| (a - b).abs() < 1e-5 * largest));
    }
}

#[test]
fn ratio_quantiles_bracket_the_ratios() {
    let (metrics, _) = run(&model(1), &random_trajectories(9, 3), &base());
    let ratio = metrics.ratio;
    assert!(
        ratio.min <= ratio.p01 && ratio.p01 < ratio.p50 && ratio.p50 < ratio.p99 && ratio.p99 <= ratio.max
    );
    let ten = reskill_grpo::RatioQuantiles::of((1..=10).map(|x| (x as f32).ln()).collect());
    assert!((ten.p50 - 5.0).abs() < 1e-5 && (ten.max - 10.0).abs() < 1e-5 && (ten.p01 - 1.0).abs() < 1e-5);
}

#[test]
fn a_penalty_without_a_reference_is_refused_and_none_is_needed_without_a_penalty() {
    let trajectories = random_trajectories(2, 3);
    let update = |loss: &LossConfig| {
        let mut learner = Learner::new(&config(), &LearnerConfig::default()).unwrap();
        let mut optimizer = Optimizer::new(&config(), &OptimizerConfig::default()).unwrap();
        learner.update(
            &mut model(1),
            &mut optimizer,
            ReferencePolicy::None,
            &trajectories,
            &advantages(&trajectories),
            loss,
            1.0,
            &mut rng(1),
        )
    };
    assert_eq!(
        update(&base()).unwrap_err().to_string(),
        "`loss.kl_coef` = 0.2, expected 0 where there is no reference policy"
    );
    update(&LossConfig { kl_coef: 0.0, ..base() }).unwrap();
}
