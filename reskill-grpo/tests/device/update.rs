use reskill_grpo::{
    KlEstimator, Learner, LearnerConfig, LossConfig, MomentPrecision, Optimizer, OptimizerConfig,
    UpdateMetrics,
};
use reskill_kernels::{Device, Tensor};
use reskill_model::{Gradients, Transformer};

use crate::support::{
    adapted, advantages, bits, device, difference, distance, model, narrow, rng, trajectories,
};

fn loss() -> LossConfig {
    LossConfig { clip_high: 0.25, kl_coef: 0.2, entropy_coef: 0.05, ..LossConfig::default() }
}

fn optimizer() -> OptimizerConfig {
    OptimizerConfig { learning_rate: 1e-3, ..OptimizerConfig::default() }
}

/// Three optimizer steps of GRPO; the metrics, the last gradient, the model.
fn train(
    start: &Transformer,
    device: &Device,
    loss: &LossConfig,
    optimizer: &OptimizerConfig,
) -> (UpdateMetrics, Gradients, Transformer) {
    let mut policy = start.to_device(device).unwrap();
    let reference = match start.adapter() {
        Some(_) => policy.without_adapter(),
        None => model(2).to_device(device).unwrap(),
    };
    let config = LearnerConfig { minibatch_turns: 5, max_tokens: 60, epochs: 1, ..LearnerConfig::default() };
    let mut learner = Learner::for_model(&policy, &config).unwrap();
    let mut optimizer = Optimizer::for_model(&policy, optimizer).unwrap();
    let (trajectories, rng) = (trajectories(7, 3), &mut rng(1));
    let metrics = learner
        .update(
            &mut policy,
            &mut optimizer,
            &reference,
            &trajectories,
            &advantages(&trajectories),
            loss,
            0.8,
            rng,
        )
        .unwrap();
    assert!(metrics.optimizer_steps >= 2, "{metrics:?}");
    (metrics, learner.grads().clone(), policy)
}

/// A step on `device` equals one on the CPU within these distances.
fn check(start: &Transformer, device: &Device, loss: &LossConfig, within: f64) {
    let (want_metrics, want_grads, want) = train(start, &Device::Cpu, loss, &optimizer());
    let (metrics, grads, got) = train(start, device, loss, &optimizer());
    let relative = |a: f64, b: f64| (a - b).abs() / b.abs().max(1e-3);
    assert!(relative(metrics.loss, want_metrics.loss) < within, "{} {}", metrics.loss, want_metrics.loss);
    assert!(relative(metrics.grad_norm, want_metrics.grad_norm) < within);
    let off = difference(&grads.tensors(), &want_grads.tensors());
    assert!(off < within, "gradients: {off}");
    let all = |model: &Transformer| -> Vec<Tensor> { model.trainable().into_iter().cloned().collect() };
    let (got, want) = (all(&got), all(&want));
    let off = difference(&got.iter().collect::<Vec<_>>(), &want.iter().collect::<Vec<_>>());
    assert!(off < within, "weights: {off}");
}

#[test]
fn a_training_step_on_a_device_is_that_of_the_processor() {
    // Gradients are sums in another order; Adam's first steps divide each by its own size, so a gradient of nearly zero
    // may move a weight by the learning rate in another direction: 1e-3 of weights near 1.
    check(&model(1), &device(), &loss(), 5e-3);
}

#[test]
fn a_training_step_with_the_full_divergence_is_that_of_the_processor() {
    check(&model(1), &device(), &LossConfig { kl: KlEstimator::Full, ..loss() }, 5e-3);
}

#[test]
fn a_training_step_of_an_adapter_is_that_of_the_processor() {
    check(&adapted(1), &device(), &loss(), 5e-3);
}

