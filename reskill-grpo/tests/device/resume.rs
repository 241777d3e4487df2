use std::path::Path;

use reskill_grpo::{Learner, LearnerConfig, MinibatchSplit, Optimizer, OptimizerConfig};
use reskill_kernels::{DType, Device};
use reskill_model::{Gradients, Transformer};

use crate::support::{adapted, bits, device, model, narrow, trajectories};

const CONFIG: LearnerConfig = LearnerConfig {
    minibatch_turns: 5,
    minibatch_split: MinibatchSplit::Trajectory,
    max_tokens: 60,
    epochs: 1,
};

fn steps(policy: &mut Transformer, optimizer: &mut Optimizer, n: usize) {
    let trajectories = trajectories(4, 4);
    let all: Vec<_> = trajectories.iter().collect();
    let mut learner = Learner::for_model(policy, &CONFIG).unwrap();
    for _ in 0..n {
        learner.imitate(policy, optimizer, &all).unwrap();
    }
}

/// What is trained in f32, as a checkpoint holds it.
fn trained(policy: &Transformer, optimizer: &Optimizer) -> Gradients {
    match optimizer.masters() {
        Some(masters) => masters.clone(),
        None => Gradients::masters(policy).unwrap(),
    }
}

/// Trains four steps at once and two by two with everything written out between; all bits are the same.
fn check(start: &Transformer, device: &Device) {
    let config = OptimizerConfig { learning_rate: 1e-4, ..OptimizerConfig::default() };
    let fresh = || {
        let policy = start.to_device(device).unwrap();
        let optimizer = Optimizer::for_model(&policy, &config).unwrap();
        (policy, optimizer)
    };
    let (mut policy, mut optimizer) = fresh();
    steps(&mut policy, &mut optimizer, 4);

    let (mut first, mut first_optimizer) = fresh();
    steps(&mut first, &mut first_optimizer, 2);
    let write = |x: &Gradients| x.to_safetensors(start.config()).unwrap();
    let (m, v) = first_optimizer.moments().unwrap();
    let files = [write(&trained(&first, &first_optimizer)), write(&m), write(&v)];
    drop((m, v));
    let [trained_, m, v] =
        files.map(|bytes| Gradients::from_safetensors(start, &bytes, Path::new("x")).unwrap());
    let mut resumed = start.clone();
    match &trained_ {
        Gradients::Full(weights) => *resumed.params_mut() = weights.clone(),
        Gradients::Adapter(adapter) => resumed.attach(adapter.clone()).unwrap(),
    }
    let mut resumed = resumed.to_device(device).unwrap();
    let mut optimizer_ =
        Optimizer::restore_for(&resumed, &config, (&m, &v), &trained_, first_optimizer.steps()).unwrap();
    steps(&mut resumed, &mut optimizer_, 2);

    let all = |policy: &Transformer, optimizer: &Optimizer| -> Vec<Vec<u32>> {
        let kept = trained(policy, optimizer);
        policy.trainable().into_iter().chain(kept.tensors()).map(bits).collect()
    };
    assert_eq!(all(&resumed, &optimizer_), all(&policy, &optimizer));
}

#[test]
fn a_resumed_run_on_a_device_has_the_bits_of_one_that_was_not_stopped() {
    for device in [Device::Cpu, device(), narrow()] {
        check(&model(1), &device);
        check(&adapted(1), &device);
    }
}

#[test]
fn masters_are_kept_of_narrow_weights_alone_and_start_from_them() {
    let config = OptimizerConfig::default();
    let wide = model(1).to_device(&device()).unwrap();
    assert!(Optimizer::for_model(&wide, &config).unwrap().masters().is_none());
    let narrow = model(1).to_device(&narrow()).unwrap();
    let optimizer = Optimizer::for_model(&narrow, &config).unwrap();
    let masters = optimizer.masters().unwrap();
    for (master, weight) in masters.tensors().into_iter().zip(narrow.trainable()) {
        assert_eq!((master.dtype(), weight.dtype()), (DType::F32, DType::Bf16));
        assert_eq!(bits(master), bits(weight));
    }
}
