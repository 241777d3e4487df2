//! The learner of a policy with an adapter: its gradient, what it leaves alone, its reference.

use std::collections::BTreeSet;

use reskill_grpo::{
    GrpoError, KlEstimator, Learner, LearnerConfig, LossConfig, Optimizer, OptimizerConfig, Reference,
    UpdateMetrics,
};
use reskill_model::lora::Target;
use reskill_model::{Gradients, Lora, LoraConfig, Transformer};

use crate::support::{model, random_trajectories, rng};

fn with_adapter(targets: &[Target]) -> Transformer {
    let mut policy = model(1);
    let config = LoraConfig {
        r: 3,
        lora_alpha: 6.0,
        target_modules: BTreeSet::from_iter(targets.iter().copied()),
        use_rslora: false,
    };
    policy.attach(Lora::init(policy.config(), &config, &mut rng(8)).unwrap()).unwrap();
    policy
}

fn update(
    policy: &mut Transformer,
    learner: &mut Learner,
    optimizer: &mut Optimizer,
    reference: Option<&Transformer>,
    kl: KlEstimator,
) -> UpdateMetrics {
    let trajectories = random_trajectories(6, 3);
    let advantages: Vec<Vec<f32>> = trajectories
        .iter()
        .enumerate()
        .map(|(index, one)| vec![if index % 2 == 0 { 1.0 } else { -0.5 }; one.turns.len()])
        .collect();
    let kl_coef = if reference.is_some() { 0.3 } else { 0.0 };
    let loss = LossConfig { kl_coef, kl, entropy_coef: 0.05, ..LossConfig::default() };
    let reference = reference.map_or(Reference::None, Reference::Frozen);
    learner.update(policy, optimizer, reference, &trajectories, &advantages, &loss, 0.9, &mut rng(4)).unwrap()
}

fn config() -> LearnerConfig {
    LearnerConfig { minibatch_turns: 1000, ..LearnerConfig::default() }
}

fn numbers() -> OptimizerConfig {
    OptimizerConfig { learning_rate: 0.01, ..OptimizerConfig::default() }
}

#[test]
fn the_gradient_of_a_fresh_adapter_is_that_of_the_weights_times_its_other_factor() {
    let mut policy = with_adapter(&[Target::OProj, Target::DownProj]);
    let mut full = policy.without_adapter();
    let reference = model(2);
    for kl in [KlEstimator::K3, KlEstimator::Full] {
        let mut learner = Learner::for_model(&policy, &config()).unwrap();
        let mut of_weights = Learner::new(full.config(), &config()).unwrap();
        let mut optimizer = Optimizer::for_model(&policy, &numbers()).unwrap();
        let mut other = Optimizer::new(full.config(), &numbers()).unwrap();
        let adapter = policy.adapter().unwrap().clone();
        update(&mut policy.clone(), &mut learner, &mut optimizer, Some(&reference), kl);
        update(&mut full.clone(), &mut of_weights, &mut other, Some(&reference), kl);
        let weights = of_weights.grads().full().unwrap();
        let Gradients::Adapter(grads) = learner.grads() else { panic!("not those of an adapter") };
        let scale = adapter.config().scale();
        let factors: Vec<_> = adapter.tensors().into_iter().zip(grads.tensors()).collect();
        for (layer, factors) in weights.layers.iter().zip(factors.chunks(4)) {
            for (d_weight, pair) in [&layer.out, &layer.down].into_iter().zip(factors.chunks(2)) {
                let ((a, d_a), (_, d_b)) = (pair[0], pair[1]);
                // B is zero, so A moves nothing yet.
                assert!(d_a.as_slice().iter().all(|&x| x == 0.0));
                let rows = d_weight.as_slice().chunks(a.row_len()).zip(d_b.as_slice().chunks(a.rows()));
                for (d_row, d_b) in rows {
                    for (&got, a) in d_b.iter().zip(a.as_slice().chunks(a.row_len())) {
                        let want = scale * d_row.iter().zip(a).map(|(d, a)| d * a).sum::<f32>();
                        // Sums of some dozen f32 in two orders.
                        assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "{got} {want}");
                    }
                }
            }
        }
    }
    assert!(full.adapter().is_none() && policy.trainable_mut().len() < full.trainable_mut().len());
}

#[test]
fn an_update_moves_the_adapter_alone_and_its_reference_is_the_model_without_it() {
    let mut policy = with_adapter(&Target::ALL);
    let before = policy.clone();
    let mut learner = Learner::for_model(&policy, &config()).unwrap();
    let mut optimizer = Optimizer::for_model(&policy, &numbers()).unwrap();
    let mut divergences = Vec::new();
    for _ in 0..2 {
        let reference = policy.without_adapter();
        let metrics = update(&mut policy, &mut learner, &mut optimizer, Some(&reference), KlEstimator::K3);
        divergences.push(metrics.ref_kl);
    }
    assert_eq!(divergences[0], 0.0, "a fresh adapter changes nothing");
    assert!(divergences[1] > 0.0);
    assert_eq!(policy.params(), before.params());
    assert!(std::ptr::eq(policy.params(), before.params()), "the frozen weights were copied");
    assert_ne!(policy.adapter(), before.adapter());
}

#[test]
fn a_saved_optimizer_of_an_adapter_goes_on_as_it_was() {
    let mut policy = with_adapter(&[Target::QProj, Target::UpProj]);
    let mut learner = Learner::for_model(&policy, &config()).unwrap();
    let mut optimizer = Optimizer::for_model(&policy, &numbers()).unwrap();
    update(&mut policy, &mut learner, &mut optimizer, None, KlEstimator::K3);
    let path = std::path::Path::new("moments");
    let file = |moments: &Gradients| moments.to_safetensors(policy.config()).unwrap();
    let (m, v) = optimizer.moments().unwrap();
    let read = |bytes: &[u8]| Gradients::from_safetensors(&policy, bytes, path).unwrap();
    let moments = (read(&file(&m)), read(&file(&v)));
    let mut restored = Optimizer::restore(&numbers(), moments, optimizer.steps()).unwrap();
    let mut other = policy.clone();
    update(&mut policy, &mut learner, &mut optimizer, None, KlEstimator::K3);
    update(&mut other, &mut learner, &mut restored, None, KlEstimator::K3);
    assert_eq!(policy.adapter(), other.adapter());
    assert_eq!(optimizer, restored);
}

#[test]
fn gradients_of_other_tensors_than_the_trained_ones_are_refused() {
    let mut policy = with_adapter(&[Target::QProj]);
    let full = Gradients::zeros(&model(1)).unwrap();
    let mut optimizer = Optimizer::for_model(&policy, &numbers()).unwrap();
    let refused = optimizer.update_model(&mut policy, &full).unwrap_err();
    assert!(matches!(refused, GrpoError::LengthMismatch { right: "gradients", .. }), "{refused}");
    let own = Gradients::zeros(&policy).unwrap();
    let mut other = Optimizer::new(policy.config(), &numbers()).unwrap();
    let refused = other.update_model(&mut policy, &own).unwrap_err();
    assert!(matches!(refused, GrpoError::LengthMismatch { right: "moments", .. }), "{refused}");
}