#[test]
fn a_training_step_in_bf16_is_that_of_the_processor_to_rounding() {
    for start in [model(1), adapted(1)] {
        // The same weights on both sides, so that only activations are rounded, some twenty times to 2^-9.
        let start = start.to_device(&narrow()).unwrap().to_device(&Device::Cpu).unwrap();
        let (want_metrics, want_grads, want) = train(&start, &Device::Cpu, &loss(), &optimizer());
        let (metrics, grads, got) = train(&start, &narrow(), &loss(), &optimizer());
        assert!((metrics.loss - want_metrics.loss).abs() < 0.05, "{} {}", metrics.loss, want_metrics.loss);
        assert!((metrics.grad_norm / want_metrics.grad_norm - 1.0).abs() < 0.1, "{metrics:?}");
        // A ratio near the clip may fall on its other side; a sign or a factor wrong would be 1 or more.
        let off = distance(&grads.tensors(), &want_grads.tensors());
        assert!(off < 0.2, "gradients: {off}");
        // Three steps of 1e-3 of weights near 0.25, which are then rounded.
        let off = difference(&got.trainable(), &want.trainable());
        assert!(off < 0.05, "weights: {off}");
    }
}

#[test]
fn two_training_runs_on_a_device_give_the_same_bits() {
    for device in [device(), narrow()] {
        let run = || train(&model(1), &device, &loss(), &optimizer());
        let ((metrics, _, a), (again, _, b)) = (run(), run());
        assert_eq!(metrics.loss.to_bits(), again.loss.to_bits());
        for (a, b) in a.trainable().into_iter().zip(b.trainable()) {
            assert_eq!(bits(a), bits(b));
        }
    }
}

#[test]
fn moments_in_eight_bits_train_on_a_device_as_on_the_processor() {
    let config = OptimizerConfig { moments: MomentPrecision::EightBit, ..optimizer() };
    let (_, _, want) = train(&model(1), &Device::Cpu, &loss(), &config);
    let (_, _, got) = train(&model(1), &device(), &loss(), &config);
    assert!(difference(&got.trainable(), &want.trainable()) < 5e-3);
}

#[test]
fn imitation_on_a_device_is_that_of_the_processor() {
    let trajectories = trajectories(5, 4);
    let all: Vec<_> = trajectories.iter().collect();
    let run = |device: &Device| {
        let mut policy = model(1).to_device(device).unwrap();
        let config =
            LearnerConfig { minibatch_turns: 5, max_tokens: 60, epochs: 1, ..LearnerConfig::default() };
        let mut learner = Learner::for_model(&policy, &config).unwrap();
        let mut optimizer = Optimizer::for_model(&policy, &optimizer()).unwrap();
        let mut losses = Vec::new();
        for _ in 0..4 {
            losses.push(learner.imitate(&mut policy, &mut optimizer, &all).unwrap().loss);
        }
        losses
    };
    let (want, got, narrow) = (run(&Device::Cpu), run(&device()), run(&narrow()));
    assert!(want[3] < want[0], "{want:?}");
    for ((want, got), narrow) in want.iter().zip(&got).zip(&narrow) {
        assert!((got - want).abs() < 1e-4, "{got}, expected {want}");
        assert!((narrow - want).abs() < 0.03, "{narrow}, expected {want}");
    }
}

#[test]
fn a_gradient_that_is_not_finite_is_skipped_on_a_device() {
    for device in [device(), narrow()] {
        let mut policy = model(1).to_device(&device).unwrap();
        let mut optimizer = Optimizer::for_model(&policy, &optimizer()).unwrap();
        let mut grads = Gradients::zeros(&policy).unwrap();
        grads.tensors_mut()[3].fill(f32::NAN).unwrap();
        let before: Vec<_> = policy.trainable().into_iter().map(bits).collect();
        let message = optimizer.update_model(&mut policy, &grads).unwrap_err().to_string();
        assert_eq!(message, "the gradient norm is NaN; the update was not applied");
        assert_eq!(optimizer.steps(), 0);
        assert_eq!(policy.trainable().into_iter().map(bits).collect::<Vec<_>>(), before);
    }
}
